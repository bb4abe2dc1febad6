"""A service that has stopped leaves nothing behind: no task, no process, no thread, no descriptor."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import re
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from steadyocr.api.server import serve
from steadyocr.ops.companions import COMPANIONS
from steadyocr.settings import Settings
from support import KnownPicture, free_port, texts_of


@dataclass(frozen=True, slots=True)
class Belongings:
    """What this process has."""

    children: frozenset[int]
    threads: frozenset[str]
    descriptors: int

    @classmethod
    def now(cls) -> Belongings:
        gc.collect()
        process = psutil.Process()
        return cls(
            frozenset(child.pid for child in process.children(recursive=True)),
            frozenset(thread.name for thread in threading.enumerate()),
            process.num_fds(),
        )


@pytest.fixture
def signals_restored() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


async def one_life(folder: Path, picture: KnownPicture) -> set[str]:
    """Start, answer a picture, a job and two that give up, stop on a signal; returns the tasks that are left."""
    port = free_port()
    settings = Settings.model_validate(
        {
            "data_dir": folder,
            "server": {"port": port},
            "engines": {"count": 1, "threads": 2},
            "memory": {"calibrate": False},
        }
    )
    serving = asyncio.create_task(serve(settings, companions=COMPANIONS))
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
            await asyncio.wait_for(_until_ready(client, serving), 60)
            await _use(client, picture)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(serving, 60)
    return {task.get_name() for task in asyncio.all_tasks() - {asyncio.current_task()}}


async def _until_ready(client: httpx.AsyncClient, serving: asyncio.Task[None]) -> None:
    while not serving.done():
        with contextlib.suppress(httpx.TransportError):
            if (await client.get("/readyz")).status_code == 200:
                return
        await asyncio.sleep(0.05)
    serving.result()


async def _use(client: httpx.AsyncClient, picture: KnownPicture) -> None:
    answer = await client.post("/v1/ocr", content=picture.data)
    assert texts_of(answer.json()) == picture.texts
    form = {"files": ("a.png", picture.data)}
    assert (await client.post("/batch", params={"wait": "true"}, files=form)).json()["status"] == "success"
    hasty = {"X-Request-Timeout": "0.05"}
    # It is given up while it waits or is read, or is refused since it cannot be read in time.
    assert (await client.post("/v1/ocr", content=picture.data, headers=hasty)).status_code in (503, 504)
    impatient = asyncio.create_task(client.post("/v1/ocr?max_side=4096", content=picture.data))
    while not impatient.done() and (await client.get("/v1/info")).json()["engines"][0]["state"] != "busy":
        pass
    impatient.cancel()
    await asyncio.gather(impatient, return_exceptions=True)


def test_a_service_that_has_stopped_leaves_nothing_behind(
    tmp_path: Path, english: KnownPicture, signals_restored: None, caplog: pytest.LogCaptureFixture
) -> None:
    # What is loaded and opened once stays: the second life is measured.
    assert asyncio.run(one_life(tmp_path / "first", english)) == set()
    before = Belongings.now()
    assert asyncio.run(one_life(tmp_path / "second", english)) == set()
    assert Belongings.now() == before
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_every_loop_is_in_the_table_of_what_lives_long() -> None:
    root = Path(__file__).parents[2]
    table = (root / "docs/ARCHITECTURE.md").read_text(encoding="utf-8").partition("## What lives long")[2]
    sources = "".join(path.read_text(encoding="utf-8") for path in (root / "src/steadyocr").rglob("*.py"))
    names = {re.sub(r"\{.*?\}", "N", name) for name in re.findall(r'loops\.start\(f?"([^"]+)"', sources)}
    assert len(names) > 15
    assert sorted(name for name in names if f"`{name}`" not in table) == []
