"""A bounded place for small sets of files: by age, by number, by bytes; what lay there longest goes first.

Where entries have owners (the fact ``owner``), whoever takes most of what is short makes room: nobody can push out what
others keep.

Everything here blocks and belongs in a thread; a lock makes it safe there. An entry appears whole or not at all: its
folder is written under another name and renamed.

Age is measured on a clock that nobody sets. What lay there before this process began has only the wall clock's word for
its age: where that was set back meanwhile, it counts as new.
"""

from __future__ import annotations

import json
import logging
import math
import secrets
import shutil
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from steadyocr.errors import InsufficientStorage, NotFoundError, Unavailable
from steadyocr.jobs.disk import refuse_low_disk

_log = logging.getLogger("steadyocr.shelf")

_FACTS_NAME: Final = "entry.json"
_ID_BYTES: Final = 16
_UNFINISHED: Final = ".new-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much may lie there.

    Attributes:
        max_age_s: Seconds after which an entry goes.
        max_count: Entries.
        max_bytes: Bytes of all their files.
        min_free_bytes: Disk space below which nothing new is taken.
        renewed_by_use: Age counts from the last use instead of from the beginning.
    """

    max_age_s: float
    max_count: int
    max_bytes: int
    min_free_bytes: int = 0
    renewed_by_use: bool = False


@dataclass(slots=True)
class Entry:
    """One set of files.

    Attributes:
        id: Its name, which cannot be guessed.
        at: When it was put there, seconds since 1970; to be shown.
        since: When its age began, on the process's own clock.
        size: Bytes of its files.
        facts: Plain values that belong to it.
    """

    id: str
    at: float
    since: float
    size: int
    facts: dict[str, Any] = field(default_factory=dict)


class Shelf:
    """The place.

    Args:
        root: Its folder, made when something is put there.
        bounds: How much may lie there.
        missing: Makes the error for an entry that is not there, or not any more.
        clock: Seconds since 1970.
        monotonic: Seconds that only ever pass.
    """

    def __init__(
        self,
        root: Path,
        bounds: Bounds,
        missing: Callable[[], NotFoundError],
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = root
        self._bounds = bounds
        self._missing = missing
        self._clock = clock
        self._monotonic = monotonic
        # In the order in which they were put there.
        self._entries: dict[str, Entry] = {}
        # Folders that are being filled: they are not what an earlier process left.
        self._writing: set[str] = set()
        self._lock = threading.Lock()

    def load(self) -> None:
        """Take up what an earlier process left, and throw away what it did not finish.

        Raises:
            OSError: The folder cannot be read now. Nothing has changed, and it can be tried again at any time.
        """
        with self._lock:
            found = sorted(self._left_behind(), key=lambda entry: entry.at)
            self._entries = {entry.id: entry for entry in (*found, *self._entries.values())}
            self._sweep()

    def _left_behind(self) -> list[Entry]:
        try:
            folders = list(self._root.iterdir())
        except FileNotFoundError:
            return []
        found = []
        for folder in folders:
            if folder.name in self._entries or folder.name in self._writing:
                continue
            try:
                entry = self._read_entry(folder)
            except OSError:
                # The disk's fault may pass; what is removed is gone.
                _log.warning("A kept entry cannot be read now and is left alone", exc_info=True)
                continue
            if entry is None:
                shutil.rmtree(folder, ignore_errors=True)
            else:
                found.append(entry)
        return found

    def put(self, files: Mapping[str, bytes], facts: Mapping[str, Any]) -> Entry:
        """Put files there under a new name.

        Raises:
            InsufficientStorage: The disk is too full, or they are more than the whole place may hold.
            OSError: They could not be written.
        """
        if sum(map(len, files.values())) > self._bounds.max_bytes:
            raise InsufficientStorage("this is more than may be kept at all", max_bytes=self._bounds.max_bytes)
        now = self._clock()
        size = sum(map(len, files.values()))
        entry = Entry(secrets.token_urlsafe(_ID_BYTES), now, self._monotonic(), size, dict(facts))
        unfinished = self._root / f"{_UNFINISHED}{entry.id}"
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        refuse_low_disk(self._root, self._bounds.min_free_bytes, entry.size)
        self._writing.add(unfinished.name)
        try:
            unfinished.mkdir(mode=0o700)
            for name, data in files.items():
                (unfinished / name).write_bytes(data)
            (unfinished / _FACTS_NAME).write_text(json.dumps({"at": now, "facts": entry.facts}), encoding="utf-8")
            with self._lock:
                unfinished.rename(self._root / entry.id)
                # It may have waited for the lock, and must not go before what came meanwhile.
                entry.since = self._monotonic()
                self._entries[entry.id] = entry
                self._sweep()
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        finally:
            self._writing.discard(unfinished.name)
        return entry

    def use(self, entry_id: str) -> Entry:
        """Return an entry.

        Raises:
            NotFoundError: It is not there, or not any more.
        """
        with self._lock:
            self._sweep()
            entry = self._entries.get(entry_id)
            if entry is None:
                raise self._missing()
            if self._bounds.renewed_by_use:
                entry.since = self._monotonic()
            return entry

    def read(self, entry_id: str, name: str) -> bytes:
        """Return one of its files.

        Raises:
            NotFoundError: The entry or the file is not there, or not any more, or the disk does not give it.
        """
        entry = self.use(entry_id)
        try:
            return (self._root / entry.id / name).read_bytes()
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                _log.warning("A kept file cannot be read", exc_info=True)
            raise self._missing() from error

    def replace(self, entry_id: str, name: str, change: Callable[[bytes], bytes]) -> None:
        """Change one of its files; one change at a time.

        Raises:
            NotFoundError: The entry is not there any more.
        """
        with self._lock:
            entry = self._entries.get(entry_id)
            if entry is None:
                raise self._missing()
            path = self._root / entry.id / name
            before = path.read_bytes()
            after = change(before)
            temporary = path.with_name(f".{name}.tmp")
            temporary.write_bytes(after)
            temporary.replace(path)
            entry.size += len(after) - len(before)
            self._sweep()

    def delete(self, entry_id: str) -> None:
        """Remove an entry.

        Raises:
            NotFoundError: It is not there.
            Unavailable: Its files cannot be removed now. It is still there: whoever has something forgotten relies
                on that.
        """
        with self._lock:
            if entry_id not in self._entries:
                raise self._missing()
            try:
                shutil.rmtree(self._root / entry_id)
            except FileNotFoundError:
                pass
            except OSError as error:
                raise Unavailable("it cannot be deleted now: its files stay", retry_after_s=60.0) from error
            del self._entries[entry_id]

    def newest_first(self) -> list[Entry]:
        """Return all entries that are still there."""
        with self._lock:
            self._sweep()
            return list(reversed(self._entries.values()))

    def sweep(self) -> None:
        """Remove what is too old."""
        with self._lock:
            self._sweep()

    @property
    def max_count(self) -> int:
        """Entries that can be there at most."""
        return self._bounds.max_count

    @property
    def used_bytes(self) -> int:
        """Bytes of all files."""
        with self._lock:
            return sum(entry.size for entry in self._entries.values())

    def _sweep(self) -> None:
        bounds, now = self._bounds, self._monotonic()
        queues: dict[str, deque[Entry]] = {}
        counts: Counter[str] = Counter()
        sizes: Counter[str] = Counter()
        for entry in sorted(self._entries.values(), key=lambda entry: entry.since):
            if now - entry.since > bounds.max_age_s:
                self._drop(entry.id)
                continue
            owner = str(entry.facts.get("owner", ""))
            queues.setdefault(owner, deque()).append(entry)
            counts[owner] += 1
            sizes[owner] += entry.size
        while (too_many := len(self._entries) > bounds.max_count) or sizes.total() > bounds.max_bytes:
            shares = counts if too_many else sizes
            most = max(shares.values())
            # Of two with as much, the one whose oldest is older.
            owner = min((name for name in shares if shares[name] == most), key=lambda name: queues[name][0].since)
            entry = queues[owner].popleft()
            counts[owner] -= 1
            sizes[owner] -= entry.size
            self._drop(entry.id)

    def _drop(self, entry_id: str) -> None:
        del self._entries[entry_id]
        shutil.rmtree(self._root / entry_id, ignore_errors=True)

    def _read_entry(self, folder: Path) -> Entry | None:
        """Return an entry, or ``None`` for what is none, or damaged."""
        if folder.name.startswith(_UNFINISHED) or not folder.is_dir():
            return None
        try:
            values = json.loads((folder / _FACTS_NAME).read_text(encoding="utf-8"))
            size = sum(path.stat().st_size for path in folder.iterdir() if path.name != _FACTS_NAME)
            at, facts = _moment(values["at"]), dict(values["facts"])
        except (FileNotFoundError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            _log.warning("A kept entry is damaged and is removed")
            return None
        age_s = max(0.0, self._clock() - at)
        return Entry(folder.name, at, self._monotonic() - age_s, size, facts)


def _moment(value: str | float) -> float:
    at = float(value)
    if not math.isfinite(at):
        raise ValueError("no moment")
    return at
