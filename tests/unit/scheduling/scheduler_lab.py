"""A scheduler over scripted engines, on a fake clock."""

from __future__ import annotations

import asyncio
import dataclasses
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from scripted_engine import ENGINE, ScriptedEngine
from steadyocr.scheduling.config import EngineConfig
from steadyocr.scheduling.engine import EngineProcess, EngineState
from steadyocr.scheduling.items import WorkItem
from steadyocr.scheduling.pressure import MemorySignals
from steadyocr.scheduling.scheduler import Scheduler, SchedulerConfig
from steadyocr.scheduling.slot import SlotConfig
from steadyocr.telemetry.loops import Loops
from steadyocr.types import OcrOptions

_PATIENCE = {field.name for field in dataclasses.fields(SlotConfig)}


class Lab:
    """A scheduler over scripted engines."""

    def __init__(self, make_engine: Callable[[int], EngineProcess] = ScriptedEngine, **config: Any) -> None:
        self.engines: list[Any] = []
        self.loops = Loops()
        self.signals = MemorySignals(0.1)
        self._make_engine = make_engine
        patience = {key: config.pop(key) for key in list(config) if key in _PATIENCE}
        made = SchedulerConfig(slot=SlotConfig(engine=ENGINE, **patience), **config)
        self.scheduler = Scheduler(made, self.loops, self._next_engine, lambda: self.signals)

    def _next_engine(self, config: EngineConfig) -> EngineProcess:
        assert config is ENGINE
        self.engines.append(None)
        self.engines[-1] = self._make_engine(len(self.engines))
        engine: EngineProcess = self.engines[-1]
        return engine

    def item(self, order: str, allowed_s: float = 300.0) -> WorkItem:
        return WorkItem(order.encode(), OcrOptions(), asyncio.get_running_loop().time() + allowed_s)

    async def read(self, order: str, allowed_s: float = 300.0) -> str:
        reply = await self.scheduler.submit(self.item(order, allowed_s))
        echo: str = reply.message["echo"]
        return echo

    def reading(self, *orders: str) -> list[asyncio.Task[str]]:
        return [asyncio.create_task(self.read(order)) for order in orders]

    async def kill_in_mid_work(self) -> None:
        while self.engines[-1].state is not EngineState.BUSY:  # noqa: ASYNC110 - the clock is a fake
            await asyncio.sleep(0.1)
        self.engines[-1].die(-signal.SIGKILL)

    def takes_work(self) -> bool:
        return self.scheduler.ready

    async def stop(self) -> None:
        await self.loops.stop()
        await self.scheduler.stop()


@asynccontextmanager
async def lab(make_engine: Callable[[int], EngineProcess] = ScriptedEngine, **config: Any) -> AsyncIterator[Lab]:
    made = Lab(make_engine, **config)
    try:
        await made.scheduler.start()
        yield made
    finally:
        await made.stop()
        assert all(engine is None or engine.state is EngineState.DEAD for engine in made.engines)
