"""Hours in which lesser notices wait."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class QuietHours:
    """A span of the day in local time, which may run over midnight; its end does not belong to it."""

    begin: dt.time
    end: dt.time

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read ``22:00-07:00``; ``None`` for an empty text.

        Raises:
            ValueError: It is written in another way.
        """
        if not text:
            return None
        begin, _, end = text.partition("-")
        return cls(dt.time.fromisoformat(begin), dt.time.fromisoformat(end))

    def covers(self, at: float) -> bool:
        """Whether a moment, in seconds since the epoch, lies within."""
        local = dt.datetime.fromtimestamp(at).astimezone().time()
        if self.begin <= self.end:
            return self.begin <= local < self.end
        return local >= self.begin or local < self.end
