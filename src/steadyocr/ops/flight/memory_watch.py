"""How much memory an engine took with the item in hand, seen from outside, for where the kernel's figure is not known.

An engine that is killed reports nothing. While it works its high-water mark is read a few times a second, which may
miss a fast rise at the very end: what was seen is the least that it took.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

_HIGH_WATER: Final = "VmHWM:"
_MAX_PROCESSES: Final = 256


def high_water_bytes(pid: int, proc: Path = Path("/proc")) -> int:
    """Return the resident high-water mark of a living process, in bytes; 0 when it is gone."""
    try:
        lines = (proc / str(pid) / "status").read_text().splitlines()
    except OSError:
        return 0
    for line in lines:
        if line.startswith(_HIGH_WATER):
            return int(line.split()[1]) * 1024
    return 0


class MemoryWatch:
    """Remembers the last seen high-water mark of each engine at work.

    Args:
        high_water: Reads the mark of a process.
    """

    def __init__(self, high_water: Callable[[int], int] = high_water_bytes) -> None:
        self._high_water = high_water
        self._seen: dict[int, int] = {}

    def look(self, pids: Iterable[int]) -> None:
        """Look at the engines that are at work."""
        for pid in pids:
            if mark := self._high_water(pid):
                self._seen.pop(pid, None)
                while len(self._seen) >= _MAX_PROCESSES:
                    self._seen.pop(next(iter(self._seen)))
                self._seen[pid] = mark

    def ended(self, pid: int | None) -> int:
        """Return what was seen last of a process that has ended, in bytes, and forget it; 0 where nothing was."""
        return self._seen.pop(pid, 0) if pid is not None else 0
