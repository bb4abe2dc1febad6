"""What the chaos tests share: a service in this process whose engines have a weakness, and the outcome of a picture."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from steadyocr.errors import SteadyOCRError
from steadyocr.scheduling.config import EngineConfig
from steadyocr.scheduling.engine import EngineProcess
from steadyocr.scheduling.scheduler import Scheduler
from steadyocr.service import Service
from steadyocr.settings import load_settings
from steadyocr.types import OcrOptions
from support import KnownPicture, wait_until

WORKER = (sys.executable, str(Path(__file__).parent / "chaos" / "misbehaving_worker.py"))
ALLOWED_S = 240.0
MEMORY_CGROUP = Path("/sys/fs/cgroup/memory")


@pytest.fixture
def weak_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*arguments: Any, **options: Any) -> Scheduler:
        options["engine_factory"] = weak_engine
        return Scheduler(*arguments, **options)

    def weak_engine(config: EngineConfig) -> EngineProcess:
        return EngineProcess(config, WORKER)

    monkeypatch.setattr("steadyocr.service.core.Scheduler", build)


@asynccontextmanager
async def running(data_dir: Path, **settings: str) -> AsyncIterator[Service]:
    environ = {
        "STEADYOCR_DATA_DIR": str(data_dir),
        "STEADYOCR_MEMORY__CALIBRATE": "false",
        "STEADYOCR_QUEUE__MAX_SIZE": "1000",
        **{f"STEADYOCR_{name.upper()}": value for name, value in settings.items()},
    }
    service = Service(load_settings(environ=environ)[0])
    await service.start()
    try:
        yield service
    finally:
        await service.stop()


async def outcome(
    service: Service, data: bytes, expected: KnownPicture | None = None, gate: asyncio.Semaphore | None = None
) -> str:
    """Read a picture; an answer that is not the picture's own is ``wrong``. The gate bounds how many are under way."""
    async with gate or contextlib.nullcontext():
        try:
            reply = await service.read(data, OcrOptions(), timeout_s=ALLOWED_S)
        except SteadyOCRError as error:
            return error.code
    texts = [line["text"] for line in reply.message["page"]["lines"]]
    return "right" if expected is not None and texts == expected.texts else "wrong"


def weak(picture: KnownPicture, how: str) -> bytes:
    """A whole PNG with a marker after its end, where decoders do not look."""
    return picture.data + f"#weakness:{how}".encode()


@contextmanager
def memory_group(limit_bytes: int) -> Iterator[Path]:
    """A memory cgroup of our own below the present one (version 1, or 2 where that is allowed)."""
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    paths = {controllers: path for _, controllers, path in lines}
    v1 = "memory" in paths
    base = MEMORY_CGROUP / paths["memory"].lstrip("/") if v1 else Path("/sys/fs/cgroup") / paths[""].lstrip("/")
    group = (
        base if base.is_dir() else MEMORY_CGROUP if v1 else Path("/sys/fs/cgroup")
    ) / f"steadyocr-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no memory cgroup can be made here: {error.strerror}")
    try:
        try:
            (group / ("memory.limit_in_bytes" if v1 else "memory.max")).write_text(str(limit_bytes))
        except OSError as error:
            pytest.skip(f"no memory limit can be set here: {error.strerror}")
        yield group
    finally:
        wait_until(lambda: not (group / "cgroup.procs").read_text().split())
        group.rmdir()
