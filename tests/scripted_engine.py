"""An engine without a process, for tests of what stands in front of it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from steadyocr.errors import EngineDied, UndecodableImage
from steadyocr.scheduling.config import EngineConfig
from steadyocr.scheduling.deaths import EXIT_UNSOUND
from steadyocr.scheduling.engine import EngineProcess, EngineState
from steadyocr.scheduling.items import Reply, WorkItem

ENGINE = EngineConfig(detector="d", recogniser="r")
# How long it works on anything, in seconds.
SERVICE_S = 0.5
BASE_BYTES = 300 << 20


class ScriptedEngine(EngineProcess):
    """An engine without a process. What it does with an item is written in the item.

    ``die`` crashes it; ``die once`` only at the first attempt; ``unsound`` makes it find itself unsound; ``hang`` never
    answers; ``bad`` is answered with a typed error; ``take N`` is answered after N silent seconds, ``work N`` after N
    seconds with a sign of life each second; ``die after`` answers and then ends; ``grow`` leaves it larger; ``exhaust``
    runs it out of memory; ``short once`` has not enough memory at the first attempt; ``tidy N`` is answered, and N
    seconds are spent on tidying up; anything else is answered.
    """

    def __init__(self, number: int) -> None:
        super().__init__(ENGINE)
        self.number = number
        self.seen: list[bytes] = []
        self.killed = False
        self.deaf = False
        self._code = 0
        self._taken_bytes = 0
        self._end = asyncio.Event()

    @property
    def exit_code(self) -> int | None:
        return self._code if self._end.is_set() else None

    @property
    def taken_bytes(self) -> int:
        return self._taken_bytes

    @taken_bytes.setter
    def taken_bytes(self, taken_bytes: int) -> None:
        self._taken_bytes = taken_bytes

    async def start(self, timeout_s: float) -> None:
        await asyncio.sleep(1)
        self.ready = {"pid": self.number, "models": {}, "start_ms": 1000, "rss_bytes": BASE_BYTES}
        self.rss_bytes = BASE_BYTES
        self.proven_at = asyncio.get_running_loop().time()
        self.state = EngineState.READY

    async def ping(self) -> None:
        if self.deaf:
            await asyncio.sleep(1e9)

    async def run(self, item: WorkItem, on_frame: Callable[[], None] = lambda: None) -> None:
        self.seen.append(item.payload)
        self.state = EngineState.BUSY
        order = item.payload.decode()
        await self._until_done_or_dead(SERVICE_S)
        if (
            order == "die"
            or (order == "die once" and item.attempts == 0)
            or (order == "die large" and not item.cautious)
        ):
            self.die()
        if order == "unsound":
            self.die(EXIT_UNSOUND)
        if order == "hang":
            await self._until_done_or_dead(1e9)
        if order.startswith("take "):
            await self._until_done_or_dead(float(order[5:]))
        if order.startswith("work "):
            for _ in range(int(order[5:])):
                await self._until_done_or_dead(1)
                on_frame()
        if self._end.is_set():
            raise EngineDied("the engine ended with this picture in hand")
        self._answer(item, order)
        if order.startswith("tidy "):
            await self._until_done_or_dead(float(order[5:]))
        if order == "die after":
            self.die()

    def _answer(self, item: WorkItem, order: str) -> None:
        if order == "short once" and not item.cautious:
            item.short_of_memory = True
        elif order == "bad":
            item.fail(UndecodableImage("damaged"))
        else:
            item.succeed(Reply({"echo": order, "engine": self.number, "cap": item.cap}))
        if order == "grow":
            self.rss_bytes += 1 << 30
        self.allocation_failed = order == "exhaust"
        self.items += 1
        self.state = EngineState.READY

    async def _until_done_or_dead(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._end.wait()
        except TimeoutError:
            return

    def die(self, code: int = -signal.SIGSEGV) -> None:
        if not self._end.is_set():
            self._code = code
        self.state = EngineState.DEAD
        self._end.set()

    async def exited(self) -> None:
        await self._end.wait()

    async def stop(self) -> None:
        await self.kill()

    async def kill(self) -> None:
        self.killed = self.killed or not self._end.is_set()
        self.die(-signal.SIGKILL)
