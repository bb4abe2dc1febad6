"""When the watchdog is fed, and when not."""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from scripted_engine import ScriptedEngine
from steadyocr.errors import SteadyOCRError, UndecodableImage
from steadyocr.scheduling.items import Reply, WorkItem
from steadyocr.scheduling.pressure import MemorySignals
from steadyocr.scheduling.scheduler import Scheduler
from steadyocr.service import Service
from steadyocr.service.lifesigns import LifeSigns
from steadyocr.settings import load_settings
from steadyocr.telemetry.loops import Loops
from steadyocr.telemetry.notify import Notifier
from steadyocr.types import OcrOptions
from support import FIXTURES, without_waiting

PICTURE = (FIXTURES / "english.png").read_bytes()
WATCHDOG_S = 40.0


class Engine(ScriptedEngine):
    """Answers anything after a moment, in the way it is told to."""

    golden_runs = 0
    golden_ok = True
    hangs = False
    every_picture_is_bad = False

    async def run(self, item: WorkItem, on_frame: Callable[[], None] = lambda: None) -> None:
        if self.hangs:
            # It goes on saying that it works, so the supervisor waits for the end of the item's limit.
            for _ in range(1000):
                await asyncio.sleep(1)
                on_frame()
        await asyncio.sleep(0.1)
        if item.kind == "golden":
            type(self).golden_runs += 1
            problem = "" if self.golden_ok else "wrong text"
            item.succeed(Reply({"golden": {"ok": self.golden_ok, "problem": problem, "duration_ms": 1.0}}))
        elif self.every_picture_is_bad:
            item.fail(UndecodableImage("damaged"))
        else:
            item.succeed(Reply({"page": {}}))


class Manager(Notifier):
    """Remembers when it was told what."""

    def __init__(self, watchdog_s: float | None = WATCHDOG_S) -> None:
        super().__init__("/nowhere", watchdog_s)
        self.fed: list[float] = []
        self.said: list[str] = []

    def alive(self) -> None:
        self.fed.append(asyncio.get_running_loop().time())

    def _send(self, *lines: str) -> None:
        self.said += lines

    @property
    def longest_wait_s(self) -> float:
        times = [*self.fed, asyncio.get_running_loop().time()]
        return max(after - before for before, after in itertools.pairwise(times))


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> type[Engine]:
    kind = type("FreshEngine", (Engine,), {})
    numbers = iter(range(1000))
    factory = functools.partial(Scheduler, engine_factory=lambda _: kind(next(numbers)))
    monkeypatch.setattr("steadyocr.service.core.Scheduler", factory)
    return kind


@asynccontextmanager
async def watched(tmp_path: Path, manager: Manager, **settings: str) -> AsyncIterator[Service]:
    environ = {
        "STEADYOCR_DATA_DIR": str(tmp_path),
        "STEADYOCR_MEMORY__CALIBRATE": "false",
        "STEADYOCR_ENGINES__COUNT": "1",
        "STEADYOCR_ENGINES__ITEM_LIMIT_S": "3600",
        **settings,
    }
    service, loops = Service(load_settings(environ=environ)[0]), Loops()
    signs = LifeSigns(service, manager)
    async with signs.starting():
        await service.start()
    loops.start("life-signs", signs.run())
    try:
        yield service
    finally:
        await loops.stop()
        await service.stop()


@without_waiting
async def test_an_idle_service_reads_the_golden_picture_often_enough(tmp_path: Path, engine: type[Engine]) -> None:
    manager = Manager()
    async with watched(tmp_path, manager):
        await asyncio.sleep(600)
        assert manager.longest_wait_s < WATCHDOG_S / 2
        assert engine.golden_runs >= len(manager.fed) > 10


@without_waiting
async def test_answered_pictures_are_proof_enough(tmp_path: Path, engine: type[Engine]) -> None:
    manager = Manager()
    async with watched(tmp_path, manager) as service:
        for _ in range(300):
            await service.read(PICTURE, OcrOptions())
            await asyncio.sleep(1)
        assert manager.longest_wait_s < WATCHDOG_S / 2
        assert engine.golden_runs == 0


@without_waiting
async def test_a_hung_engine_stops_the_feeding(tmp_path: Path, engine: type[Engine]) -> None:
    manager = Manager()
    async with watched(tmp_path, manager):
        await asyncio.sleep(100)
        engine.hangs = True
        fed = len(manager.fed)
        await asyncio.sleep(2 * WATCHDOG_S)
        assert len(manager.fed) <= fed + 1, "the last feeding may rest on what was finished just before"


