"""Pictures that end engines are found out, however hasty who sends them; innocent ones are never condemned."""

from __future__ import annotations

import asyncio
import signal

import pytest
from scheduler_lab import Lab, lab

from scripted_engine import ScriptedEngine
from steadyocr.errors import DeadlineExceeded, EngineDied, ModelError, Quarantined, SteadyOCRError
from steadyocr.scheduling.engine import EngineState
from steadyocr.scheduling.items import WorkItem
from steadyocr.scheduling.suspicion import Suspicion
from steadyocr.types import OcrOptions
from support import without_waiting


def picture(data: bytes) -> WorkItem:
    return WorkItem(data, OcrOptions(), 1e9)


@without_waiting
async def test_suspicion_is_bounded_and_passes() -> None:
    suspicion = Suspicion(max_entries=2, keep_s=100.0)
    assert suspicion.blame(picture(b"a"), 0.0) == 1
    assert suspicion.blame(picture(b"b"), 1.0) == 1
    assert suspicion.blame(picture(b"a"), 2.0) == 2
    assert suspicion.blame(picture(b"c"), 3.0) == 1
    held = {data: suspicion.holds(picture(data), 4.0) for data in (b"a", b"b", b"c", b"d", b"longer")}
    assert held == {b"a": True, b"b": False, b"c": True, b"d": False, b"longer": False}
    assert not suspicion.holds(picture(b"a"), 102.0)
    suspicion.clear(picture(b"c"))
    assert len(suspicion) == 0


async def hasty_upload(made: Lab, order: str, allowed_s: float = 1.0) -> str:
    try:
        return await made.read(order, allowed_s)
    except SteadyOCRError as error:
        return error.code


def listed(made: Lab, order: str) -> bool:
    """Whether a picture is refused, as the entrance of the service would."""
    try:
        made.scheduler.quarantine.check(made.item(order).digest)
    except Quarantined:
        return True
    return False


@without_waiting
async def test_a_picture_that_hangs_is_condemned_though_no_client_waits_for_the_verdict() -> None:
    async with lab(heartbeat_s=20.0, kill_grace_s=5.0) as made:
        for _ in range(5):
            if not listed(made, "hang"):
                assert await hasty_upload(made, "hang") == "deadline_exceeded"
            await asyncio.sleep(60)
        assert sum(b"hang" in engine.seen for engine in made.engines) == 2
        assert [entry["cause"] for entry in made.scheduler.quarantine.entries()] == ["hang"]
        assert await made.read("next") == "next"


@without_waiting
async def test_a_picture_that_crashes_is_condemned_though_its_client_leaves_at_once() -> None:
    async with lab() as made:
        for _ in range(3):
            assert await hasty_upload(made, "die", allowed_s=0.2) == "deadline_exceeded"
            await asyncio.sleep(10)
            if listed(made, "die"):
                break
        assert sum(b"die" in engine.seen for engine in made.engines) == 2
        assert [entry["deaths"] for entry in made.scheduler.quarantine.entries()] == [2]


@without_waiting
async def test_copies_of_a_condemned_picture_that_wait_are_refused_as_well() -> None:
    async with lab() as made:
        copies = made.reading("die", "die", "die", "die", "innocent")
        outcomes = await asyncio.gather(*copies, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes[:4]] == [Quarantined] * 4
        assert outcomes[4] == "innocent"
        assert sum(b"die" in engine.seen for engine in made.engines) == 2


@without_waiting
async def test_a_slow_picture_is_never_condemned_by_hasty_clients() -> None:
    async with lab(heartbeat_s=20.0, kill_grace_s=5.0) as made:
        for _ in range(5):
            assert await hasty_upload(made, "take 15") == "deadline_exceeded"
            await asyncio.sleep(60)
        assert len(made.scheduler.quarantine) == 0
        assert await made.read("take 15") == "take 15"
        assert len(made.scheduler.aftermath.suspicion) == 0, "cleared: an engine got through with it"


