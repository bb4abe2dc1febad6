"""What an engine process writes to its standard error ends in the front's log."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from steadyocr.errors import EngineDied
from steadyocr.scheduling.config import EngineConfig
from steadyocr.scheduling.engine import EngineProcess
from steadyocr.scheduling.engine_stderr import EngineStderr
from support import PATIENCE_S, in_real_time

NOISY = """
import os, sys, json
sys.stderr.write("starting\\n")
sys.stderr.flush()
os.write(2, b"last words without an end")
os._exit(3)
"""


def written(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [vars(record)["line"] for record in caplog.records if "line" in vars(record)]


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@in_real_time
async def test_the_last_words_of_an_engine_are_logged(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    script = tmp_path / "noisy.py"
    script.write_text(NOISY)
    engine = EngineProcess(EngineConfig(detector="d", recogniser="r"), (sys.executable, str(script)))
    with pytest.raises(EngineDied):
        await engine.start(20)
    pid = engine.pid
    await engine.kill()
    assert written(caplog) == ["starting", "last words without an end"]
    assert {vars(record)["engine_pid"] for record in caplog.records} == {pid}


@in_real_time
async def test_a_command_that_does_not_exist_leaves_no_pipe_open(tmp_path: Path) -> None:
    async def fail() -> None:
        engine = EngineProcess(EngineConfig(detector="d", recogniser="r"), (str(tmp_path / "missing"),))
        with pytest.raises(EngineDied):
            await engine.start(20)
        await engine.kill()

    await fail()
    before = open_descriptors()
    await fail()
    assert open_descriptors() == before


@in_real_time
async def test_a_child_that_outlives_the_engine_does_not_hold_anybody_up(caplog: pytest.LogCaptureFixture) -> None:
    pipe = EngineStderr()
    child = await asyncio.to_thread(
        subprocess.Popen, ["/bin/sh", "-c", "echo hello >&2; exec sleep 240"], stderr=pipe.write_end
    )
    pipe.attach(child.pid)
    async with asyncio.timeout(PATIENCE_S):
        while not written(caplog):  # noqa: ASYNC110 - the line arrives through a pipe
            await asyncio.sleep(0.01)
    pipe.close()
    pipe.close()
    child.kill()
    await asyncio.to_thread(child.wait)
    assert written(caplog) == ["hello"]
    assert logging.WARNING in {record.levelno for record in caplog.records}
