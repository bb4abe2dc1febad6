"""The handle on an engine process, against stand-ins that misbehave in all the ways a process can."""

from __future__ import annotations

import asyncio
import errno
import os
import platform
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import pytest

from steadyocr.errors import EngineDied, MemoryPressure, ModelCorrupt, ModelError
from steadyocr.runtime.memory import peak_rss_bytes
from steadyocr.scheduling import engine as module
from steadyocr.scheduling.config import EngineConfig
from steadyocr.scheduling.engine import EngineProcess, EngineState
from steadyocr.scheduling.items import WorkItem
from steadyocr.types import OcrOptions
from support import in_real_time, is_running

STUB = Path(__file__).with_name("stub_worker.py")
START_S = 20.0
MIB = 1 << 20


@asynccontextmanager
async def engine_that(mode: str) -> AsyncIterator[EngineProcess]:
    engine = EngineProcess(EngineConfig(detector="d", recogniser="r"), (sys.executable, str(STUB), mode))
    try:
        yield engine
    finally:
        pid = engine.pid
        await engine.kill()
        await engine.kill()
        assert engine.state is EngineState.DEAD
        assert pid is None or not is_running(pid)


def item(payload: bytes = b"picture") -> WorkItem:
    return WorkItem(payload, OcrOptions(), asyncio.get_running_loop().time() + 60)


@in_real_time
async def test_a_good_engine_answers_and_reports_its_memory() -> None:
    async with engine_that("behaves") as engine:
        await engine.start(START_S)
        assert engine.state is EngineState.READY
        for payload in (b"picture", b"x" * 3_000_000, b""):
            work = item(payload)
            await engine.run(work)
            reply = work.outcome.result()
            assert reply.message["size"] == len(payload)
            assert reply.payload == payload[::-1]
        assert (engine.state, engine.items, engine.stage) == (EngineState.READY, 3, None)
        assert (engine.rss_bytes, engine.peak_rss_bytes) == (5, 9)
        await engine.stop()
        assert engine.exit_code == 0


@in_real_time
async def test_an_engine_that_exits_while_starting_is_a_death() -> None:
    async with engine_that("exits while starting") as engine:
        with pytest.raises(EngineDied, match="exit code 3"):
            await engine.start(START_S)


@in_real_time
async def test_an_engine_that_never_gets_ready_is_given_up() -> None:
    async with engine_that("silent while starting") as engine:
        with pytest.raises(EngineDied, match="not ready after"):
            await engine.start(0.5)


@in_real_time
async def test_what_is_wrong_with_the_model_is_passed_on() -> None:
    async with engine_that("has no model") as engine:
        with pytest.raises(ModelCorrupt, match="wrong hash"):
            await engine.start(START_S)


@in_real_time
async def test_an_engine_that_misreads_the_golden_picture_never_serves() -> None:
    async with engine_that("misreads") as engine:
        with pytest.raises(ModelError, match="golden picture: 2 lines found, 3 expected"):
            await engine.start(START_S)
        assert engine.state is EngineState.STARTING


@in_real_time
async def test_a_machine_without_room_for_a_process_is_a_death_and_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: Any, **__: Any) -> NoReturn:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", no_room)
    async with engine_that("behaves") as engine:
        with pytest.raises(EngineDied, match="could not be started"):
            await engine.start(START_S)


