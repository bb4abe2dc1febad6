"""How much memory an engine really took with the item in hand: looked at from outside, for when it cannot tell itself.

An engine that is killed reports nothing. While it works its high-water mark is read a few times a second, which may
miss a fast rise at the very end. When it has ended, the kernel tells the peak of the largest child ever waited for:
where that has grown, the engine that just ended made it grow, and its peak is known exactly. Other children of the
front count in that figure too (a run of the laboratory, a process that sends an alert), so what it grows by while all
engines live is taken note of at once, as nobody's.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_HIGH_WATER: Final = "VmHWM:"
_MAX_PROCESSES: Final = 256
# Looks after which an engine that is gone is given up: its end should have been told long ago.
_MAX_LOOKS_GONE: Final = 150


@dataclass(frozen=True, slots=True)
class Peak:
    """An engine's peak.

    Attributes:
        bytes: Resident memory at most; 0 where nothing is known.
        exact: The kernel's own figure; otherwise what was seen last, so at least so much.
    """

    bytes: int
    exact: bool


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


def children_peak_bytes() -> int:
    """Return the peak of the largest child of this process that has ended, in bytes."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


class MemoryWatch:
    """Remembers the last seen high-water mark of each engine.

    Args:
        high_water: Reads the mark of a process.
        children_peak: Reads the kernel's figure over all ended children.
    """

    def __init__(
        self,
        high_water: Callable[[int], int] = high_water_bytes,
        children_peak: Callable[[], int] = children_peak_bytes,
    ) -> None:
        self._high_water = high_water
        self._children_peak = children_peak
        self._largest_child = children_peak()
        self._seen: dict[int, int] = {}
        self._gone: dict[int, int] = {}
        self._absorb = False

    def look(self, pids: Iterable[int], idle: Iterable[int] = ()) -> None:
        """Look at the engines.

        Args:
            pids: Those at work.
            idle: Those that are not; whether they live is all that is looked at.
        """
        # Before the engines: one that still lives afterwards cannot be in the figure.
        largest = self._children_peak()
        looked_at = set()
        for pid in pids:
            mark = self._high_water(pid)
            if mark:
                looked_at.add(pid)
                self._keep(pid, mark)
        for pid in idle:
            if pid not in self._seen and self._high_water(pid):
                self._keep(pid, 0)
        gone = [pid for pid in self._seen if pid not in looked_at and not self._high_water(pid)]
        if self._absorb or not gone:
            self._largest_child, self._absorb = largest, False
        self._gone = {pid: self._gone.get(pid, 0) + 1 for pid in gone}
        for pid, looks in self._gone.items():
            if looks > _MAX_LOOKS_GONE:
                self._seen.pop(pid)

    def _keep(self, pid: int, mark: int) -> None:
        self._seen.pop(pid, None)
        while len(self._seen) >= _MAX_PROCESSES:
            self._seen.pop(next(iter(self._seen)))
        self._seen[pid] = mark

    def ended_on_purpose(self, pid: int | None) -> None:
        """Take note that an engine is ending because it was told to: the kernel's next figure may be its."""
        self._absorb = True
        if pid is not None:
            self._seen.pop(pid, None)

    def ended(self, pid: int | None) -> Peak:
        """Return what is known of a process that has ended although nobody wanted it to."""
        largest = self._children_peak()
        grown, self._largest_child = largest > self._largest_child, largest
        seen = self._seen.pop(pid, 0) if pid is not None else 0
        if grown and largest >= seen:
            return Peak(largest, exact=True)
        return Peak(seen, exact=False)
