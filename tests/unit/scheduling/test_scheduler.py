from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from scheduler_lab import Lab, lab

from scripted_engine import BASE_BYTES, ENGINE, SERVICE_S, ScriptedEngine
from steadyocr.errors import (
    Cancelled,
    DeadlineExceeded,
    Draining,
    EngineDied,
    InternalError,
    MemoryPressure,
    ModelCorrupt,
    NotReady,
    Quarantined,
    QueueFull,
    RateLimited,
    SteadyOCRError,
    UndecodableImage,
)
from steadyocr.imaging.header import ImageHeader
from steadyocr.scheduling.engine import EngineProcess
from steadyocr.scheduling.items import WorkItem
from steadyocr.scheduling.pressure import MemorySignals, PressureLevel
from steadyocr.scheduling.scheduler import Scheduler, SchedulerConfig
from steadyocr.scheduling.slot import SlotConfig
from steadyocr.telemetry.loops import Loops
from steadyocr.types import SideCap
from support import without_waiting


@without_waiting
async def test_an_answer_comes_back_to_who_asked() -> None:
    async with lab(engines=2) as made:
        orders = [f"picture {index}" for index in range(20)]
        assert await asyncio.gather(*made.reading(*orders)) == orders
        assert made.scheduler.completed == 20
        assert len(made.engines) == 2


@without_waiting
async def test_an_engines_typed_error_reaches_the_caller_and_spares_the_engine() -> None:
    async with lab() as made:
        with pytest.raises(UndecodableImage):
            await made.read("bad")
        assert await made.read("next") == "next"
        assert len(made.engines) == 1


@without_waiting
async def test_what_cannot_be_read_says_nothing_of_how_long_a_picture_takes() -> None:
    async with lab() as made:
        await made.read("work 4")
        before = made.scheduler.queue.expected_wait_s()
        for _ in range(20):
            with pytest.raises(UndecodableImage):
                await made.read("bad")
        assert before >= 4
        assert made.scheduler.queue.expected_wait_s() == before


@without_waiting
async def test_an_item_whose_engine_dies_is_tried_once_more_elsewhere() -> None:
    async with lab() as made:
        assert await made.read("die once") == "die once"
        assert [engine.seen for engine in made.engines] == [[b"die once"], [b"die once"]]
        assert made.scheduler.slots[0].restarts == 1


@without_waiting
async def test_a_retried_item_goes_before_those_who_wait() -> None:
    async with lab() as made:
        await asyncio.gather(*made.reading("die once", "a", "b"))
        assert made.engines[1].seen == [b"die once", b"a", b"b"]


@without_waiting
async def test_two_deaths_condemn_a_picture_and_the_neighbours_are_served() -> None:
    async with lab() as made:
        poison, *neighbours = made.reading("die", "a", "b")
        with pytest.raises(Quarantined, match="ended 2 engines"):
            await poison
        assert [entry["cause"] for entry in made.scheduler.quarantine.entries()] == ["crash"]
        assert await asyncio.gather(*neighbours) == ["a", "b"]
        assert [b"die" in engine.seen for engine in made.engines] == [True, True, False]


@without_waiting
async def test_an_engine_that_dies_after_its_answer_costs_nothing() -> None:
    async with lab() as made:
        assert await asyncio.gather(*made.reading("die after", "next")) == ["die after", "next"]
        assert [engine.seen for engine in made.engines] == [[b"die after"], [b"next"]]


@without_waiting
async def test_an_engine_that_dies_while_idle_is_replaced_and_the_next_item_served() -> None:
    async with lab() as made:
        # Nobody asks anything for an hour, readiness included.
        await asyncio.sleep(3600)
        made.engines[0].die()
        await asyncio.sleep(0.1)
        assert await made.read("next") == "next"
        assert made.engines[1].seen == [b"next"]


