"""The memory budget: the sum of what is predicted for all work in hand never passes it."""

from __future__ import annotations

import asyncio
import math
import os
import resource
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from steadyocr.runtime.memory import memory_limit_bytes, rss_bytes

# Kept free for the front, the page cache and errors of the prediction.
_RESERVE_SHARE = 0.15


def detect_budget_bytes() -> int:
    """Return what this service may use: the tightest of cgroup limit, RLIMIT_AS and the machine's memory, in bytes."""
    bounds = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    limit = memory_limit_bytes()
    if limit is not None:
        bounds.append(limit)
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        bounds.append(soft)
    return min(bounds)


class NotWanted(Exception):
    """Nobody wants the work any more that memory was waited for."""


@dataclass(frozen=True, slots=True, eq=False)
class _Ticket:
    """A place in the line: what is asked for, and a future that is done when it is had."""

    share: int
    device_share: int
    alone: bool
    turn: asyncio.Future[None]


class MemoryGovernor:
    """Hands out shares of the budget, first come, first served. Belongs to one event loop.

    Who is first and does not fit yet holds up those behind: otherwise small shares would always find a gap, and a
    large one, or one that must be alone, would wait for ever.

    Args:
        budget_bytes: For the whole service.
        engines: How many engines stand ready; their idle memory is always counted.
    """

    def __init__(self, budget_bytes: int, engines: int) -> None:
        self.budget_bytes = budget_bytes
        self.engine_base_bytes = 0.0
        self.device_budget_bytes = math.inf
        self.device_reserved_bytes = 0
        self.one_at_a_time = False
        self.reserved_bytes = 0
        self.in_hand = 0
        self._engines = engines
        self._standbys: set[int] = set()
        self._alone = False
        self._line: deque[_Ticket] = deque()

    @property
    def waiting(self) -> int:
        """How much work waits for memory."""
        return len(self._line)

    @property
    def available_bytes(self) -> float:
        """What all work in hand together may add to idle engines, in bytes."""
        usable = self.budget_bytes * (1.0 - _RESERVE_SHARE) - rss_bytes()
        return max(0.0, usable - (self._engines + len(self._standbys)) * self.engine_base_bytes)

    @property
    def device_available_bytes(self) -> float:
        """What all work in hand together may add on the accelerator, in bytes; without one, no bound."""
        return max(0.0, self.device_budget_bytes)

    @property
    def headroom_bytes(self) -> float:
        """What further work may add now, in bytes."""
        return max(0.0, self.available_bytes - self.reserved_bytes)

    def expect_standby(self, slot: int) -> None:
        """Count a second engine in a slot, from before it starts: it takes its memory while it warms up."""
        self._standbys.add(slot)

    def standby_gone(self, slot: int) -> None:
        """Count one engine in a slot again. Safe to call twice."""
        self._standbys.discard(slot)
        self.wake()

    @asynccontextmanager
    async def reserve(
        self,
        extra_bytes: float,
        device_extra_bytes: float = 0.0,
        *,
        alone: bool = False,
        called_off: Iterable[asyncio.Future[Any]] = (),
    ) -> AsyncIterator[None]:
        """Wait for a share of the budget and hold it.

        Args:
            extra_bytes: What the work is predicted to add. More than the whole budget waits for the whole budget:
                admission has refused what can never fit, and the prediction may be wrong the cautious way.
            device_extra_bytes: Likewise, on the accelerator.
            alone: Wait until nothing else is in hand and keep it so: for a picture under suspicion.
            called_off: When any of these is done, the work is not wanted any more, and its share not waited for.

        Raises:
            NotWanted: Nobody wants the work any more.
        """
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        ticket = _Ticket(round(extra_bytes), round(device_extra_bytes), alone, turn)
        self._line.append(ticket)
        self.wake()
        try:
            if not turn.done():
                await asyncio.wait({turn, *called_off}, return_when=asyncio.FIRST_COMPLETED)
            if not turn.done():
                raise NotWanted
            yield
        finally:
            if turn.done():
                self._give_back(ticket)
            else:
                self._line.remove(ticket)
            self.wake()

    def wake(self) -> None:
        """Let waiting work look again; after anything has changed that decides what fits."""
        while self._line and self._fits(self._line[0]):
            ticket = self._line.popleft()
            self.reserved_bytes += ticket.share
            self.device_reserved_bytes += ticket.device_share
            self.in_hand += 1
            self._alone = ticket.alone
            ticket.turn.set_result(None)

    def _give_back(self, ticket: _Ticket) -> None:
        self.reserved_bytes -= ticket.share
        self.device_reserved_bytes -= ticket.device_share
        self.in_hand -= 1
        if ticket.alone:
            self._alone = False

    def _fits(self, ticket: _Ticket) -> bool:
        if self.in_hand == 0:
            return True
        if ticket.alone or self._alone or self.one_at_a_time:
            return False
        if self.device_reserved_bytes + ticket.device_share > self.device_available_bytes:
            return False
        return self.reserved_bytes + ticket.share <= self.available_bytes
