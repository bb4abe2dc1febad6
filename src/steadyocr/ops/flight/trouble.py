"""Whether the service was in trouble lately: what makes a stop worth a record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

# What ended no longer ago than this still counts, in seconds.
LATELY_S: Final = 300.0
_ENGINE: Final = "an engine had died"
_SHEDDING: Final = "pictures were refused for want of memory"
_UNREADY: Final = "it was not ready"
_GOLDEN: Final = "the known picture was not read rightly"


class Trouble:
    """Takes events in, says in words what was wrong."""

    def __init__(self) -> None:
        self._going_on: set[str] = set()
        self._last_at: dict[str, float] = {}

    def observe(self, facts: Mapping[str, Any]) -> None:
        """Take an event in."""
        at = float(facts["at"])
        match facts.get("event"):
            case "engine_died":
                self._last_at[_ENGINE] = at
            case "pressure_changed":
                self._note(_SHEDDING, facts.get("after") == "shed", at)
            case "golden_checked":
                self._note(_GOLDEN, not facts.get("ok"), at)
            case "readiness_changed" if facts.get("reason") != "shutting down":
                self._note(_UNREADY, not facts.get("ready"), at)

    def _note(self, what: str, bad: bool, at: float) -> None:
        if bad:
            self._going_on.add(what)
            self._last_at[what] = at
        elif what in self._going_on:
            self._going_on.discard(what)
            self._last_at[what] = at

    def lately(self, at: float) -> list[str]:
        """Return what goes on at a time or did shortly before it."""
        return [what for what, last in self._last_at.items() if what in self._going_on or at - last < LATELY_S]
