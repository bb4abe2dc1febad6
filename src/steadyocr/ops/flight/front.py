"""The file that names the running service and says how it was just now.

It goes away when the service ends in order. One that still lies there at the next start tells that the last service was
killed, and how it was shortly before; nothing else could tell, since a process that is killed says nothing.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, Final

from steadyocr.ops.files import write_whole

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_MAX_FILE_BYTES: Final = 256 << 10


def front_file(folder: Path) -> Path:
    """Return the file of a flight folder."""
    return folder / "front.json"


def start_ticks(pid: int, proc: Path = Path("/proc")) -> int | None:
    """Return when a process was started, in clock ticks since boot: with its id it names a process for good."""
    try:
        text = (proc / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The program's name, in brackets, may hold blanks; the start time is the 20th word after it.
    return int(text.rpartition(")")[2].split()[19])


def boot_id() -> str:
    """Return what names this run of the machine; empty where it cannot be told."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Predecessor:
    """A service that ended without a word.

    Attributes:
        pid: Its front.
        started_at: When it began, in seconds since the epoch; ``None`` if it did not say.
        seen_at: When it last wrote that it is alive, likewise.
        rebooted: The machine was started anew since: it was not killed but went down with everything.
        situation: How it was then, as plain values.
        events: The last ones before, likewise.
    """

    pid: int
    started_at: float | None
    seen_at: float | None
    rebooted: bool
    situation: Mapping[str, Any] = field(default_factory=dict)
    events: Sequence[Mapping[str, Any]] = ()

    @property
    def uptime_s(self) -> float | None:
        """How long it lived at least, in seconds."""
        if self.started_at is None or self.seen_at is None:
            return None
        return round(max(0.0, self.seen_at - self.started_at), 3)

    @property
    def reason(self) -> str:
        """What is known of its end."""
        return "the machine went down" if self.rebooted else "killed"


class FrontFile:
    """The file of this process. Safe to use from several threads.

    Args:
        folder: The flight folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = front_file(folder)
        self._lock = Lock()
        self._removed = False
        self._started_at = time.time()

    def predecessor(self) -> Predecessor | None:
        """Return who left the file behind; ``None`` when nobody did, or it lives. To be asked before :meth:`write`."""
        try:
            with self._path.open("rb") as stream:
                known = json.loads(stream.read(_MAX_FILE_BYTES))
            pid, ticks = int(known["pid"]), int(known["start_ticks"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        booted = known.get("boot_id")
        rebooted = isinstance(booted, str) and bool(booted) and booted != boot_id()
        if not rebooted and start_ticks(pid) == ticks:
            return None
        situation, events = known.get("situation"), known.get("events")
        return Predecessor(
            pid=pid,
            started_at=_moment(known.get("started_at")),
            seen_at=_moment(known.get("seen_at")),
            rebooted=rebooted,
            situation=situation if isinstance(situation, dict) else {},
            events=[entry for entry in events if isinstance(entry, dict)] if isinstance(events, list) else [],
        )

    def write(self, situation: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> None:
        """Say that this process is alive, how it is, and what happened last.

        Raises:
            OSError: It cannot be written.
        """
        pid = os.getpid()
        said = {
            "pid": pid,
            "start_ticks": start_ticks(pid),
            "boot_id": boot_id(),
            "started_at": round(self._started_at, 3),
            "seen_at": round(time.time(), 3),
            "situation": situation,
            "events": events,
        }
        # A write that was under way when the service ended must not bring the file back.
        with self._lock:
            if not self._removed:
                write_whole(self._path, json.dumps(said))

    def remove(self) -> None:
        """Say that this process ends in order. Nothing is written afterwards."""
        with self._lock:
            self._removed = True
            self._path.unlink(missing_ok=True)


def _moment(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value) if 0 <= value <= time.time() else None
