"""Looks at readiness and at the disk from time to time, and tells the event bus what has changed."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from steadyocr.telemetry.events import Events

_PERIOD_S: Final = 1.0
# The disk is looked at every so many rounds.
_DISK_ROUNDS: Final = 15


class Watch:
    """One look a second.

    Args:
        events: Where changes are told.
        unready_reason: Why new pictures cannot be served now; empty when they can.
        folder: Where state is kept; it need not exist yet.
        floor_bytes: Free space below which the disk counts as low.

    Attributes:
        free_bytes: Free space at the last look; ``None`` before the first, or where it cannot be told.
    """

    def __init__(self, events: Events, unready_reason: Callable[[], str], folder: Path, *, floor_bytes: int) -> None:
        self.free_bytes: int | None = None
        self.floor_bytes = floor_bytes
        self._events = events
        self._unready_reason = unready_reason
        self._folder = folder
        self._was_ready = False
        self._was_low = False

    async def run(self) -> None:
        """Look for ever."""
        round_number = 0
        while True:
            self.look_at_readiness()
            if round_number % _DISK_ROUNDS == 0:
                self.look_at_disk(free_bytes(self._folder))
            round_number += 1
            await asyncio.sleep(_PERIOD_S)

    def look_at_readiness(self) -> None:
        """Tell when the service became ready, or is not any more."""
        reason = self._unready_reason()
        ready = not reason
        if ready is not self._was_ready:
            self._was_ready = ready
            self._events.emit("readiness_changed", ready=ready, reason=reason)

    def look_at_disk(self, free: int | None) -> None:
        """Tell that the disk is low, again at each look, and once that it is not any more.

        A look that cannot tell says neither.
        """
        self.free_bytes = free
        if free is None:
            return
        low = free < self.floor_bytes
        if low:
            self._events.emit("disk_low", free_bytes=free, floor_bytes=self.floor_bytes)
        elif self._was_low:
            self._events.emit("disk_recovered", free_bytes=free, floor_bytes=self.floor_bytes)
        self._was_low = low


def free_bytes(folder: Path) -> int | None:
    """Return the free space where a folder is or will be, in bytes; ``None`` when it cannot be told."""
    for place in (folder, *folder.parents):
        try:
            return shutil.disk_usage(place).free
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return None