@without_waiting
async def test_a_hanging_engine_is_killed_at_the_item_limit_and_the_item_tried_once_more() -> None:
    async with lab(item_limit_s=20.0) as made:
        started = asyncio.get_running_loop().time()
        hanging, waiting = made.reading("hang", "next")
        with pytest.raises(Quarantined, match="hang"):
            await hanging
        # Twice the limit, and one second for a new engine to start.
        assert asyncio.get_running_loop().time() - started == pytest.approx(41, abs=0.2)
        assert await waiting == "next"
        assert [engine.killed for engine in made.engines[:2]] == [True, True]
        assert [engine.seen for engine in made.engines[:2]] == [[b"hang"], [b"hang"]]


@without_waiting
async def test_a_silent_engine_is_killed_at_the_heartbeat_and_a_slow_one_is_not() -> None:
    async with lab(item_limit_s=100.0, heartbeat_s=5.0) as made:
        assert await made.read("work 30") == "work 30"
        started = asyncio.get_running_loop().time()
        with pytest.raises(Quarantined):
            await made.read("take 30")
        assert asyncio.get_running_loop().time() - started < 12


@without_waiting
async def test_an_idle_engine_that_does_not_answer_is_replaced() -> None:
    async with lab(heartbeat_s=5.0) as made:
        made.engines[0].deaf = True
        await asyncio.sleep(11.5)
        assert made.engines[0].killed
        assert await made.read("next") == "next"
        assert made.engines[1].seen == [b"next"]


@without_waiting
async def test_kills_from_outside_never_condemn_a_picture() -> None:
    async with lab() as made:
        unlucky = asyncio.create_task(made.read("take 5"))
        for _ in range(4):
            await made.kill_in_mid_work()
        assert await unlucky == "take 5"
        assert len(made.scheduler.quarantine) == 0


@without_waiting
async def test_kills_from_outside_without_end_are_a_retryable_error() -> None:
    async with lab() as made:
        unlucky = asyncio.create_task(made.read("take 9"))
        for _ in range(5):
            await made.kill_in_mid_work()
        with pytest.raises(EngineDied) as raised:
            await unlucky
        assert raised.value.retryable
        assert len(made.scheduler.quarantine) == 0


@without_waiting
async def test_a_suspect_is_retried_alone_and_one_step_smaller() -> None:
    async with lab(engines=2) as made:
        item = made.item("die once")
        item.header = ImageHeader("jpeg", 4000, 3000, 1, 1, 8, 3)
        reply = await made.scheduler.submit(item)
        assert reply.message["cap"] == SideCap(960, ("side_960",), "engine_died")
        assert item.suspect


@pytest.mark.parametrize("order", ["grow", "exhaust"])
@without_waiting
async def test_a_bad_engine_is_replaced_by_a_warm_one_and_nobody_waits(order: str) -> None:
    async with lab(budget_bytes=8 << 30) as made:
        await made.read(order)
        for _ in range(6):
            started = asyncio.get_running_loop().time()
            await made.read("next")
            assert asyncio.get_running_loop().time() - started < SERVICE_S + 0.01
        assert len(made.engines) == 2
        assert made.engines[0].exit_code is not None
        assert b"next" in made.engines[1].seen
        slot = made.scheduler.slots[0]
        assert (slot.retirements, slot.restarts) == (1, 0)


@without_waiting
async def test_an_old_engine_is_replaced_while_idle() -> None:
    async with lab(retire_items=3, budget_bytes=8 << 30) as made:
        for _ in range(3):
            await made.read("a")
        await asyncio.sleep(3)
        assert made.scheduler.slots[0].retirements == 1
        await made.read("b")
        assert made.engines[1].seen == [b"b"]


class Hoarder(ScriptedEngine):
    """Keeps scratch memory whenever it may."""

    async def run(self, item: WorkItem, on_frame: Callable[[], None] = lambda: None) -> None:
        await super().run(item, on_frame)
        self.untidy = item.course.keep_scratch
        self.rss_bytes = BASE_BYTES + (item.course.keep_scratch << 30)


