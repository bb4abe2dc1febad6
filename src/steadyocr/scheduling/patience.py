"""How long an engine may work on one item: as long as it shows progress and somebody may still want the answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from steadyocr.runtime.starvation import CpuClock
from steadyocr.scheduling.engine import EngineProcess
from steadyocr.scheduling.items import WorkItem


class Overdue(Exception):
    """Nobody waits any more, and has not for a while."""


class Hung(Exception):
    """The engine shows no progress, or works for longer than any item may take.

    Attributes:
        starved: It got too little of the machine for that to say anything about the item.
    """

    def __init__(self, *, starved: bool) -> None:
        super().__init__()
        self.starved = starved


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """The bounds, in seconds: see :class:`~steadyocr.scheduling.slot.SlotConfig`."""

    item_limit_s: float
    heartbeat_s: float
    kill_grace_s: float


async def run_patiently(engine: EngineProcess, item: WorkItem, patience: Patience) -> None:
    """Run an item on an engine.

    A silent engine that wants to run and is given no processor is not hanging: it gets further heartbeats, up to the
    limit of an item.

    Raises:
        EngineDied: The engine ended.
        Overdue: Its time is up; the engine still has the item in hand.
        Hung: Likewise, and the engine does not get on.
    """
    loop = asyncio.get_running_loop()
    started = silent_since = loop.time()
    overdue_at = max(item.deadline, started) + patience.kill_grace_s
    hung_at = started + patience.item_limit_s
    recent, whole = CpuClock(engine.pid), CpuClock(engine.pid)

    def alive() -> None:
        nonlocal silent_since
        silent_since = loop.time()
        recent.restart()

    running = asyncio.create_task(engine.run(item, on_frame=alive), name=f"item-{item.id}")
    try:
        while not running.done():
            bound = min(overdue_at, hung_at, silent_since + patience.heartbeat_s)
            await asyncio.wait([running], timeout=max(0.0, bound - loop.time()))
            now = loop.time()
            if running.done():
                break
            if now >= overdue_at:
                raise Overdue
            if now >= hung_at:
                raise Hung(starved=whole.starved())
            if now >= silent_since + patience.heartbeat_s:
                if not recent.starved():
                    raise Hung(starved=False)
                alive()
        await running
    finally:
        running.cancel()
