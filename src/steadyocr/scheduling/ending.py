"""Ending engines, and saying of what they died."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from steadyocr.errors import EngineDied
from steadyocr.scheduling.deaths import Death, DeathCause, classify, is_stopped, memory_kills
from steadyocr.scheduling.engine import EngineProcess
from steadyocr.scheduling.patience import Hung, Overdue

# The channel of a killed engine closes at once; that all of a large one is gone is told later.
_END_KNOWN_S: Final = 3.0


async def put_down(engine: EngineProcess, why: Overdue | Hung | EngineDied, kills_before: int) -> Death:
    """End an engine that failed with an item in hand; returns how it ended.

    Args:
        engine: It.
        why: What was wrong with it.
        kills_before: What :func:`~steadyocr.scheduling.deaths.memory_kills` was when it took the item.
    """
    if isinstance(why, EngineDied):
        # It ended by itself, or has closed its channel: the caller sees to what is left of it.
        cause = classify(engine.exit_code, killed_by_us=False, out_of_memory=memory_kills() > kills_before)
        peak_bytes = engine.taken_bytes if cause is DeathCause.OUT_OF_MEMORY else 0
        return Death(cause, engine.exit_code, engine.stage, proven_at=engine.proven_at, peak_bytes=peak_bytes)
    # To be asked while it still lives: who was stopped from outside could show no sign of life.
    stopped = is_stopped(engine.pid)
    await engine.kill()
    if stopped:
        return Death(DeathCause.OUTSIDE, engine.exit_code, engine.stage)
    if isinstance(why, Overdue):
        return Death(DeathCause.OVERDUE, engine.exit_code, engine.stage, why.silent)
    return Death(DeathCause.STARVED if why.starved else DeathCause.HANG, engine.exit_code, engine.stage)


async def has_ended(engine: EngineProcess) -> bool:
    """Tell whether an engine that has gone silent has ended; it may take a moment until that is known."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_END_KNOWN_S):
            await engine.exited()
    return engine.exit_code is not None


async def stop_for_good(engine: EngineProcess) -> None:
    """Stop an engine whose place is taken; who is cancelled meanwhile still ends it."""
    try:
        await engine.stop()
    finally:
        await engine.kill()


async def end_if_deaf(engine: EngineProcess, heartbeat_s: float) -> Death | None:
    """Ask an idle engine for an answer and end it if there is none; returns how it ended, ``None`` while it lives.

    Half a heartbeat is enough for an answer, except for one that is given no processor.

    Raises:
        EngineDied: It had ended by itself.
    """
    clock = engine.cpu_clock()
    pinging = asyncio.create_task(engine.ping(), name="engine-ping")
    try:
        await asyncio.wait({pinging}, timeout=heartbeat_s / 2)
        if not pinging.done() and clock.starved():
            await asyncio.wait({pinging}, timeout=heartbeat_s)
        if pinging.done():
            pinging.result()
            return None
    finally:
        pinging.cancel()
    stopped = is_stopped(engine.pid)
    await engine.kill()
    return Death(DeathCause.OUTSIDE if stopped else DeathCause.HANG, engine.exit_code, None)