@without_waiting
async def test_scratch_memory_may_stay_while_more_work_waits_and_counts_as_no_growth() -> None:
    async with lab(Hoarder, budget_bytes=8 << 30) as made:
        items = [made.item(order) for order in "abc"]
        await asyncio.gather(*(made.scheduler.submit(item) for item in items))
        assert [item.course.keep_scratch for item in items] == [True, True, False]
        assert [item.course.untidy_before for item in items] == [False, True, True]
        assert made.scheduler.governor.engine_base_bytes == BASE_BYTES
        assert len(made.engines) == 1


@pytest.mark.parametrize(("budget", "used"), [(1 << 30, 0.1), (8 << 30, 0.85)])
@without_waiting
async def test_where_memory_is_short_scratch_memory_is_given_back_every_time(budget: int, used: float) -> None:
    async with lab(Hoarder, budget_bytes=budget) as made:
        made.signals = MemorySignals(used)
        await asyncio.sleep(2)
        items = [made.item(order) for order in "abc"]
        await asyncio.gather(*(made.scheduler.submit(item) for item in items))
        assert not any(item.course.keep_scratch for item in items)


@without_waiting
async def test_a_peak_on_top_of_what_was_kept_is_compared_with_no_prediction() -> None:
    async with lab(Hoarder, budget_bytes=8 << 30) as made:
        items = [made.item(order) for order in "abc"]
        for item in items:
            item.header = ImageHeader("jpeg", 400, 300, 1, 1, 8, 3)
        made.engines[0].peak_rss_bytes = BASE_BYTES
        await asyncio.gather(*(made.scheduler.submit(item) for item in items))
        assert made.scheduler.contract.book.items == 1


@without_waiting
async def test_pressure_makes_pictures_smaller_and_then_sheds() -> None:
    async with lab() as made:
        made.signals = MemorySignals(0.85)
        await asyncio.sleep(2)
        item = made.item("a")
        item.header = ImageHeader("jpeg", 4000, 3000, 1, 1, 8, 3)
        assert (await made.scheduler.submit(item)).message["cap"] == SideCap(960, ("side_960",))
        made.signals = MemorySignals(0.97)
        await asyncio.sleep(2)
        with pytest.raises(MemoryPressure) as raised:
            await made.read("b")
        assert raised.value.retry_after_s
        made.signals = MemorySignals(0.1)
        await asyncio.sleep(60)
        assert await made.read("c") == "c"


@without_waiting
async def test_what_the_service_itself_holds_counts_against_a_budget_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("steadyocr.scheduling.scheduler.read_signals", lambda: MemorySignals(0.1))
    monkeypatch.setattr("steadyocr.scheduling.scheduler.rss_bytes", lambda pid=None: 880 << 20)
    config = SchedulerConfig(slot=SlotConfig(engine=ENGINE), budget_bytes=1 << 30)
    loops = Loops()
    scheduler = Scheduler(config, loops, lambda _: ScriptedEngine(1))
    await scheduler.start()
    assert scheduler.ladder.level is PressureLevel.SMALLER
    await loops.stop()
    await scheduler.stop()


@without_waiting
async def test_a_picture_that_can_never_fit_is_refused_with_the_figures() -> None:
    async with lab(budget_bytes=880 << 20) as made:
        item = made.item("huge")
        item.header = ImageHeader("png", 9000, 7000, 1, 1, 8, 3)
        with pytest.raises(MemoryPressure) as raised:
            await made.scheduler.submit(item)
        details: dict[str, Any] = raised.value.details
        assert details["needed_bytes"] > details["available_bytes"]
        assert made.engines[0].seen == []


