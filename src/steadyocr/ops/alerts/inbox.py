"""What has happened since the rules were last looked at."""

from __future__ import annotations

from collections import deque
from itertools import count
from typing import Final

from steadyocr.telemetry.events import Event

# Of each kind. No rule remembers more than that, and of a state only the last change matters.
MAX_OF_A_KIND: Final = 1000


class Inbox:
    """Events between two looks, bounded for each kind by itself.

    A storm of one kind, like a full queue under attack, pushes out its own oldest and never the one event that tells of
    something else. Kinds are few: they are the names that rules listen to.
    """

    def __init__(self) -> None:
        self._kinds: dict[str, deque[tuple[float, int, Event]]] = {}
        self._order = count()

    def __len__(self) -> int:
        """How many events wait."""
        return sum(map(len, self._kinds.values()))

    def put(self, event: Event, now: float) -> None:
        """Take an event in that happened at `now` on the monotonic clock."""
        kind = self._kinds.setdefault(event.name, deque(maxlen=MAX_OF_A_KIND))
        kind.append((now, next(self._order), event))

    def take(self) -> list[tuple[float, Event]]:
        """Return all of them, in the order in which they came, and keep none."""
        waiting = sorted((entry for kind in self._kinds.values() for entry in kind), key=lambda entry: entry[1])
        self._kinds.clear()
        return [(now, event) for now, _, event in waiting]
