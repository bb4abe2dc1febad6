"""The last events of one part of the service, bounded in number and bytes."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from typing import Any


class Ring:
    """A bounded list of plain values; the oldest give way.

    Args:
        max_events: At most so many.
        max_bytes: And so many bytes of JSON; a single entry larger than that is not kept.
    """

    def __init__(self, max_events: int, max_bytes: int) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._entries: deque[tuple[int, dict[str, Any]]] = deque()
        self.bytes = 0

    def __len__(self) -> int:
        """How many entries are kept."""
        return len(self._entries)

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add an entry."""
        size = len(json.dumps(entry))
        if size > self._max_bytes:
            return
        self._entries.append((size, dict(entry)))
        self.bytes += size
        while len(self._entries) > self._max_events or self.bytes > self._max_bytes:
            self.bytes -= self._entries.popleft()[0]

    def entries(self) -> list[dict[str, Any]]:
        """Return the entries, oldest first."""
        return [entry for _, entry in self._entries]
