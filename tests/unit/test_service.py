from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from scripted_engine import ScriptedEngine
from steadyocr.errors import (
    DeadlineExceeded,
    Draining,
    EngineDied,
    InternalError,
    MemoryPressure,
    NotReady,
    TooManyPixels,
    UnsupportedMediaType,
)
from steadyocr.scheduling.engine import EngineProcess
from steadyocr.scheduling.items import Reply, WorkItem
from steadyocr.scheduling.pressure import MemorySignals
from steadyocr.scheduling.scheduler import Scheduler
from steadyocr.service import Service
from steadyocr.settings import load_settings
from steadyocr.types import OcrOptions
from support import FIXTURES, without_waiting

PICTURE = (FIXTURES / "english.png").read_bytes()


class GoldenReader(ScriptedEngine):
    """Answers the golden picture, counts how often; any other picture is answered as it is."""

    golden_runs = 0
    golden_ok = True
    every_picture_fails = False
    golden_ms = 100.0
    golden_takes_s = 0.1
    picture_s = 0.1

    async def start(self, timeout_s: float) -> None:
        await super().start(timeout_s)
        self.ready["golden"] = {"duration_ms": 400.0}

    async def run(self, item: WorkItem, on_frame: Callable[[], None] = lambda: None) -> None:
        if item.kind == "golden":
            type(self).golden_runs += 1
            await asyncio.sleep(self.golden_takes_s)
            problem = "" if self.golden_ok else "a text is not what it should be"
            item.succeed(Reply({"golden": {"ok": self.golden_ok, "problem": problem, "duration_ms": self.golden_ms}}))
            return
        for _ in range(10):
            await asyncio.sleep(self.picture_s / 10)
            on_frame()
        if self.every_picture_fails:
            item.fail(InternalError("a fault of ours"))
        else:
            item.succeed(Reply({"page": {}}))


@pytest.fixture
def golden_reader(monkeypatch: pytest.MonkeyPatch) -> type[GoldenReader]:
    """A fresh kind of engine for each test, used by every service in it."""
    kind = type("FreshGoldenReader", (GoldenReader,), {})
    numbers = iter(range(1000))

    def make(_: object) -> EngineProcess:
        engine: EngineProcess = kind(next(numbers))
        return engine

    monkeypatch.setattr("steadyocr.service.core.Scheduler", functools.partial(Scheduler, engine_factory=make))
    return kind


@asynccontextmanager
async def running(tmp_path: Path, **queue: str) -> AsyncIterator[Service]:
    environ = {
        "STEADYOCR_DATA_DIR": str(tmp_path),
        "STEADYOCR_MEMORY__CALIBRATE": "false",
        **{f"STEADYOCR_{name.upper()}": text for name, text in queue.items()},
    }
    service = Service(load_settings(environ=environ)[0])
    await service.start()
    try:
        yield service
    finally:
        await service.stop()
        await service.stop()


def engine_of(service: Service) -> ScriptedEngine:
    engine = service.scheduler.slots[0].engine
    assert isinstance(engine, ScriptedEngine)
    return engine


@pytest.mark.parametrize(("refused_below", "floor"), [(0, 1 << 30), (20 << 30, 20 << 30)])
def test_the_disk_counts_as_low_before_jobs_are_refused(tmp_path: Path, refused_below: int, floor: int) -> None:
    jobs = {"jobs": {"min_free_bytes": refused_below}}
    service = Service(load_settings(jobs, environ={"STEADYOCR_DATA_DIR": str(tmp_path)})[0])
    assert service.watch.floor_bytes == floor


@without_waiting
async def test_without_traffic_health_rests_on_the_golden_picture(
    tmp_path: Path, golden_reader: type[GoldenReader]
) -> None:
    async with running(tmp_path) as service:
        health = await service.check_health()
        assert (health.ok, health.source) == (True, "golden")


@without_waiting
async def test_fresh_traffic_proves_health_and_stale_traffic_does_not(
    tmp_path: Path, golden_reader: type[GoldenReader]
) -> None:
    async with running(tmp_path) as service:
        await service.read(PICTURE, OcrOptions())
        assert (await service.check_health()).source == "traffic"
        assert golden_reader.golden_runs == 0
        await asyncio.sleep(60)
        assert (await service.check_health()).source == "golden"