@in_real_time
async def test_a_machine_without_room_for_a_thread_keeps_no_process_that_nobody_waits_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Recorded(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            started.append(self)

    def no_room(_: threading.Thread) -> NoReturn:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    monkeypatch.setattr(threading.Thread, "start", no_room)
    async with engine_that("behaves") as engine:
        with pytest.raises(EngineDied, match="could not be started"):
            await engine.start(START_S)
    assert [process.returncode for process in started] == [-9]


@pytest.mark.parametrize(
    ("mode", "how"),
    [
        ("is killed", "signal SIGKILL"),
        ("exits", "exit code 7"),
        ("answers by half", "exit code 0"),
        ("sends garbage", "still there"),
        ("announces too much", "still there"),
        ("is killed by a signal without a name", "signal 40"),
        ("leaves the stage out", "still there"),
        ("sends an error that is none", "still there"),
    ],
)
@in_real_time
async def test_an_engine_that_fails_with_an_item_leaves_it_unsettled(
    monkeypatch: pytest.MonkeyPatch, mode: str, how: str
) -> None:
    if how == "still there":
        monkeypatch.setattr(module, "_STOP_GRACE_S", 0.1)
    async with engine_that(mode) as engine:
        await engine.start(START_S)
        work = item()
        with pytest.raises(EngineDied, match=how):
            await engine.run(work)
        assert not work.outcome.done()
        assert engine.state is EngineState.DEAD


@in_real_time
async def test_what_a_killed_engine_took_is_known_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    # This process may have been larger than the engine will be: what it was counts as the engine's as well.
    monkeypatch.setattr("steadyocr.scheduling.child.peak_rss_bytes", lambda: 0)
    ours = peak_rss_bytes()
    async with engine_that("grows and is killed") as engine:
        await engine.start(START_S)
        assert engine.taken_bytes == 0, "it lives"
        with pytest.raises(EngineDied, match="SIGKILL"):
            await engine.run(item(str(ours + 200 * MIB).encode()))
        assert ours + 200 * MIB < engine.taken_bytes < ours + 300 * MIB
        engine.peak_rss_bytes = ours + 300 * MIB
        assert engine.taken_bytes == 0, "it may be of an item before"


@in_real_time
async def test_what_the_front_once_was_is_not_held_against_its_engines() -> None:
    async with engine_that("is killed") as engine:
        await engine.start(START_S)
        with pytest.raises(EngineDied, match="SIGKILL"):
            await engine.run(item())
        assert engine.taken_bytes == 0


@in_real_time
async def test_an_engine_that_dies_after_its_answer_has_answered() -> None:
    async with engine_that("dies after its answer") as engine:
        await engine.start(START_S)
        work = item(b"abc")
        await engine.run(work)
        assert work.outcome.result().payload == b"cba"
        assert engine.state is EngineState.DEAD


@in_real_time
async def test_each_step_of_an_engines_life_is_told() -> None:
    told: list[tuple[EngineState, EngineState]] = []
    async with engine_that("warms up") as engine:
        engine.on_state = lambda before, after: told.append((before, after))
        await engine.start(START_S)
        await engine.ping()
        await engine.run(item())
        await engine.stop()
    states = ["starting", "warming", "ready", "busy", "ready", "draining", "dead"]
    assert told == [(EngineState(before), EngineState(after)) for before, after in pairwise(states)]


@in_real_time
async def test_nonsense_is_the_end_of_an_engine_and_of_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STOP_GRACE_S", 0.1)
    async with engine_that("says nonsense while starting") as engine:
        with pytest.raises(EngineDied, match="while starting"):
            await engine.start(START_S)
    async with engine_that("mixes things up") as engine:
        await engine.start(START_S)
        with pytest.raises(EngineDied, match="while idle"):
            await engine.ping()
    async with engine_that("reports no memory") as engine:
        await engine.start(START_S)
        work = item(b"abc")
        await engine.run(work)
        assert work.outcome.result().payload == b"cba", "the answer was good"
        assert engine.state is EngineState.DEAD


@in_real_time
async def test_who_is_cancelled_while_stopping_an_engine_still_ends_it() -> None:
    async with engine_that("ignores stop") as engine:
        await engine.start(START_S)
        stopping = asyncio.create_task(engine.stop())
        await asyncio.sleep(0)
        assert engine.state is EngineState.DRAINING
        stopping.cancel()
        await asyncio.wait({stopping})
        assert engine.exit_code == -9


@in_real_time
async def test_an_engine_that_will_not_stop_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STOP_GRACE_S", 0.1)
    async with engine_that("ignores stop") as engine:
        await engine.start(START_S)
        await engine.stop()
        assert engine.exit_code == -9


@in_real_time
async def test_an_engine_never_started_runs_and_stops_nothing() -> None:
    async with engine_that("behaves") as engine:
        with pytest.raises(EngineDied):
            await engine.run(item())
        await engine.stop()


@in_real_time
async def test_the_first_time_that_memory_is_short_is_left_to_the_owner() -> None:
    async with engine_that("has no memory") as engine:
        await engine.start(START_S)
        work = item()
        await engine.run(work)
        assert not work.abandoned
        assert work.cautious
        await engine.run(work)
        assert isinstance(work.outcome.exception(), MemoryPressure)


@in_real_time
async def test_who_is_cancelled_while_ending_an_engine_does_not_cancel_the_next_who_does() -> None:
    class Writer:
        closed = asyncio.get_running_loop().create_future()

        def close(self) -> None:
            return

        async def wait_closed(self) -> None:
            await self.closed

    engine = EngineProcess(EngineConfig(detector="d", recogniser="r"))
    engine._writer = Writer()  # type: ignore[assignment]
    first = asyncio.create_task(engine.kill())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    assert first.cancelled()
    await engine.kill()


_KEPT = """
import ctypes
from steadyocr.runtime import memory
library = ctypes.CDLL(None)
library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
before = memory.heap_bytes()
for block in [library.malloc(size) for size in range(24, 1033, 16) for _ in range(7)]:
    library.free(block)
print(memory.heap_bytes() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has its own ways")
def test_no_thread_of_an_engine_keeps_freed_pieces_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would hold a page that could go back."""

    def kept(environment: Mapping[str, str]) -> int:
        done = subprocess.run(
            [sys.executable, "-c", _KEPT], check=True, capture_output=True, text=True, env=environment
        )
        return int(done.stdout)

    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.mxfast=0")
    assert kept(os.environ) > 150_000, "they are not kept, or there is nothing to mend"
    assert kept(module.engine_environment()) < 50_000
    assert "glibc.malloc.mxfast=0" in module.engine_environment()["GLIBC_TUNABLES"], "what a user asks for stays"


def test_an_engine_is_measured_by_what_it_can_count_on(monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[float] = []
    monkeypatch.setattr("steadyocr.scheduling.engine.CpuClock", lambda _, *, core_share: shares.append(core_share))
    EngineProcess(EngineConfig(detector="d", recogniser="r", core_share=0.4)).cpu_clock()
    assert shares == [0.4]
