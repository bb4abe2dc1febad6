"""What the scheduler tells the event bus: each item once, each death with its facts."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from scripted_engine import BASE_BYTES, ENGINE, SERVICE_S, ScriptedEngine
from steadyocr.errors import EngineDied, MemoryPressure, QueueFull, SteadyOCRError
from steadyocr.imaging.header import ImageHeader
from steadyocr.scheduling.engine import EngineProcess, EngineState
from steadyocr.scheduling.items import Reply, WorkItem
from steadyocr.scheduling.pressure import MemorySignals
from steadyocr.scheduling.scheduler import Scheduler, SchedulerConfig
from steadyocr.scheduling.slot import SlotConfig
from steadyocr.telemetry.events import Event, Events
from steadyocr.telemetry.logging import JsonFormatter
from steadyocr.telemetry.loops import Loops
from steadyocr.types import OcrOptions
from support import without_waiting

PAGE = {
    "lines": [{"text": "secret"}, {"text": "words"}],
    "timings_ms": {"decode": 3.0, "total": 9.0},
    "degraded": {"reason": "memory", "steps": ["side_960"], "effective_scale": 0.5},
}


class Reader(ScriptedEngine):
    """Answers ``page`` with a page, ``no memory`` with a typed refusal; the rest as scripted."""

    def _answer(self, item: WorkItem, order: str) -> None:
        if order == "page":
            item.succeed(Reply({"page": PAGE}))
        if order == "no memory":
            item.fail(MemoryPressure("none left"))
        super()._answer(item, order)
        self.peak_rss_bytes = BASE_BYTES + 50


class Stage:
    """A scheduler over scripted engines, and all that it tells."""

    def __init__(self, **config: Any) -> None:
        self.told: list[Event] = []
        self.signals = MemorySignals(0.1)
        self.engines: list[Reader] = []
        self.loops = Loops()
        self._events = Events()
        self._events.subscribe(self.told.append)
        slot = SlotConfig(engine=ENGINE, item_limit_s=30, heartbeat_s=10)
        made = SchedulerConfig(slot=slot, **{"engines": 1, **config})
        self.scheduler = Scheduler(made, self.loops, self._engine, lambda: self.signals, self._events)

    def _engine(self, _: object) -> EngineProcess:
        self.engines.append(Reader(len(self.engines)))
        return self.engines[-1]

    def item(self, order: str, allowed_s: float = 100.0, **facts: Any) -> WorkItem:
        header = ImageHeader("png", 640, 480, 1, 1, 8, 3)
        deadline = asyncio.get_running_loop().time() + allowed_s
        return WorkItem(order.encode(), OcrOptions(), deadline, header=header, **facts)

    async def read(self, order: str, **facts: Any) -> str:
        """Submit and say how it ended."""
        try:
            await self.scheduler.submit(self.item(order, **facts))
        except SteadyOCRError as error:
            return error.code
        return "ok"

    def of(self, name: str) -> list[dict[str, Any]]:
        return [dict(event.fields) for event in self.told if event.name == name]

    async def settled(self) -> None:
        """Wait until no engine works any more."""
        await asyncio.sleep(200)


@asynccontextmanager
async def staged(**config: Any) -> AsyncIterator[Stage]:
    stage = Stage(**config)
    await stage.scheduler.start()
    try:
        yield stage
    finally:
        await stage.loops.stop()
        await stage.scheduler.stop()


@without_waiting
async def test_a_finished_item_is_told_with_its_figures() -> None:
    async with staged() as stage:
        assert await stage.read("page", request_id="r1") == "ok"
        await stage.settled()
        (told,) = stage.of("item_finished")
    assert told.pop("predicted_bytes") > 0
    assert told.pop("wait_s") < 1
    assert told.pop("service_s") == pytest.approx(SERVICE_S)
    assert told == {
        "kind": "run",
        "ok": True,
        "code": "ok",
        "priority": "interactive",
        "request_id": "r1",
        "attempts": 0,
        "slot": 0,
        "width": 640,
        "height": 480,
        "lines": 2,
        "timings_ms": {"decode": 3.0, "total": 9.0},
        "degraded": ["side_960"],
        "peak_bytes": BASE_BYTES + 50,
        "rss_bytes": BASE_BYTES,
    }


@without_waiting
async def test_the_text_is_never_told() -> None:
    async with staged() as stage:
        await stage.read("page")
        await stage.settled()
    assert "secret" not in repr(stage.told)


@without_waiting
async def test_every_item_is_told_once_however_it_ends() -> None:
    rng = random.Random(7)
    orders = ["page", "bad", "die", "die once", "die after", "hang", "take 3", "no memory", "grow"]
    async with staged(engines=2, queue_size=1000) as stage:
        chosen = [rng.choice(orders) for _ in range(60)]
        allowed = [rng.choice([1.0, 20.0, 5000.0]) for _ in chosen]
        tasks = [
            asyncio.create_task(stage.read(order, allowed_s=time, request_id=f"r{number}"))
            for number, (order, time) in enumerate(zip(chosen, allowed, strict=True))
        ]
        for number in range(0, 60, 7):
            await asyncio.sleep(0.3)
            tasks[number].cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(5000)
        told = {fields["request_id"]: fields["code"] for fields in stage.of("item_finished")}
        counted = Counter(fields["request_id"] for fields in stage.of("item_finished"))
    assert set(counted.values()) == {1}
    for number, outcome in enumerate(outcomes):
        if isinstance(outcome, str) and f"r{number}" in told:
            assert told[f"r{number}"] == outcome
    refused = len(stage.of("item_refused"))
    assert len(told) + refused == 60


@without_waiting
async def test_a_client_that_leaves_and_one_that_waited_too_long_are_told_apart() -> None:
    async with staged() as stage:
        leaving = asyncio.create_task(stage.read("take 5", request_id="left"))
        await asyncio.sleep(1)
        leaving.cancel()
        assert await stage.read("take 50", request_id="late", allowed_s=8) == "deadline_exceeded"
        await stage.settled()
        codes = {fields["request_id"]: fields["code"] for fields in stage.of("item_finished")}
    assert codes == {"left": "cancelled", "late": "deadline_exceeded"}


@without_waiting
async def test_a_crash_is_told_with_the_picture_in_hand() -> None:
    async with staged() as stage:
        assert await stage.read("die once", request_id="r1") == "ok"
        await stage.settled()
        (told,) = stage.of("engine_died")
    item = told.pop("item")
    assert (told["slot"], told["cause"], told["signal"], told["exit_code"]) == (0, "crash", "SIGSEGV", -signal.SIGSEGV)
    assert (item["width"], item["height"], item["kind"], item["request_id"]) == (640, 480, "run", "r1")
    assert (item["running_s"], item["step"], item["cap"]) == (pytest.approx(SERVICE_S), [], None)
    assert item["predicted_bytes"] > 0


@without_waiting
async def test_a_poison_picture_is_told_as_quarantined_with_its_lower_step() -> None:
    async with staged() as stage:
        assert await stage.read("die") == "quarantined"
        await stage.settled()
        first, second = stage.of("engine_died")
        (condemned,) = stage.of("quarantined")
    assert (first["item"]["attempts"], second["item"]["attempts"]) == (1, 2)
    assert (condemned["width"], condemned["height"], condemned["deaths"], condemned["cause"]) == (640, 480, 2, "crash")
    assert len(condemned["sha256"]) == 64


@without_waiting
async def test_an_idle_engine_that_is_killed_is_told_without_a_picture() -> None:
    async with staged() as stage:
        await stage.settled()
        stage.engines[0].die(-signal.SIGKILL)
        await stage.settled()
        (told,) = stage.of("engine_died")
    assert (told["cause"], told["item"], told["signal"]) == ("outside", None, "SIGKILL")


@pytest.mark.parametrize(("known_after_s", "cause", "code"), [(0.5, "outside", -9), (60.0, "exit", None)])
@without_waiting
async def test_who_killed_an_engine_that_tidied_up_is_told_even_if_its_end_is_known_a_moment_later(
    monkeypatch: pytest.MonkeyPatch, known_after_s: float, cause: str, code: int | None
) -> None:
    async def run(item: WorkItem, on_frame: Callable[[], None]) -> None:
        await Reader.run(engine, item, on_frame)
        engine.state = EngineState.DEAD
        asyncio.get_running_loop().call_later(known_after_s, engine.die, -signal.SIGKILL)

    async with staged() as stage:
        engine = stage.engines[0]
        monkeypatch.setattr(engine, "run", run)
        assert await stage.read("page") == "ok"
        await stage.settled()
        (told,) = stage.of("engine_died")
    assert (told["cause"], told["exit_code"]) == (cause, code)


@without_waiting
@pytest.mark.parametrize(("order", "allowed_s", "cause"), [("hang", 300.0, "hang"), ("take 25", 2.0, "overdue")])
async def test_who_ended_an_engine_is_told(order: str, allowed_s: float, cause: str) -> None:
    async with staged() as stage:
        await stage.read(order, allowed_s=allowed_s)
        await stage.settled()
        assert stage.of("engine_died")[0]["cause"] == cause


@without_waiting
async def test_a_kernel_kill_is_a_memory_event(monkeypatch: pytest.MonkeyPatch) -> None:
    kills = [0]
    for module in ("slot", "ending", "reports"):
        monkeypatch.setattr(f"steadyocr.scheduling.{module}.memory_kills", lambda: kills[0])
    async with staged() as stage:
        reading = asyncio.create_task(stage.read("take 5"))
        await asyncio.sleep(1)
        kills[0] += 1
        taken = stage.engines[0].taken_bytes = 5 * BASE_BYTES
        stage.engines[0].die(-signal.SIGKILL)
        await reading
        await stage.settled()
        # The next death has nothing to do with that one.
        stage.engines[-1].die(-signal.SIGKILL)
        await stage.settled()
        first, second = stage.of("engine_died")
        assert (first["cause"], second["cause"]) == ("out_of_memory", "outside")
        assert (first["peak_bytes"], second["peak_bytes"]) == (taken, None)
        assert stage.of("memory_event") == [{"where": "engine", "reason": "killed"}]


@without_waiting
async def test_a_refusal_for_memory_is_one_memory_event() -> None:
    async with staged() as stage:
        assert await stage.read("no memory") == "memory_pressure"
        await stage.settled()
    assert stage.of("memory_event") == [{"where": "engine", "reason": "memory_pressure"}]


@without_waiting
async def test_a_picture_that_fits_at_no_size_is_a_memory_event_of_admission() -> None:
    async with staged(budget_bytes=BASE_BYTES) as stage:
        assert await stage.read("page") == "memory_pressure"
        await stage.settled()
        (told,) = stage.of("item_finished")
    assert stage.of("memory_event") == [{"where": "admission", "reason": "memory_pressure"}]
    assert (told["code"], told["service_s"]) == ("memory_pressure", None)


@without_waiting
async def test_a_full_queue_is_told() -> None:
    async with staged(queue_size=1) as stage:
        running = []
        for _ in range(2):
            running.append(asyncio.create_task(stage.read("take 5")))
            await asyncio.sleep(0.1)
        with pytest.raises(QueueFull):
            stage.scheduler.refuse_early()
        assert stage.of("queue_full")[-1] == {"waiting": 1, "max_size": 1}
        assert stage.of("item_refused")[-1] == {"code": "queue_full"}
        await asyncio.gather(*running)


@without_waiting
async def test_steps_in_an_engines_life_and_on_the_ladder_are_told(caplog: pytest.LogCaptureFixture) -> None:
    async with staged() as stage:
        stage.signals = MemorySignals(0.9)
        await asyncio.sleep(2)
        await stage.read("page")
        await stage.settled()
    steps = [(fields["before"], fields["after"]) for fields in stage.of("engine_state")]
    assert steps[:3] == [("starting", "ready"), ("ready", "busy"), ("busy", "ready")]
    assert stage.of("pressure_changed") == [{"before": "full", "after": "one_at_a_time", "used": 0.9}]
    logged = [json.loads(JsonFormatter().format(each)) for each in caplog.records if "pressure" in each.message]
    assert [(line["level"], line["before"], line["after"]) for line in logged] == [("warning", "FULL", "ONE_AT_A_TIME")]


@without_waiting
async def test_an_engine_that_cannot_be_started_is_told_so() -> None:
    class Stillborn(Reader):
        async def start(self, timeout_s: float) -> None:
            raise EngineDied("never came up")

    stage = Stage(first_starts=1)
    stage.scheduler.slots[0]._new_engine = lambda _: Stillborn(0)
    with pytest.raises(EngineDied):
        await stage.scheduler.start()
    await stage.loops.stop()
    await stage.scheduler.stop()
    assert {fields["cause"] for fields in stage.of("engine_died")} == {"start_failed"}


def test_the_states_of_an_engine_are_told_only_when_they_change() -> None:
    engine, told = EngineProcess(ENGINE), list[tuple[str, str]]()
    engine.on_state = lambda before, after: told.append((before, after))
    engine.state = EngineState.READY
    engine.state = EngineState.READY
    assert told == [("starting", "ready")]
