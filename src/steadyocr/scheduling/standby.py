"""The successor of an engine: warmed beside it, with its memory kept for it from before it starts until one is left."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from steadyocr.errors import SteadyOCRError
from steadyocr.scheduling.engine import EngineProcess

_log = logging.getLogger("steadyocr.standby")

# After one that could not be started, the next is not tried for so long.
_PAUSE_S: Final = 30.0


class Standby:
    """At most one successor of one slot.

    Args:
        index: Of the slot.
        expect: Told before a second engine starts.
        gone: Told when there is one engine again.
    """

    def __init__(self, index: int, expect: Callable[[], None], gone: Callable[[], None]) -> None:
        self._index = index
        self._expect = expect
        self._gone = gone
        # Of which memory is kept for two engines: the one that comes, and one that is here until the old one has ended.
        self._expected: set[EngineProcess] = set()
        self._pause_until = 0.0
        self._successor: EngineProcess | None = None
        self._coming: asyncio.Future[EngineProcess | None] | None = None

    @property
    def may_begin(self) -> bool:
        """Whether one may be warmed: there is none, and the last one did not fail just now."""
        return not self._expected and asyncio.get_running_loop().time() >= self._pause_until

    @property
    def coming(self) -> asyncio.Future[EngineProcess | None] | None:
        """Done when the successor is ready or could not be had; ``None`` without one."""
        return self._coming

    def warm_up(self, engine: EngineProcess, timeout_s: float) -> None:
        """Start a successor in the background; one that fails is only logged."""
        self._begin(engine)
        self._successor = engine
        self._coming = asyncio.create_task(self._start(engine, timeout_s), name=f"engine-{self._index}-standby")

    async def prove(self, engine: EngineProcess, timeout_s: float) -> None:
        """Start a successor now, in place of one that may be warming.

        Raises:
            SteadyOCRError: It could not be started; nothing is left of it.
        """
        # Before anything is waited for, so that none is warmed up meanwhile.
        self._begin(engine)
        try:
            await self.discard()
            await engine.start(timeout_s)
        except BaseException:
            await self._end(engine)
            raise
        self._successor = engine
        self._coming = asyncio.get_running_loop().create_future()
        self._coming.set_result(engine)

    def take(self) -> EngineProcess | None:
        """Return the successor once it is ready; the caller says :meth:`settle` when the old one has ended."""
        if self._coming is None or not self._coming.done():
            return None
        coming, self._coming = self._coming, None
        return coming.result()

    def settle(self, successor: EngineProcess) -> None:
        """A successor has the place for itself, or is no more; another one may be on its way already."""
        self._expected.discard(successor)
        if not self._expected:
            self._gone()

    async def discard(self) -> None:
        """End the successor, if there is one."""
        coming, self._coming = self._coming, None
        if coming is None or self._successor is None:
            return
        engine = self._successor
        coming.cancel()
        if not coming.done():
            await asyncio.wait({coming})
        if coming.cancelled():
            self.settle(engine)
        elif coming.result() is not None:
            await self._end(engine)

    def _begin(self, engine: EngineProcess) -> None:
        self._expected.add(engine)
        self._expect()

    async def _start(self, engine: EngineProcess, timeout_s: float) -> EngineProcess | None:
        try:
            await engine.start(timeout_s)
        except SteadyOCRError as error:
            _log.warning("A successor could not be started", extra={"slot": self._index, "reason": error.message})
            self._pause_until = asyncio.get_running_loop().time() + _PAUSE_S
            await self._end(engine)
            return None
        except BaseException:
            await self._end(engine)
            raise
        return engine

    async def _end(self, engine: EngineProcess) -> None:
        try:
            await engine.kill()
        finally:
            self.settle(engine)
