"""Pictures under suspicion: those in whose hand an engine died lately, by content hash, whoever sends them again.

Without this, a client that does not wait for the verdict could cost an engine with each upload of the same picture.
Suspicion alone refuses nobody: a suspect runs alone and smaller, and only an engine that dies of it there condemns it.
An engine that gets through with it so clears it, once: what kills engines at full size again would cost one with each
upload, and runs alone and smaller from then on.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from steadyocr.scheduling.items import WorkItem

MAX_ENTRIES: Final = 1000
# What has not been sent again for so long may begin anew.
KEEP_S: Final = 86_400.0
_TOO_MANY: Final = 2


@dataclass(slots=True)
class _Entry:
    size: int
    deaths: int
    last_at: float
    proven: int = 0
    acquitted: bool = False


class Suspicion:
    """Deaths by picture. In memory only: what survives a restart is the quarantine.

    Args:
        max_entries: At most this many; the one that has been quiet longest goes first.
        keep_s: One is forgotten after so long without a further death.
    """

    def __init__(self, max_entries: int = MAX_ENTRIES, keep_s: float = KEEP_S) -> None:
        self._max_entries = max_entries
        self._keep_s = keep_s
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def __len__(self) -> int:
        """How many pictures are under suspicion."""
        return sum(not entry.acquitted for entry in self._entries.values())

    def blame(self, item: WorkItem, now: float, *, proven: bool = False) -> int:
        """Count a death against a picture; returns how many there are now.

        Args:
            item: It.
            now: Event-loop time.
            proven: The engine died of it; otherwise it was ended while that was still open.
        """
        self._forget_old(now)
        entry = self._entries.pop(item.digest, None) or _Entry(len(item.payload), 0, now)
        entry.deaths += 1
        entry.proven += proven
        entry.acquitted = False
        entry.last_at = now
        while len(self._entries) >= self._max_entries:
            self._entries.popitem(last=False)
        self._entries[item.digest] = entry
        return entry.deaths

    def last_death_at(self, item: WorkItem) -> float | None:
        """Return the event-loop time of the last death that is held against a picture, ``None`` without one."""
        entry = self._entries.get(item.digest) if self._entries else None
        return entry.last_at if entry is not None else None

    def holds(self, item: WorkItem, now: float) -> bool:
        """Whether a picture is under suspicion. Costs a hash only where the size already matches."""
        self._forget_old(now)
        size = len(item.payload)
        if not any(entry.size == size and not entry.acquitted for entry in self._entries.values()):
            return False
        return item.digest in self._entries and not self._entries[item.digest].acquitted

    def acquit(self, item: WorkItem) -> None:
        """An engine got through with it: after a first death that is taken for chance."""
        entry = self._entries.get(item.digest) if self._entries else None
        if entry is not None and entry.proven < _TOO_MANY:
            entry.acquitted = True

    def clear(self, item: WorkItem) -> None:
        """Drop what there is against a picture."""
        if self._entries:
            self._entries.pop(item.digest, None)

    def _forget_old(self, now: float) -> None:
        while self._entries:
            oldest = next(iter(self._entries.values()))
            if now - oldest.last_at < self._keep_s:
                return
            self._entries.popitem(last=False)