@without_waiting
async def test_a_picture_with_signs_of_life_is_not_even_suspect() -> None:
    async with lab(kill_grace_s=5.0) as made:
        assert await hasty_upload(made, "work 30") == "deadline_exceeded"
        await asyncio.sleep(60)
        assert made.scheduler.slots[0].restarts == 1
        assert len(made.scheduler.aftermath.suspicion) == 0


@without_waiting
async def test_a_suspect_that_shows_signs_of_life_gets_one_more_grace_and_not_more() -> None:
    async with lab(heartbeat_s=20.0, kill_grace_s=5.0) as made:
        assert await hasty_upload(made, "take 15") == "deadline_exceeded"
        await asyncio.sleep(60)
        suspect = made.item("take 15", 1.0)
        made.scheduler.aftermath.before_work(suspect)
        assert suspect.suspect
        lively = made.item("work 50", 1.0)
        lively.suspect = True
        with pytest.raises(DeadlineExceeded):
            await made.scheduler.submit(lively)
        began = asyncio.get_running_loop().time()
        assert await made.read("next") == "next"
        assert asyncio.get_running_loop().time() - began < 15
        assert len(made.scheduler.quarantine) == 0


@without_waiting
async def test_an_engine_that_gives_any_answer_clears_a_suspect() -> None:
    async with lab() as made:
        assert await made.read("die once") == "die once"
        assert len(made.scheduler.aftermath.suspicion) == 0


@without_waiting
async def test_what_kills_engines_at_full_size_again_costs_no_more_of_them() -> None:
    async with lab() as made:
        for _ in range(5):
            assert await made.read("die large") == "die large"
        assert made.scheduler.slots[0].restarts == 2
        assert len(made.scheduler.quarantine) == 0


@without_waiting
async def test_kills_from_outside_cast_no_suspicion() -> None:
    async with lab() as made:
        unlucky = asyncio.create_task(made.read("take 5"))
        await made.kill_in_mid_work()
        assert await unlucky == "take 5"
        assert len(made.scheduler.aftermath.suspicion) == 0


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steadyocr.scheduling.ending.is_stopped", lambda _: True)


@without_waiting
async def test_an_engine_that_somebody_stops_blames_nobody(stopped: None) -> None:
    async with lab(heartbeat_s=5.0) as made:
        with pytest.raises(EngineDied):
            await made.read("hang")
        assert await hasty_upload(made, "hang") == "deadline_exceeded"
        await asyncio.sleep(30)
        assert len(made.scheduler.quarantine) == len(made.scheduler.aftermath.suspicion) == 0
        assert made.scheduler.slots[0].last_death == "outside (signal SIGKILL)"


@pytest.mark.parametrize("kind", ["golden", "calibrate", "postprocess"])
@without_waiting
async def test_work_without_a_picture_is_given_up_and_not_called_quarantined(kind: str) -> None:
    async with lab() as made:
        item = made.item("die")
        item.kind = kind  # type: ignore[assignment]
        with pytest.raises(EngineDied, match="given up"):
            await made.scheduler.submit(item)
        assert len(made.scheduler.quarantine) == len(made.scheduler.aftermath.suspicion) == 0


@without_waiting
async def test_who_leaves_while_a_picture_waits_for_memory_is_not_worked_for() -> None:
    async with lab(engines=2) as made:
        await asyncio.sleep(2)
        first = asyncio.create_task(made.read("take 10"))
        await asyncio.sleep(1)
        suspect = made.item("alone")
        suspect.suspect = True
        waiting = asyncio.create_task(made.scheduler.submit(suspect))
        behind = asyncio.create_task(made.read("behind"))
        await asyncio.sleep(1)
        assert made.scheduler.governor.waiting == 1
        waiting.cancel()
        assert await behind == "behind"
        assert not first.done(), "who was behind need not wait any longer"
        await first
        assert not any(b"alone" in engine.seen for engine in made.engines)