@without_waiting
async def test_health_checks_cannot_be_used_to_load_the_service(
    tmp_path: Path, golden_reader: type[GoldenReader]
) -> None:
    async with running(tmp_path) as service:
        await asyncio.gather(*(service.check_health() for _ in range(50)))
        assert golden_reader.golden_runs == 1
        await asyncio.sleep(60)
        golden_reader.golden_takes_s = 12.0
        verdicts = await asyncio.gather(*(service.check_health() for _ in range(50)))
        assert golden_reader.golden_runs == 2, "those who waited for a slow run share it"
        assert len(set(verdicts)) == 1


@without_waiting
async def test_a_misread_golden_picture_is_ill_health(tmp_path: Path, golden_reader: type[GoldenReader]) -> None:
    async with running(tmp_path) as service:
        golden_reader.golden_ok = False
        health = await service.check_health()
        assert (health.ok, health.reason) == (False, "a text is not what it should be")


@without_waiting
async def test_an_engine_that_misreads_the_golden_picture_is_replaced(
    tmp_path: Path, golden_reader: type[GoldenReader]
) -> None:
    async with running(tmp_path) as service:
        wrong = service.scheduler.slots[0].engine
        golden_reader.golden_ok = False
        assert not (await service.check_health()).ok
        golden_reader.golden_ok = True
        await asyncio.sleep(60)
        assert service.scheduler.slots[0].engine is not wrong
        assert (await service.check_health()).ok


@without_waiting
async def test_an_engine_that_is_far_slower_than_at_its_start_twice_in_a_row_is_replaced(
    tmp_path: Path, golden_reader: type[GoldenReader]
) -> None:
    async with running(tmp_path) as service:
        slow = service.scheduler.slots[0].engine
        for ms in (4001.0, 100.0, 4001.0):
            golden_reader.golden_ms = ms
            await service.check_health()
            await asyncio.sleep(60)
        assert service.scheduler.slots[0].engine is slow
        await service.check_health()
        await asyncio.sleep(60)
        assert service.scheduler.slots[0].engine is not slow


@without_waiting
async def test_reading_rightly_but_far_slower_than_at_the_start_is_ill_health(
    tmp_path: Path, golden_reader: type[GoldenReader]
) -> None:
    async with running(tmp_path) as service:
        golden_reader.golden_ms = 3999.0
        assert (await service.check_health()).ok
        await asyncio.sleep(60)
        golden_reader.golden_ms = 4001.0
        health = await service.check_health()
        assert not health.ok
        assert health.reason.endswith("4.0 s is the bound learnt at start")


@without_waiting
async def test_a_golden_run_is_no_proof_by_traffic(tmp_path: Path, golden_reader: type[GoldenReader]) -> None:
    async with running(tmp_path) as service:
        golden_reader.golden_ok = False
        await service.check_health()
        await asyncio.sleep(1)
        assert not (await service.check_health()).ok


@without_waiting
async def test_busy_is_not_dead(tmp_path: Path, golden_reader: type[GoldenReader]) -> None:
    async with running(tmp_path, queue__max_size="1", engines__count="1") as service:
        reading = []
        for _ in range(2):
            reading.append(asyncio.create_task(service.read(PICTURE, OcrOptions())))
            await asyncio.sleep(0.01)
        health = await service.check_health()
        assert (health.ok, health.source) == (True, "busy")
        assert len(await asyncio.gather(*reading)) == 2


async def begin(service: Service, *, timeout_s: float = 250, client: str = "") -> asyncio.Task[Reply]:
    """Have a picture in hand or in the queue, and come back."""
    reading = asyncio.create_task(service.read(PICTURE, OcrOptions(), timeout_s=timeout_s, client=client))
    await asyncio.sleep(0.01)
    return reading


async def give_up(*reading: asyncio.Task[Reply]) -> None:
    for one in reading:
        one.cancel()
    await asyncio.gather(*reading, return_exceptions=True)


