"""Notices that wait to be sent, on disk, so that neither a dead network nor a restart loses them.

Each is one small JSON file. Number, bytes and age are bounded; what must go first is the least severe, then the oldest.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Final

from steadyocr.ops.alerts.clock import Clock
from steadyocr.ops.alerts.notices import Notice
from steadyocr.ops.alerts.waiting import Entry, file_of, files_in, read_entry
from steadyocr.ops.files import forget_unfinished, write_whole

_log = logging.getLogger("steadyocr.alerts")

# A notice that a channel refused so often lets younger ones go first: the fault may be its own.
_PATIENCE: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolBounds:
    """How much may wait.

    Attributes:
        notices: How many.
        bytes: How many bytes in all.
        age_s: For how long, in seconds.
    """

    notices: int = 200
    bytes: int = 1 << 20
    age_s: float = 3 * 86_400.0


class Spool:
    """The waiting notices. Safe to use from several threads.

    Args:
        folder: Where they are kept.
        bounds: How much may wait.
        clock: Of the process.
    """

    def __init__(self, folder: Path, bounds: SpoolBounds, clock: Clock) -> None:
        self._folder = folder
        self._bounds = bounds
        self._clock = clock
        self._lock = Lock()
        self._entries: dict[int, Entry] = {}
        forget_unfinished(folder)
        for path in files_in(folder):
            self._load(path)
        self._next_number = max(self._entries, default=0) + 1
        self._keep_within_bounds()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._entries)

    def entries(self) -> list[Entry]:
        """Return what waits, oldest first."""
        with self._lock:
            return sorted(self._entries.values(), key=lambda entry: entry.number)

    def add(self, notice: Notice, channels: Sequence[str], *, held: bool = False) -> None:
        """Keep a notice until each channel has had it."""
        if not channels:
            return
        with self._lock:
            expires = self._clock.monotonic() + self._bounds.age_s
            entry = Entry(self._next_number, notice, list(channels), held, expires=expires)
            self._next_number += 1
            self._entries[entry.number] = entry
            self._save(entry)
            self._keep_within_bounds()

    def next_for(self, channel: str) -> Entry | None:
        """Return what a channel is to be given next."""
        with self._lock:
            self._keep_within_bounds()
            waiting = (entry for entry in self._entries.values() if channel in entry.pending and not entry.held)
            return min(
                waiting, key=lambda entry: (entry.refusals.get(channel, 0) // _PATIENCE, entry.number), default=None
            )

    def delivered(self, entry: Entry, channel: str) -> None:
        """Take note that a channel has had a notice."""
        with self._lock:
            if channel in entry.pending:
                entry.pending.remove(channel)
            # It may have been dropped while it was under way; it must not come back for the other channels.
            if entry.number not in self._entries:
                return
            if entry.pending:
                self._save(entry)
            else:
                self._drop(entry)

    def refused(self, entry: Entry, channel: str) -> None:
        """Take note that a channel was reached and did not take a notice."""
        with self._lock:
            entry.refusals[channel] = entry.refusals.get(channel, 0) + 1

    def forget_channels(self, known: Sequence[str]) -> None:
        """Drop what waits for channels that are not configured any more."""
        with self._lock:
            for entry in list(self._entries.values()):
                left = [name for name in entry.pending if name in known]
                if not left:
                    _log.warning(
                        "An alert waits for channels that are not configured any more and is dropped",
                        extra=_facts(entry),
                    )
                    self._drop(entry)
                elif left != entry.pending:
                    entry.pending = left
                    self._save(entry)

    def release_held(self, summarise: Callable[[list[Notice]], Notice]) -> bool:
        """Put one notice in the place of all that were held back; returns whether there were any."""
        with self._lock:
            held = sorted((entry for entry in self._entries.values() if entry.held), key=lambda entry: entry.number)
        if not held:
            return False
        channels = list(dict.fromkeys(name for entry in held for name in entry.pending))
        # In this order, so that a crash in between tells something twice and not never.
        self.add(summarise([entry.notice for entry in held]), channels)
        with self._lock:
            for entry in held:
                self._drop(entry)
        return True

    def _keep_within_bounds(self) -> None:
        now = self._clock.monotonic()
        for entry in [entry for entry in self._entries.values() if entry.expires <= now]:
            _log.warning("An alert was never delivered and is dropped", extra=_facts(entry))
            self._drop(entry)
        while self._entries and (
            len(self._entries) > self._bounds.notices
            or sum(entry.size for entry in self._entries.values()) > self._bounds.bytes
        ):
            entry = min(self._entries.values(), key=lambda entry: (entry.notice.severity, entry.number))
            _log.warning("Too many alerts wait; one is dropped", extra=_facts(entry))
            self._drop(entry)

    def _save(self, entry: Entry) -> None:
        text = entry.to_text()
        entry.size = len(text.encode())
        try:
            write_whole(file_of(self._folder, entry.number), text)
        except OSError:
            # It is still sent from memory; only a restart would lose it.
            _log.exception("An alert cannot be kept on disk")

    def _drop(self, entry: Entry) -> None:
        self._entries.pop(entry.number, None)
        try:
            file_of(self._folder, entry.number).unlink(missing_ok=True)
        except OSError:
            _log.exception("A delivered alert cannot be removed from disk")

    def _load(self, path: Path) -> None:
        try:
            entry = read_entry(path)
        except (OSError, ValueError):
            _log.exception("A waiting alert cannot be read and is left out", extra={"file": path.name})
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            return
        # Only what was written down is known of its age here; a clock set back must not make it younger than new.
        age_s = max(0.0, self._clock.wall() - entry.notice.at)
        entry.expires = self._clock.monotonic() + self._bounds.age_s - age_s
        self._entries[entry.number] = entry


def _facts(entry: Entry) -> dict[str, Any]:
    return {"rule": entry.notice.rule, "kind": entry.notice.kind.value, "channels": entry.pending}
