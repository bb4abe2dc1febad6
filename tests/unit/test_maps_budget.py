"""What a request to a kept map may make the front hold."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from steadyocr.errors import QueueFull
from steadyocr.scheduling.items import Reply, WorkItem
from steadyocr.service.body_budget import BodyBudget
from steadyocr.service.maps import Maps
from steadyocr.settings.page import PageSettings
from steadyocr.types import OcrOptions
from support import FIXTURES, in_real_time

PICTURE = (FIXTURES / "english.png").read_bytes()
PAGE = {"lines": [], "options": {"bin_threshold": 0.3, "box_threshold": 0.6, "unclip_ratio": 1.5}}


@in_real_time
async def test_pictures_that_wait_to_be_read_again_are_counted_like_pictures_that_were_sent(tmp_path: Path) -> None:
    waiting: list[WorkItem] = []

    async def submit(item: WorkItem) -> Reply:
        waiting.append(item)
        await asyncio.sleep(1e6)
        raise AssertionError

    budget = BodyBudget(len(PICTURE) + len(PICTURE) // 2)
    maps = Maps(tmp_path, PageSettings(), min_free_bytes=0, submit=submit, share=budget.share, read_timeout_s=60)
    map_id = await maps.keep(PICTURE, PAGE, b"a map", {})
    assert map_id is not None
    reading = OcrOptions(recognise=True)
    first = asyncio.create_task(maps.lines(map_id, reading))
    while not waiting:  # noqa: ASYNC110 - it comes through a thread
        await asyncio.sleep(0.01)
    assert waiting[0].payload == b"a map" + PICTURE
    with pytest.raises(QueueFull):
        await maps.lines(map_id, reading)
    # A slider needs the map alone.
    slider = asyncio.create_task(maps.lines(map_id, OcrOptions(recognise=False)))
    while len(waiting) < 2:  # noqa: ASYNC110 - likewise
        await asyncio.sleep(0.01)
    assert waiting[1].payload == b"a map"
    for task in (first, slider):
        task.cancel()
    await asyncio.gather(first, slider, return_exceptions=True)
    assert budget.held_bytes == 0
