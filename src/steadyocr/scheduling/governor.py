"""The memory budget: the sum of what is predicted for all work in hand never passes it."""

from __future__ import annotations

import asyncio
import math
import os
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

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


class MemoryGovernor:
    """Hands out shares of the budget. Belongs to one event loop.

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
        self._alone = False
        self._changed = asyncio.Condition()

    @property
    def available_bytes(self) -> float:
        """What all work in hand together may add to idle engines, in bytes."""
        usable = self.budget_bytes * (1.0 - _RESERVE_SHARE) - rss_bytes()
        return max(0.0, usable - self._engines * self.engine_base_bytes)

    @property
    def device_available_bytes(self) -> float:
        """What all work in hand together may add on the accelerator, in bytes; without one, no bound."""
        return max(0.0, self.device_budget_bytes)

    @property
    def headroom_bytes(self) -> float:
        """What further work may add now, in bytes."""
        return max(0.0, self.available_bytes - self.reserved_bytes)

    @asynccontextmanager
    async def reserve(
        self, extra_bytes: float, device_extra_bytes: float = 0.0, *, alone: bool = False
    ) -> AsyncIterator[None]:
        """Wait for a share of the budget and hold it.

        Args:
            extra_bytes: What the work is predicted to add. More than the whole budget waits for the whole budget:
                admission has refused what can never fit, and the prediction may be wrong the cautious way.
            device_extra_bytes: Likewise, on the accelerator.
            alone: Wait until nothing else is in hand and keep it so: for a picture under suspicion.
        """
        share, device_share = round(extra_bytes), round(device_extra_bytes)
        async with self._changed:
            await self._changed.wait_for(lambda: self._fits(share, device_share, alone))
            self.reserved_bytes += share
            self.device_reserved_bytes += device_share
            self.in_hand += 1
            self._alone = alone
        try:
            yield
        finally:
            self.reserved_bytes -= share
            self.device_reserved_bytes -= device_share
            self.in_hand -= 1
            if alone:
                self._alone = False
            async with self._changed:
                self._changed.notify_all()

    async def wake(self) -> None:
        """Let waiting work look again; after the pressure level has changed."""
        async with self._changed:
            self._changed.notify_all()

    def _fits(self, share: int, device_share: int, alone: bool) -> bool:
        if self.in_hand == 0:
            return True
        if alone or self._alone or self.one_at_a_time:
            return False
        if self.device_reserved_bytes + device_share > self.device_available_bytes:
            return False
        return self.reserved_bytes + share <= self.available_bytes