@without_waiting
async def test_a_hung_engine_behind_a_full_queue_stops_the_feeding(
    tmp_path: Path, engine: type[Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forever(*_: object) -> None:
        await asyncio.sleep(1e6)

    manager = Manager()
    limit = {"STEADYOCR_ENGINES__ITEM_LIMIT_S": "30", "STEADYOCR_QUEUE__MAX_SIZE": "2"}
    async with watched(tmp_path, manager, **limit) as service:
        await asyncio.sleep(100)
        # And nobody ends it, long after its limits.
        monkeypatch.setattr("steadyocr.scheduling.slot.run_patiently", forever)
        readers = [asyncio.create_task(service.read(PICTURE, OcrOptions(), timeout_s=250)) for _ in range(3)]
        await asyncio.sleep(50)
        fed = len(manager.fed)
        await asyncio.sleep(2 * WATCHDOG_S)
        assert len(manager.fed) <= fed + 1
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)


@without_waiting
async def test_a_picture_that_takes_longer_than_the_watchdog_waits_is_no_reason_to_be_killed(
    tmp_path: Path, engine: type[Engine]
) -> None:
    manager = Manager()
    async with watched(tmp_path, manager) as service:
        await asyncio.sleep(100)
        engine.hangs = True
        reader = asyncio.create_task(service.read(PICTURE, OcrOptions(), timeout_s=250))
        await asyncio.sleep(200)
        assert manager.longest_wait_s < WATCHDOG_S
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)


@without_waiting
async def test_a_service_that_sheds_is_not_killed(
    tmp_path: Path, engine: type[Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = Manager()
    async with watched(tmp_path, manager) as service:
        monkeypatch.setattr(service.scheduler, "_signals", lambda: MemorySignals(used=0.99))
        await asyncio.sleep(600)
        assert manager.longest_wait_s < WATCHDOG_S / 2


@without_waiting
async def test_a_crowd_with_bad_pictures_cannot_starve_the_watchdog(tmp_path: Path, engine: type[Engine]) -> None:
    manager = Manager()
    async with watched(tmp_path, manager, STEADYOCR_QUEUE__MAX_SIZE="1") as service:
        engine.every_picture_is_bad = True

        async def pester() -> None:
            while True:
                try:
                    await service.read(PICTURE, OcrOptions())
                except SteadyOCRError:
                    await asyncio.sleep(0.01)

        crowd = [asyncio.create_task(pester()) for _ in range(5)]
        await asyncio.sleep(5 * WATCHDOG_S / 2)
        assert manager.longest_wait_s < WATCHDOG_S / 2
        for one in crowd:
            one.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)


@without_waiting
async def test_a_misread_golden_picture_is_no_sign_of_life(tmp_path: Path, engine: type[Engine]) -> None:
    manager = Manager()
    engine.golden_ok = False
    async with watched(tmp_path, manager):
        await asyncio.sleep(300)
        assert manager.fed == []


@without_waiting
async def test_a_dead_loop_stops_the_feeding_and_is_named(tmp_path: Path, engine: type[Engine]) -> None:
    manager = Manager()
    async with watched(tmp_path, manager) as service:
        await asyncio.sleep(100)
        service._loops.dead["engine-slot-0"] = "a fault"
        fed = len(manager.fed)
        await asyncio.sleep(100)
        assert len(manager.fed) == fed
        assert manager.said[-1] == "STATUS=not ready: a loop died: engine-slot-0"


@without_waiting
async def test_more_time_is_asked_for_while_models_load_and_not_after(
    tmp_path: Path, engine: type[Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(self: Engine, timeout_s: float) -> None:
        await asyncio.sleep(300)
        await ScriptedEngine.start(self, timeout_s)

    monkeypatch.setattr(engine, "start", slow)
    manager = Manager()
    async with watched(tmp_path, manager):
        asked = sum(line.startswith("EXTEND_TIMEOUT_USEC") for line in manager.said)
        assert asked >= 300 / 20, "before the time that was asked for runs out"
        await asyncio.sleep(100)
        assert sum(line.startswith("EXTEND_TIMEOUT_USEC") for line in manager.said) == asked


@without_waiting
async def test_without_a_watchdog_nobody_reads_golden_pictures(tmp_path: Path, engine: type[Engine]) -> None:
    manager = Manager(watchdog_s=None)
    async with watched(tmp_path, manager):
        await asyncio.sleep(300)
        assert engine.golden_runs == 0
        assert manager.fed == []
        assert manager.said[-1].startswith("STATUS=ready: 1 of 1 engines up, 0 restarts, 0 waiting")
