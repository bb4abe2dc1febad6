from __future__ import annotations

import asyncio
import logging

import pytest

from steadyocr.telemetry.loops import Loops
from support import without_waiting


async def forever() -> None:
    await asyncio.Event().wait()


@without_waiting
async def test_a_loop_that_fails_is_noted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def fails() -> None:
        raise ValueError("boom")

    loops = Loops()
    task = loops.start("fragile", fails())
    await asyncio.wait({task})
    await asyncio.sleep(0)
    assert loops.dead == {"fragile": "ValueError('boom')"}
    assert [record.levelno for record in caplog.records] == [logging.CRITICAL]


@without_waiting
async def test_a_loop_that_just_ends_is_dead_too() -> None:
    async def ends() -> None:
        await asyncio.sleep(0)

    loops = Loops()
    await loops.start("short", ends())
    await asyncio.sleep(0)
    assert loops.dead == {"short": "ended"}


@without_waiting
async def test_a_loop_cancelled_by_somebody_else_is_dead() -> None:
    loops = Loops()
    task = loops.start("stolen", forever())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    await asyncio.sleep(0)
    assert loops.dead == {"stolen": "cancelled"}


@without_waiting
async def test_a_running_loop_is_not_dead_and_stopping_waits_for_its_end() -> None:
    ended = False

    async def cleans_up() -> None:
        nonlocal ended
        try:
            await forever()
        finally:
            await asyncio.sleep(1)
            ended = True

    loops = Loops()
    loops.start("tidy", cleans_up())
    await asyncio.sleep(0)
    assert loops.dead == {}
    await loops.stop()
    await loops.stop()
    assert ended
    assert loops.dead == {}