@without_waiting
async def test_clients_take_turns() -> None:
    async with lab() as made:
        blocker = asyncio.create_task(made.read("take 5"))
        await asyncio.sleep(1)

        def submit(order: str, client: str) -> asyncio.Task[Any]:
            item = made.item(order)
            item.client = client
            return asyncio.create_task(made.scheduler.submit(item))

        tasks = [submit(f"greedy {index}", "greedy") for index in range(5)]
        await asyncio.sleep(0)
        tasks.append(submit("modest", "modest"))
        await asyncio.gather(blocker, *tasks)
        assert made.engines[0].seen[2] == b"modest"


@without_waiting
async def test_one_client_may_not_fill_the_queue() -> None:
    async with lab(max_per_client=2) as made:
        (in_hand,) = made.reading("take 5")
        await asyncio.sleep(0.1)
        waiting = made.reading("a", "b")
        await asyncio.sleep(0.1)
        with pytest.raises(RateLimited) as raised:
            await made.read("c")
        assert raised.value.retry_after_s
        other = made.item("d")
        other.client = "somebody else"
        await asyncio.gather(in_hand, *waiting, made.scheduler.submit(other))


@without_waiting
async def test_what_would_expire_in_the_queue_is_refused_at_once() -> None:
    async with lab() as made:
        for _ in range(30):
            await made.read("take 4")
        waiting = made.reading(*["take 4"] * 6)
        await asyncio.sleep(0.1)
        with pytest.raises(QueueFull):
            await made.read("hasty", allowed_s=10)
        await asyncio.gather(*waiting)


@without_waiting
async def test_a_hasty_client_is_answered_in_time_and_kills_no_engine() -> None:
    async with lab(kill_grace_s=5.0) as made:
        started = asyncio.get_running_loop().time()
        with pytest.raises(DeadlineExceeded):
            await made.read("take 3", allowed_s=1.0)
        assert asyncio.get_running_loop().time() - started == pytest.approx(1, abs=0.01)
        assert await made.read("next") == "next"
        assert made.engines[0].seen == [b"take 3", b"next"]


@without_waiting
async def test_work_that_nobody_waits_for_is_killed_after_the_grace() -> None:
    async with lab(kill_grace_s=5.0) as made:
        with pytest.raises(DeadlineExceeded):
            await made.read("take 30", allowed_s=1.0)
        started = asyncio.get_running_loop().time()
        assert await made.read("next") == "next"
        assert asyncio.get_running_loop().time() - started < 8
        assert made.engines[1].seen == [b"next"]


@without_waiting
async def test_what_expires_in_the_queue_never_reaches_an_engine() -> None:
    async with lab() as made:
        first = asyncio.create_task(made.read("take 10"))
        await asyncio.sleep(0)
        with pytest.raises(DeadlineExceeded):
            await made.read("too late", allowed_s=2.0)
        await first
        await made.read("next")
        assert made.engines[0].seen == [b"take 10", b"next"]


@without_waiting
async def test_what_is_cancelled_in_the_queue_never_reaches_an_engine() -> None:
    async with lab() as made:
        first, gone, last = made.reading("take 10", "gone", "last")
        await asyncio.sleep(1)
        gone.cancel()
        await asyncio.gather(first, last)
        assert gone.cancelled()
        assert made.engines[0].seen == [b"take 10", b"last"]


@without_waiting
async def test_an_item_whose_client_has_gone_is_not_tried_again() -> None:
    async with lab() as made:
        (gone,) = made.reading("die once")
        await asyncio.sleep(SERVICE_S / 2)
        gone.cancel()
        assert await made.read("next") == "next"
        assert made.engines[1].seen == [b"next"]


@without_waiting
async def test_one_hanging_engine_does_not_hold_the_other_up() -> None:
    async with lab(engines=2) as made:
        hanging, *others = made.reading("hang", *"abcdef")
        assert await asyncio.gather(*others) == list("abcdef")
        assert not hanging.done()
        hanging.cancel()