@without_waiting
async def test_an_engine_that_ends_while_its_picture_waits_for_memory_is_replaced_at_once_and_blames_nobody() -> None:
    async with lab(engines=2) as made:
        long = asyncio.create_task(made.read("work 30"))
        await asyncio.sleep(0.1)
        other = next(slot for slot in made.scheduler.slots if slot.item is None)
        suspect = made.item("picture")
        suspect.suspect = True
        waiting = asyncio.create_task(made.scheduler.submit(suspect))
        await asyncio.sleep(5)
        assert made.scheduler.governor.waiting == 1
        assert isinstance(other.engine, ScriptedEngine)
        other.engine.die()
        await asyncio.sleep(3)
        assert other.ready, "not only when its turn comes"
        assert not long.done()
        assert (await waiting).message["echo"] == "picture"
        assert await long == "work 30"
        assert not list(made.scheduler.quarantine.entries())


@without_waiting
async def test_a_ghost_is_not_worked_for_though_memory_came_in_the_same_moment() -> None:
    async with lab() as made:
        item = made.item("ghost")
        ran = False

        async def run() -> int:
            nonlocal ran
            ran = True
            return 0

        item.outcome.cancel()
        await made.scheduler.work(item, run, asyncio.get_running_loop().create_future())
        assert not ran
        assert made.scheduler.completed == 0


@without_waiting
async def test_an_idle_engine_that_hangs_is_replaced_within_two_heartbeats() -> None:
    async with lab(heartbeat_s=5.0) as made:
        await asyncio.sleep(2.0)
        hung_at = asyncio.get_running_loop().time()
        made.engines[0].deaf = True
        while made.engines[0].exit_code is None:  # noqa: ASYNC110 - the clock is a fake
            await asyncio.sleep(0.1)
        assert asyncio.get_running_loop().time() - hung_at <= 5.2
        while not made.scheduler.slots[0].ready:  # noqa: ASYNC110 - the clock is a fake
            await asyncio.sleep(0.1)
        assert asyncio.get_running_loop().time() - hung_at <= 10.0


class Faulty(ScriptedEngine):
    """``fault`` makes our own code fail while the engine has it in hand."""

    def _answer(self, item: WorkItem, order: str) -> None:
        if order == "fault":
            raise RuntimeError("a fault of ours")
        super()._answer(item, order)


@without_waiting
async def test_a_fault_of_ours_ends_an_engines_life_and_not_its_place() -> None:
    async with lab(Faulty) as made:
        faulty, following = made.reading("fault", "next")
        with pytest.raises(SteadyOCRError) as raised:
            await faulty
        assert raised.value.code == "internal"
        assert await following == "next"
        assert made.loops.dead == {}
        slot = made.scheduler.slots[0]
        assert (slot.restarts, slot.last_death) == (1, "an unexpected fault: RuntimeError")
        assert made.engines[0].state is EngineState.DEAD
        assert len(made.scheduler.quarantine) == 0


@without_waiting
async def test_a_real_time_signal_is_a_death_like_any_other() -> None:
    async with lab() as made:
        (unlucky,) = made.reading("take 5")
        await asyncio.sleep(1)
        made.engines[0].die(-signal.SIGRTMIN - 6)
        assert await unlucky == "take 5"
        assert made.loops.dead == {}


class OnADyingCard(ScriptedEngine):
    """The first two come up; after them none does."""

    async def start(self, timeout_s: float) -> None:
        if self.number > 2:
            raise ModelError("the models misread the golden picture")
        await super().start(timeout_s)


@without_waiting
async def test_a_card_that_dies_under_all_engines_condemns_no_picture() -> None:
    async with lab(OnADyingCard, engines=2) as made:
        await asyncio.sleep(2)
        assert await hasty_upload(made, "unsound", 60.0) == "deadline_exceeded"
        assert [engine.seen for engine in made.engines[:2]] == [[b"unsound"], [b"unsound"]]
        assert len(made.scheduler.quarantine) == 0


@without_waiting
async def test_what_makes_a_proven_engine_unsound_again_is_condemned() -> None:
    async with lab(engines=2) as made:
        await asyncio.sleep(2)
        assert await hasty_upload(made, "unsound", 60.0) == "quarantined"
        assert sum(b"unsound" in engine.seen for engine in made.engines) == 3, "that of the two at first is no proof"
        assert await made.read("good") == "good"
