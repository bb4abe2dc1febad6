"""Records of runs and exports: one folder each, with a JSON file that says how it stands."""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from steadyocr.errors import InsufficientStorage, NotFoundError
from steadyocr.jobs.durability import disk_errors

_log = logging.getLogger("steadyocr.lab")

_RECORD_NAME: Final = "record.json"
LOG_NAME: Final = "log.txt"
WORK_NAME: Final = "work"
_NUMBER: Final = (int, float)
_KINDS: Final[Mapping[str, type | tuple[type, ...]]] = {
    "id": str,
    "params": dict,
    "reason": str,
    "created_at": _NUMBER,
    "started_at": _NUMBER,
    "ended_at": (*_NUMBER, type(None)),
    "pid": int,
    "ticks": int,
    "facts": dict,
}


class State(StrEnum):
    """How a run or an export stands."""

    RUNNING = "running"
    STOPPING = "stopping"
    FINISHED = "finished"
    CANCELLED = "cancelled"
    FAILED = "failed"
    INTERRUPTED = "interrupted"

    @property
    def ended(self) -> bool:
        """Whether nothing happens to it any more."""
        return self not in (State.RUNNING, State.STOPPING)


@dataclass(slots=True, kw_only=True)
class Record:
    """One run or export.

    Attributes:
        params: What was asked for.
        reason: Why it ended as it did, for its reader; empty where that goes without saying.
        pid: Of its process, to find it again after a crash of ours.
        ticks: When that process was started.
        facts: What came out.
    """

    id: str
    params: dict[str, Any]
    state: State = State.RUNNING
    reason: str = ""
    created_at: float = field(default_factory=time.time)
    started_at: float = field(default_factory=time.time)
    ended_at: float | None = None
    pid: int = 0
    ticks: int = 0
    facts: dict[str, Any] = field(default_factory=dict)

    def reopen(self) -> None:
        """Take note that it goes on."""
        self.state, self.reason, self.started_at, self.ended_at = State.RUNNING, "", time.time(), None

    def end(self, state: State, reason: str = "") -> None:
        """Take note of the end."""
        self.state, self.reason, self.ended_at = state, reason, time.time()
        self.pid = self.ticks = 0


class Records:
    """All records of one kind.

    Args:
        root: Their folder.
        max_count: How many are kept; the oldest ended one goes first.
        max_bytes: How many bytes they may take; likewise.
    """

    def __init__(self, root: Path, *, max_count: int, max_bytes: int) -> None:
        self._root = root
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._records: dict[str, Record] = {}

    def load(self) -> list[Record]:
        """Read all records; returns those whose process an earlier life of ours did not see the end of.

        Raises:
            OSError: Their folder cannot be read.
        """
        try:
            folders = sorted(self._root.iterdir())
        except FileNotFoundError:
            return []
        for folder in folders:
            record = _read(folder)
            if record is not None:
                self._records[record.id] = record
        return [record for record in self._records.values() if not record.state.ended]

    def create(self, params: dict[str, Any]) -> Record:
        """Open a new one, with an empty folder.

        Raises:
            InsufficientStorage: The disk is full. Nothing of it stays.
        """
        now = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        record = Record(id=f"{now}-{secrets.token_hex(4)}", params=params)
        try:
            with disk_errors():
                self.folder(record).mkdir(parents=True, mode=0o700)
                self._write(record)
        except (OSError, InsufficientStorage):
            shutil.rmtree(self.folder(record), ignore_errors=True)
            raise
        self._records[record.id] = record
        self.sweep()
        return record

    def save(self, record: Record) -> bool:
        """Write it down; returns whether the disk took it. If not, it is known until the service ends."""
        try:
            self._write(record)
        except OSError:
            _log.exception("A record of the laboratory cannot be written")
            return False
        return True

    def _write(self, record: Record) -> None:
        path = self.folder(record) / _RECORD_NAME
        temporary = path.with_name(f".{_RECORD_NAME}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps(asdict(record), ensure_ascii=False), encoding="utf-8")
        temporary.replace(path)

    def get(self, record_id: str) -> Record:
        """Find one.

        Raises:
            NotFoundError: There is none of this id, or not any more.
        """
        record = self._records.get(record_id)
        if record is None:
            raise NotFoundError("no such run or export, or not any more")
        return record

    def newest_first(self) -> list[Record]:
        """Return all."""
        return sorted(self._records.values(), key=lambda record: record.created_at, reverse=True)

    def folder(self, record: Record) -> Path:
        """Where its files are."""
        return self._root / record.id

    def sweep(self) -> None:
        """Remove what is beyond the bounds; what still runs, and the newest, stay."""
        ended = [record for record in self.newest_first()[1:] if record.state.ended]
        used = {record.id: _size(self.folder(record)) for record in self._records.values()}
        while ended and (len(self._records) > self._max_count or sum(used.values()) > self._max_bytes):
            record = ended.pop()
            del self._records[record.id]
            del used[record.id]
            shutil.rmtree(self.folder(record), ignore_errors=True)


def _read(folder: Path) -> Record | None:
    try:
        values = json.loads((folder / _RECORD_NAME).read_text(encoding="utf-8"))
        record = Record(**{**values, "state": State(values["state"])})
        sound = _is_sound(asdict(record))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        sound = False
    if not sound:
        _log.warning("A record of the laboratory cannot be read and is left alone")
        return None
    return record if record.id == folder.name else None


def _is_sound(values: Mapping[str, Any]) -> bool:
    """Whether what was read is of the kinds that the rest relies on; JSON holds anything."""
    if not all(isinstance(values[name], kinds) for name, kinds in _KINDS.items()):
        return False
    use = values["facts"].get("use")
    return use is None or (isinstance(use, dict) and isinstance(use.get("state"), str))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