@without_waiting
async def test_a_full_queue_refuses_with_advice() -> None:
    async with lab(queue_size=2) as made:
        (in_hand,) = made.reading("take 10")
        await asyncio.sleep(0.1)
        queued = made.reading("a", "b")
        await asyncio.sleep(0.1)
        with pytest.raises(QueueFull) as raised:
            await made.read("c")
        assert raised.value.retry_after_s is not None
        with pytest.raises(QueueFull):
            made.scheduler.refuse_early()
        assert await asyncio.gather(in_hand, *queued) == ["take 10", "a", "b"]


@without_waiting
async def test_nothing_is_taken_before_the_first_engine_is_ready() -> None:
    made = Lab()
    with pytest.raises(NotReady):
        await made.read("early")
    starting = asyncio.create_task(made.scheduler.start())
    await asyncio.sleep(0.5)
    assert not made.takes_work()
    with pytest.raises(NotReady):
        await made.read("early")
    await starting
    assert made.takes_work()
    await made.stop()


@without_waiting
async def test_draining_finishes_what_was_accepted_and_refuses_the_rest() -> None:
    async with lab() as made:
        accepted = made.reading("take 3", "a", "b")
        await asyncio.sleep(0.1)
        draining = asyncio.create_task(made.scheduler.drain(60))
        await asyncio.sleep(0.1)
        assert not made.takes_work()
        with pytest.raises(Draining):
            await made.read("too late")
        assert await draining
        assert [task.result() for task in accepted] == ["take 3", "a", "b"]


@without_waiting
async def test_draining_is_bounded() -> None:
    async with lab() as made:
        (hanging,) = made.reading("hang")
        await asyncio.sleep(0.1)
        started = asyncio.get_running_loop().time()
        assert not await made.scheduler.drain(7)
        assert asyncio.get_running_loop().time() - started == pytest.approx(7, abs=0.1)
        hanging.cancel()


@without_waiting
async def test_stopping_settles_everything_at_once() -> None:
    made = Lab(engines=2)
    await made.scheduler.start()
    tasks = made.reading("hang", "hang", "queued", "queued too")
    await asyncio.sleep(1)
    started = asyncio.get_running_loop().time()
    await made.stop()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Cancelled] * 4
    assert asyncio.get_running_loop().time() - started < 1


class StartFails(ScriptedEngine):
    """Cannot be started."""

    error: SteadyOCRError = EngineDied("ended while starting")

    async def start(self, timeout_s: float) -> None:
        await asyncio.sleep(1)
        raise self.error


class ModelIsWrong(StartFails):
    error = ModelCorrupt("wrong hash")


def starts_from(number_of_first_good: int) -> Callable[[int], EngineProcess]:
    return lambda number: ScriptedEngine(number) if number >= number_of_first_good else StartFails(number)


@without_waiting
async def test_a_wrong_model_is_not_tried_again() -> None:
    made = Lab(ModelIsWrong)
    with pytest.raises(ModelCorrupt):
        await made.scheduler.start()
    await made.stop()
    assert len(made.engines) <= 2, "one, and at most the next already begun"


@without_waiting
async def test_a_first_engine_that_dies_gets_some_more_tries() -> None:
    async with lab(starts_from(3), first_starts=3) as made:
        assert await made.read("a") == "a"
        assert made.engines[2].seen == [b"a"]


@without_waiting
async def test_when_all_tries_fail_starting_fails() -> None:
    made = Lab(StartFails, first_starts=3)
    with pytest.raises(EngineDied):
        await made.scheduler.start()
    assert len(made.engines) == 3
    await made.stop()


@without_waiting
async def test_an_engine_that_keeps_dying_is_restarted_ever_more_slowly_and_not_ready() -> None:
    def first_good_then_none(number: int) -> EngineProcess:
        return ScriptedEngine(number) if number == 1 else StartFails(number)

    async with lab(first_good_then_none) as made:
        made.engines[0].die()
        await asyncio.sleep(0.1)
        assert made.takes_work(), "a replacement is on its way"
        await asyncio.sleep(600)
        assert not made.takes_work()
        with pytest.raises(NotReady) as raised:
            await made.read("a")
        assert raised.value.retry_after_s is not None
        assert 10 < len(made.engines) < 40
        assert made.loops.dead == {}