@without_waiting
async def test_a_long_picture_ahead_of_the_golden_one_is_no_ill_health(
    tmp_path: Path, golden_reader: type[GoldenReader]
) -> None:
    golden_reader.picture_s = 40.0
    async with running(tmp_path, engines__count="1") as service:
        reading = await begin(service)
        health = await service.check_health()
        assert (health.ok, health.source, golden_reader.golden_runs) == (True, "busy", 0)
        await reading


@without_waiting
async def test_a_client_bound_that_turns_the_golden_picture_away_is_no_ill_health(
    tmp_path: Path, golden_reader: type[GoldenReader]
) -> None:
    golden_reader.picture_s = 5.0
    async with running(tmp_path, engines__count="1", queue__max_per_client="1") as service:
        # A client without a name, as on a local socket: the golden picture has none either.
        reading = [await begin(service) for _ in range(2)]
        health = await service.check_health()
        assert (health.ok, health.source) == (True, "busy")
        await asyncio.gather(*reading)


@pytest.mark.parametrize("max_size", ["1", "64"], ids=["full queue", "long wait"])
def test_work_that_passes_every_limit_is_ill_health(
    tmp_path: Path, golden_reader: type[GoldenReader], monkeypatch: pytest.MonkeyPatch, max_size: str
) -> None:
    async def forever(*_: object) -> None:
        await asyncio.sleep(1e6)

    # The slot does not watch its engine, so nobody ends what will never end.
    monkeypatch.setattr("steadyocr.scheduling.slot.run_patiently", forever)

    @without_waiting
    async def scenario() -> None:
        async with running(tmp_path, engines__count="1", queue__max_size=max_size) as service:
            reading = [await begin(service) for _ in range(2)]
            assert (await service.check_health()).ok, "it may still come"
            await asyncio.sleep(70)
            health = await service.check_health()
            assert (health.ok, health.source) == (False, "busy")
            assert "no engine gets on" in health.reason
            await give_up(*reading)

    scenario()


