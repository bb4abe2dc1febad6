"""What the alerts know, as it is kept over a restart: open incidents, recent ends, and what the windows have counted.

Times are in seconds since the epoch, since a monotonic clock begins anew with the machine. A wall clock may have been
set since; a time that lies ahead counts as now, so that nothing lasts longer for it. The file may be damaged: what
cannot be used is left out, entry by entry.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from steadyocr.ops.files import write_whole

_log = logging.getLogger("steadyocr.alerts")

_FORMAT: Final = 2
_MAX_COUNTED: Final = 1000
_MAX_FILE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class OpenIncident:
    """An incident that has begun.

    Attributes:
        began_at: When.
        told_at: When people were last told of it.
        severity: Of its rule, for lists.
    """

    began_at: float
    told_at: float
    severity: str


@dataclass(frozen=True, slots=True)
class Counted:
    """What a sliding window holds.

    Attributes:
        at: When each event happened, oldest first.
        due: There were enough of them, and nobody was told yet.
    """

    at: tuple[float, ...]
    due: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """All of it, by names of rules.

    Attributes:
        open: Incidents that have begun.
        ended: When the last incident was over, as long as that matters.
        counted: What windows hold.
    """

    open: Mapping[str, OpenIncident] = field(default_factory=dict)
    ended: Mapping[str, float] = field(default_factory=dict)
    counted: Mapping[str, Counted] = field(default_factory=dict)

    def to_wire(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "format": _FORMAT,
            "open": {
                name: {"began_at": known.began_at, "told_at": known.told_at, "severity": known.severity}
                for name, known in self.open.items()
            },
            "ended": dict(self.ended),
            "counted": {name: {"at": list(known.at), "due": known.due} for name, known in self.counted.items()},
        }

    @classmethod
    def from_wire(cls, values: object, now: float) -> Remembered:
        """Take over whatever can be used. Never raises.

        Args:
            values: As parsed from the file.
            now: Seconds since the epoch.
        """
        parts = _mapping(values)
        # The first format had the open incidents only, with no name around them.
        opened = _mapping(parts.get("open")) if "format" in parts else parts
        ended = {name: _moment(at, now) for name, at in _mapping(parts.get("ended")).items()}
        return cls(
            open={name: _open_incident(known, now) for name, known in opened.items() if isinstance(known, Mapping)},
            ended={name: at for name, at in ended.items() if at is not None},
            counted={name: _counted(_mapping(known), now) for name, known in _mapping(parts.get("counted")).items()},
        )


def _open_incident(known: Mapping[str, Any], now: float) -> OpenIncident:
    # That it is open is worth more than since when.
    began_at = _moment(known.get("began_at"), now)
    told_at = _moment(known.get("told_at"), now)
    severity = known.get("severity")
    return OpenIncident(
        now if began_at is None else began_at,
        now if told_at is None else told_at,
        severity if isinstance(severity, str) else "unknown",
    )


def _counted(known: Mapping[str, Any], now: float) -> Counted:
    listed = known.get("at")
    moments = [_moment(at, now) for at in listed[-_MAX_COUNTED:]] if isinstance(listed, list) else []
    return Counted(tuple(sorted(at for at in moments if at is not None)), known.get("due") is True)


def _moment(value: object, now: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        return None
    return float(min(value, now))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def read_state(path: Path, now: float) -> Remembered:
    """Return what the last run left; nothing when there is no such file or it cannot be read.

    Args:
        path: The file.
        now: Seconds since the epoch.
    """
    try:
        with path.open("rb") as stream:
            values = json.loads(stream.read(_MAX_FILE_BYTES))
    except FileNotFoundError:
        values = {}
    except (OSError, ValueError, RecursionError):
        _log.exception("What the alerts of the last run knew cannot be read")
        values = {}
    return Remembered.from_wire(values, now)


def write_state(path: Path, state: Remembered) -> None:
    """Keep it for the next run."""
    try:
        write_whole(path, json.dumps(state.to_wire(), separators=(",", ":")))
    except OSError:
        _log.exception("What the alerts know cannot be written down")