@without_waiting
async def test_after_good_service_a_death_is_followed_by_an_immediate_restart() -> None:
    async with lab(starts_from(6), first_starts=9) as made:
        for _ in range(3):
            await made.read("a")
            made.engines[-1].die()
            await asyncio.sleep(0)
            started = asyncio.get_running_loop().time()
            await made.read("b")
            assert asyncio.get_running_loop().time() - started < 1.5 + SERVICE_S


@without_waiting
async def test_a_slot_whose_loop_fails_is_seen() -> None:
    def breaks_down(number: int) -> EngineProcess:
        if number > 1:
            raise RuntimeError("a fault of ours")
        return ScriptedEngine(number)

    async with lab(breaks_down) as made:
        made.engines[0].die()
        await asyncio.sleep(1)
        assert list(made.loops.dead) == ["engine-slot-0"]


@pytest.mark.parametrize("seed", range(10))
@without_waiting
async def test_every_item_has_exactly_one_outcome_whatever_dies(seed: int) -> None:
    chance = random.Random(seed)
    orders = ["ok", "die", "die once", "die after", "bad", "hang", "take 2", "take 40"]
    submitted = [f"{chance.choice(orders)}" for _ in range(200)]
    async with lab(engines=3, queue_size=30, item_limit_s=10.0) as made:

        async def assassin() -> None:
            while True:
                await asyncio.sleep(chance.expovariate(0.3))
                chance.choice(made.engines).die(-signal.SIGKILL)

        async def client(order: str) -> str:
            await asyncio.sleep(chance.uniform(0, 200))
            try:
                reading = made.read(order, allowed_s=chance.choice([5, 60]))
                if chance.random() < 0.2:
                    async with asyncio.timeout(chance.uniform(0, 3)):
                        await reading
                else:
                    await reading
            except (SteadyOCRError, TimeoutError) as error:
                return type(error).__name__
            return "answered"

        killer = asyncio.create_task(assassin())
        async with asyncio.timeout(2000):
            outcomes = await asyncio.gather(*(client(order) for order in submitted))
        killer.cancel()
        assert len(outcomes) == len(submitted)
        assert Counter(outcomes)["answered"] > 20
        assert set(outcomes) <= {
            "answered", "TimeoutError", "UndecodableImage", "EngineDied", "DeadlineExceeded", "QueueFull", "NotReady",
            "Quarantined"
        }  # fmt: skip
        assert made.loops.dead == {}
        assert await made.scheduler.drain(100)
        assert len(made.scheduler.queue) == 0, "no item stays whose client has gone"


@without_waiting
async def test_an_engine_killed_from_outside_again_and_again_is_replaced_at_once() -> None:
    async with lab() as made:
        for _ in range(6):
            await asyncio.sleep(1.5)
            made.engines[-1].die(-signal.SIGKILL)
            # A start takes a second here; a back-off would come on top.
            await asyncio.sleep(1.1)
            assert made.scheduler.slots[0].ready
        made.engines[-1].die(-signal.SIGSEGV)
        await asyncio.sleep(1.1)
        assert not made.scheduler.slots[0].ready, "a crash is another matter"


@without_waiting
async def test_clients_in_a_hurry_cost_nobody_a_back_off() -> None:
    async with lab() as made:

        def up() -> bool:
            return made.scheduler.slots[0].ready

        for round_number in range(8):
            with pytest.raises(DeadlineExceeded):
                await made.read(f"work {60 + round_number}", allowed_s=1)
            while up():  # noqa: ASYNC110 - the clock is a fake
                await asyncio.sleep(0.1)
            killed_at = asyncio.get_running_loop().time()
            while not up():  # noqa: ASYNC110 - likewise
                await asyncio.sleep(0.1)
            assert asyncio.get_running_loop().time() - killed_at < 1.5