@without_waiting
async def test_a_golden_picture_that_never_comes_back_is_ill_health(
    tmp_path: Path, golden_reader: type[GoldenReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forever(*_: object) -> None:
        await asyncio.sleep(1e6)

    monkeypatch.setattr("steadyocr.scheduling.slot.run_patiently", forever)
    async with running(tmp_path, engines__count="1") as service:
        health = await service.check_health()
        assert (health.ok, health.source) == (False, "golden")


@without_waiting
async def test_shedding_is_no_ill_health_while_engines_stand_ready(
    tmp_path: Path, golden_reader: type[GoldenReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, engines__count="1") as service:
        monkeypatch.setattr(service.scheduler, "_signals", lambda: MemorySignals(used=0.99))
        await asyncio.sleep(2)
        health = await service.check_health()
        assert (health.ok, health.source) == (True, "pressure")
        with pytest.raises(MemoryPressure):
            service.refuse_early()

        async def no_more(*_: object) -> None:
            raise EngineDied("there is no memory for another one")

        monkeypatch.setattr(golden_reader, "start", no_more)
        engine_of(service).die()
        await asyncio.sleep(60)
        health = await service.check_health()
        assert (health.ok, health.reason) == (False, "no engine is ready")


@without_waiting
async def test_refusing_all_for_minutes_for_its_own_memory_is_unreadiness(
    tmp_path: Path, golden_reader: type[GoldenReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, engines__count="1") as service:

        def feel(used: float, own: float) -> None:
            monkeypatch.setattr(service.scheduler, "_signals", lambda: MemorySignals(used=used, own=own))

        feel(0.99, own=0.85)
        await asyncio.sleep(300)
        assert not service.unready_reason(), "somebody else's hunger"
        feel(0.99, own=0.97)
        await asyncio.sleep(100)
        assert not service.unready_reason(), "engines that have grown are being replaced"
        await asyncio.sleep(30)
        assert "holds nearly all memory" in service.unready_reason()
        health = await service.check_health()
        assert (health.ok, health.source) == (False, "state")
        feel(0.5, own=0.5)
        await asyncio.sleep(15)
        assert not service.unready_reason()
        assert (await service.check_health()).ok
        # What came and went counts for nothing.
        feel(0.99, own=0.97)
        await asyncio.sleep(100)
        assert not service.unready_reason()


@without_waiting
async def test_an_engine_without_memory_in_calm_times_is_ill_health(
    tmp_path: Path, golden_reader: type[GoldenReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_memory(_: object, item: WorkItem, on_frame: Callable[[], None] = lambda: None) -> None:
        item.fail(MemoryPressure("not enough memory"))

    async with running(tmp_path, engines__count="1") as service:
        monkeypatch.setattr(service.scheduler, "_signals", lambda: MemorySignals(used=0.1))
        monkeypatch.setattr(golden_reader, "run", no_memory)
        health = await service.check_health()
        assert (health.ok, health.source) == (False, "golden")


@without_waiting
async def test_that_the_golden_picture_is_read_again_is_told_though_traffic_never_rests(
    tmp_path: Path, golden_reader: type[GoldenReader]
) -> None:
    async with running(tmp_path, engines__count="1") as service:
        told: list[tuple[bool, str]] = []
        service.events.subscribe(
            lambda event: (
                told.append((event.fields["ok"], event.fields["source"])) if event.name == "golden_checked" else None
            )
        )
        golden_reader.golden_ok = False
        await asyncio.sleep(11)
        assert not (await service.check_health()).ok
        golden_reader.golden_ok = True
        for _ in range(20):
            await (await begin(service))
            await service.check_health()
            await asyncio.sleep(4)
        assert told == [(False, "golden"), (True, "traffic")]


@without_waiting
async def test_what_is_said_of_an_accelerator_is_what_its_engines_showed(
    tmp_path: Path, golden_reader: type[GoldenReader]
) -> None:
    async with running(tmp_path / "cpu") as service:
        assert service.gpu_ok() is None
    async with running(tmp_path, engines__device="cuda", engines__count="1") as service:
        assert service.gpu_ok() is None, "nothing is known of what it holds on the card"
        engine_of(service).device_bytes = 1 << 30
        assert service.gpu_ok() is True
        golden_reader.golden_ok = False
        await service.check_health()
        assert service.gpu_ok() is False
        await asyncio.sleep(60)
        golden_reader.golden_ok = True
        engine_of(service).device_bytes = 1 << 30  # another engine by now
        await service.check_health()
        assert service.gpu_ok() is True
        engine_of(service).ready = {}
        assert service.gpu_ok() is False


@without_waiting
async def test_an_accelerator_is_well_again_with_its_next_engine_though_traffic_never_rests(
    tmp_path: Path, golden_reader: type[GoldenReader]
) -> None:
    async with running(tmp_path, engines__device="cuda", engines__count="1") as service:
        misreader = engine_of(service)
        misreader.device_bytes, misreader.misreads = 1 << 30, True
        golden_reader.golden_ok = False
        await service.check_health()
        golden_reader.golden_ok = True
        for _ in range(30):
            await (await begin(service))
            await asyncio.sleep(4)
            await service.check_health()
            if engine_of(service) is misreader:
                assert service.gpu_ok() is False
        assert engine_of(service) is not misreader
        engine_of(service).device_bytes = 1 << 30
        assert service.gpu_ok() is True


@without_waiting
async def test_nothing_new_is_taken_while_jobs_are_put_back(
    tmp_path: Path, golden_reader: type[GoldenReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as service:
        back = asyncio.Event()
        monkeypatch.setattr(service.batches, "drain", back.wait)
        stopping = asyncio.create_task(service.stop())
        await asyncio.sleep(1)
        with pytest.raises(Draining):
            await service.read(PICTURE, OcrOptions())
        assert service.unready_reason() == "shutting down"
        back.set()
        await stopping


@without_waiting
async def test_no_time_left_is_said_without_touching_an_engine(
    tmp_path: Path, golden_reader: type[GoldenReader]
) -> None:
    async with running(tmp_path, engines__count="1") as service:
        with pytest.raises(DeadlineExceeded):
            await service.read(PICTURE, OcrOptions(), timeout_s=-0.5)
        await asyncio.sleep(1)
        assert (engine_of(service).items, service.scheduler.completed, len(service.scheduler.queue)) == (0, 0, 0)


@without_waiting
async def test_loops_of_another_owner_count_for_readiness(tmp_path: Path, golden_reader: type[GoldenReader]) -> None:
    async def fails() -> None:
        raise ValueError("boom")

    async with running(tmp_path) as service:
        loops = service.branch_loops()
        loops.start("life-signs", fails())
        await asyncio.sleep(1)
        assert service.unready_reason() == "a loop died: life-signs"


@without_waiting
async def test_errors_are_no_proof_of_health(tmp_path: Path, golden_reader: type[GoldenReader]) -> None:
    async with running(tmp_path) as service:
        golden_reader.every_picture_fails = True
        with pytest.raises(InternalError):
            await service.read(PICTURE, OcrOptions())
        assert (await service.check_health()).source == "golden"


@without_waiting
async def test_a_dead_loop_turns_readiness_and_health_red(
    tmp_path: Path, golden_reader: type[GoldenReader], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, engines__count="1") as service:
        assert service.unready_reason() == ""

        def breaks(_: object) -> EngineProcess:
            raise RuntimeError("a fault of ours")

        monkeypatch.setattr(service.scheduler.slots[0], "_new_engine", breaks)
        engine_of(service).die()
        await asyncio.sleep(1)
        assert service.unready_reason() == "a loop died: engine-slot-0"
        health = await service.check_health()
        assert (health.ok, health.source) == (False, "state")


@without_waiting
async def test_a_picture_that_cannot_be_read_takes_no_place_in_the_queue(
    tmp_path: Path, golden_reader: type[GoldenReader]
) -> None:
    async with running(tmp_path, limits__max_pixels="2000") as service:
        with pytest.raises(TooManyPixels):
            await service.read(PICTURE, OcrOptions())
        with pytest.raises(UnsupportedMediaType):
            await service.read(b"no picture", OcrOptions())
        assert service.scheduler.completed == 0


@without_waiting
async def test_a_service_not_started_says_so(tmp_path: Path) -> None:
    service = Service(load_settings(environ={"STEADYOCR_DATA_DIR": str(tmp_path)})[0])
    assert service.unready_reason() == "not started"
    with pytest.raises(NotReady):
        service.refuse_early()
    await service.stop()


@pytest.mark.parametrize(
    ("asked", "allowed"), [(None, 60), (5, 5), (10_000, 300)], ids=["default", "as asked", "at most"]
)
def test_a_client_may_shorten_and_lengthen_its_time_within_bounds(
    tmp_path: Path, golden_reader: type[GoldenReader], asked: float | None, allowed: float
) -> None:
    seen: list[float] = []

    @without_waiting
    async def scenario() -> None:
        async with running(tmp_path) as service:
            submit = service.scheduler.submit

            async def note(item: WorkItem) -> Reply:
                seen.append(item.deadline - asyncio.get_running_loop().time())
                return await submit(item)

            service.scheduler.submit = note  # type: ignore[method-assign]
            await service.read(PICTURE, OcrOptions(), timeout_s=asked)

    scenario()
    assert seen == [pytest.approx(allowed)]


@without_waiting
async def test_what_happens_is_told_on_the_bus(golden_reader: type[GoldenReader], tmp_path: Path) -> None:
    service = Service(load_settings(environ={"STEADYOCR_DATA_DIR": str(tmp_path), "STEADYOCR_ENGINES__COUNT": "1"})[0])
    told: list[tuple[str, dict[str, object]]] = []
    service.events.subscribe(lambda event: told.append((event.name, dict(event.fields))))
    with pytest.raises(NotReady):
        service.refuse_early()
    await service.start()
    await asyncio.sleep(2)
    with pytest.raises(UnsupportedMediaType):
        await service.read(b"not a picture", OcrOptions())
    await service.check_health()
    engine_of(service).die()
    await asyncio.sleep(30)
    await service.stop()
    names = [name for name, _ in told]
    assert ("item_refused", {"code": "not_ready"}) in told
    assert ("item_refused", {"code": "unsupported_media_type"}) in told
    assert ("readiness_changed", {"ready": True, "reason": ""}) in told
    assert ("golden_checked", {"ok": True, "problem": "", "source": "golden"}) in told
    assert names.index("drain_started") < names.index("drain_ended")
