"""A real engine gives its scratch memory back when it is told that nothing waits, and now and then all the same."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from PIL import Image

from steadyocr.scheduling.config import EngineConfig
from steadyocr.scheduling.engine import EngineProcess
from steadyocr.scheduling.items import WorkItem
from steadyocr.settings import load_settings
from steadyocr.types import OcrOptions
from support import KnownPicture, encoded, in_real_time


def engine_config(**settings: str) -> EngineConfig:
    environ = {f"STEADYOCR_ENGINES__{name.upper()}": value for name, value in settings.items()}
    return load_settings(environ=environ)[0].scheduler_config().slot.engine


async def read(engine: EngineProcess, picture: KnownPicture, *, more_waits: bool) -> bool:
    """Read a picture; returns whether the engine has kept scratch memory."""
    item = WorkItem(picture.data, OcrOptions(recognise=False), asyncio.get_running_loop().time() + 60)
    item.course.keep_scratch = more_waits
    await engine.run(item)
    assert item.answered
    return engine.untidy


@in_real_time
async def _kept_and_given_back(english: KnownPicture) -> None:
    engine = EngineProcess(engine_config())
    try:
        await engine.start(60)
        assert await read(engine, english, more_waits=True)
        kept_bytes = engine.rss_bytes
        assert not await read(engine, english, more_waits=False)
        assert engine.rss_bytes < kept_bytes
        assert await read(engine, english, more_waits=True)
        await engine.ping()
        assert not engine.untidy, "what was expected has not come"
        assert engine.rss_bytes < kept_bytes
        # Items are counted, whatever their size.
        blank = KnownPicture(encoded(Image.new("RGB", (64, 32), "white")), [], [])
        kept = [await read(engine, blank, more_waits=True) for _ in range(51)]
        assert kept == [True] * 50 + [False]
    finally:
        await engine.stop()


def test_scratch_memory_stays_while_more_waits_for_a_bounded_time(english: KnownPicture) -> None:
    _kept_and_given_back(english)


def test_beyond_its_bound_it_is_given_back(english: KnownPicture) -> None:
    @in_real_time
    async def bounded() -> None:
        engine = EngineProcess(engine_config(scratch_bytes=str(1 << 20)))
        try:
            await engine.start(60)
            assert not await read(engine, english, more_waits=True)
        finally:
            await engine.stop()

    bounded()


def test_the_kernel_takes_an_engine_before_the_front_and_gives_it_small_pages() -> None:
    def score(pid: int | None) -> int:
        return int(Path(f"/proc/{pid}/oom_score_adj").read_text())

    def takes_huge_pages(pid: int | None) -> bool:
        # An older kernel does not tell.
        return "THP_enabled:\t1" in Path(f"/proc/{pid}/status").read_text()

    @in_real_time
    async def compared() -> None:
        engine = EngineProcess(engine_config())
        try:
            await engine.start(60)
            assert score(engine.pid) == min(1000, score(os.getpid()) + 300)
            assert not takes_huge_pages(engine.pid)
        finally:
            await engine.stop()

    compared()