@without_waiting
async def test_what_an_engine_has_no_memory_for_is_retried_one_step_smaller() -> None:
    async with lab(engines=2) as made:
        work = made.item("short once")
        work.header = ImageHeader("png", 2000, 2000, 1, 1, 8, 3)
        reply = await made.scheduler.submit(work)
        assert reply.message["cap"] == SideCap(960, ("side_960",))
        assert not work.suspect
        assert work.attempts == 0
        # Nobody died, and the picture is not counted twice.
        assert [slot.restarts for slot in made.scheduler.slots] == [0, 0]
        assert made.scheduler.completed == 1


@without_waiting
async def test_a_wrong_model_is_not_tried_again_at_once() -> None:
    class WrongModel(ScriptedEngine):
        async def start(self, timeout_s: float) -> None:
            raise ModelCorrupt("wrong hash")

    made = Lab(WrongModel, first_starts=3)
    with pytest.raises(ModelCorrupt):
        await made.scheduler.start()
    assert len(made.engines) == 1
    await made.scheduler.stop()
    await made.loops.stop()


@pytest.fixture
def starved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steadyocr.scheduling.engine.CpuClock.starved", lambda _: True)


@without_waiting
async def test_a_silent_engine_without_a_processor_gets_more_time(starved: None) -> None:
    async with lab(heartbeat_s=10.0, item_limit_s=60.0) as made:
        assert await made.read("take 45") == "take 45"
        assert made.scheduler.slots[0].restarts == 0


@without_waiting
async def test_an_engine_starved_for_too_long_is_replaced_and_nobody_is_blamed(starved: None) -> None:
    async with lab(heartbeat_s=10.0, item_limit_s=30.0) as made:
        with pytest.raises(EngineDied):
            await made.read("hang", allowed_s=1000)
        assert len(made.scheduler.quarantine) == 0
        assert made.scheduler.slots[0].last_death is not None
        assert made.scheduler.slots[0].last_death.startswith("starved")
        assert await made.read("ok") == "ok"


@without_waiting
async def test_a_silent_engine_with_a_processor_hangs() -> None:
    async with lab(heartbeat_s=10.0, item_limit_s=60.0) as made:
        with pytest.raises(Quarantined):
            await made.read("take 45")


@without_waiting
async def test_a_picture_that_gets_on_for_longer_than_any_may_is_given_up_and_not_blamed() -> None:
    async with lab(heartbeat_s=10.0, item_limit_s=60.0) as made:
        for _ in range(3):
            with pytest.raises(DeadlineExceeded):
                await made.read("work 70", allowed_s=300)
        assert len(made.scheduler.quarantine) == len(made.scheduler.aftermath.suspicion) == 0
        assert await made.read("ok") == "ok"


class StarvedForAWhile:
    """In the place of a processor clock: the engine got too little at first, and enough in all."""

    def __init__(self, pid: int | None, *, core_share: float) -> None:
        self._enough_at = asyncio.get_running_loop().time() + 59

    def restart(self) -> None:
        return

    def starved(self) -> bool:
        return asyncio.get_running_loop().time() < self._enough_at


@without_waiting
async def test_time_without_a_processor_is_no_sign_of_life_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steadyocr.scheduling.engine.CpuClock", StarvedForAWhile)
    async with lab(heartbeat_s=10.0, item_limit_s=60.0) as made:
        with pytest.raises(Quarantined, match="hang"):
            await made.read("hang", allowed_s=1000)


@without_waiting
async def test_a_slot_whose_loop_dies_while_starting_ends_the_start() -> None:
    def broken(number: int) -> EngineProcess:
        raise RuntimeError("no such thing")

    made = Lab(broken, engines=2)
    try:
        with pytest.raises(InternalError):
            await made.scheduler.start()
    finally:
        await made.stop()
