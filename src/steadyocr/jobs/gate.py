"""Items side by side, except for those that must be alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Gate:
    """Lets many pass together, or one alone. Who must be alone keeps newcomers out while it waits."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._inside = 0
        self._alone = 0
        self._taken = False

    async def wait_open(self) -> None:
        """Wait until nobody is or wants to be alone."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._alone)

    @contextlib.asynccontextmanager
    async def passing(self, *, alone: bool) -> AsyncIterator[None]:
        """Be inside, alone or not."""
        await self._enter(alone=alone)
        try:
            yield
        finally:
            await self._leave(alone=alone)

    async def _enter(self, *, alone: bool) -> None:
        async with self._changed:
            self._alone += alone
            try:
                free = (lambda: not self._inside) if alone else (lambda: not self._taken and not self._alone)
                await self._changed.wait_for(free)
            except BaseException:
                # Waiting ends with the lock in hand even when it is called off, so this cannot be.
                self._alone -= alone
                self._changed.notify_all()
                raise
            self._inside += 1
            self._taken = alone

    async def _leave(self, *, alone: bool) -> None:
        self._inside -= 1
        self._alone -= alone
        self._taken = False
        # Nobody awaits anything else with the lock in hand, so it is had at once, and this cannot be called off.
        async with self._changed:
            self._changed.notify_all()
