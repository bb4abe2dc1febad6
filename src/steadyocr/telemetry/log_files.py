"""Log files that rotate by size and by age, and that a full disk cannot turn against the service."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

# The time stands first in a line of ours; the rest of it may be as long as it likes.
_FIRST_TIME: Final = re.compile(rb'\{"time": ?"([^"]{1,64})"')
_HEAD_BYTES: Final = 128
# After a write or a rotation failed, the next rotation is not tried before this.
_PAUSE_S: Final = 10.0
# Whether the file still lies where it was is looked at so often, in seconds.
_LOOK_S: Final = 1.0

_dropped = 0


def count_dropped() -> None:
    """Note that a record could not be written."""
    global _dropped  # noqa: PLW0603 - one count for all handlers of this process
    _dropped += 1


def dropped_records() -> int:
    """Return how many records of this process could not be written."""
    return _dropped


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFiles:
    """Where log files lie and when they rotate.

    Attributes:
        folder: Made when missing, for its owner only.
        max_bytes: A file is rotated before it passes this.
        max_age_s: A file whose first line is older is rotated.
        keep: Rotated files of each name that are kept, ``NAME.1`` being the newest.
    """

    folder: Path
    max_bytes: int = 16 << 20
    max_age_s: float = 86_400.0
    keep: int = 7


class RotatedFileHandler(logging.Handler):
    """One log file. Each record is one write, so that nothing is held back and a crash loses no line.

    A file that somebody removes or moves away is made anew, so that no line goes where nobody looks.

    Args:
        files: Where and when to rotate.
        name: Of the file.
        clock: Seconds since the epoch.

    Raises:
        OSError: The file cannot be opened.
    """

    def __init__(self, files: LogFiles, name: str, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._files = files
        self._clock = clock
        self._path = files.folder / name
        self._pause_until = 0.0
        self._looked_at = 0.0
        self._descriptor = -1
        self._open()
        self._forget_beyond_keep()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record, or drop it."""
        try:
            line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
            self._look_for_file()
            self._rotate_if_due(len(line))
            self._write(line)
        except Exception:  # noqa: BLE001 - whatever is wrong with the disk or the record, it stops here
            count_dropped()

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        with self.lock or contextlib.nullcontext():
            descriptor, self._descriptor = self._descriptor, -1
            if descriptor >= 0:
                os.close(descriptor)
        super().close()

    def _open(self) -> None:
        self._files.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        previous, self._descriptor = self._descriptor, descriptor
        if previous >= 0:
            os.close(previous)
        self._torn = False
        self._looked_at = self._clock()
        status = os.fstat(descriptor)
        self._size, self._identity = status.st_size, (status.st_dev, status.st_ino)
        self._since = _first_time(self._path) if self._size else None
        if self._since is None:
            self._since = self._clock()

    def _look_for_file(self) -> None:
        """Open the file anew when it does not lie under its name any more."""
        now = self._clock()
        # A clock that was set back must not put the next look off.
        if self._descriptor < 0 or 0 <= now - self._looked_at < _LOOK_S:
            return
        self._looked_at = now
        try:
            status = self._path.stat()
            if (status.st_dev, status.st_ino) == self._identity:
                return
        except FileNotFoundError:
            pass
        except OSError:
            return
        try:
            self._open()
        except OSError:
            # What was moved away goes on; where it was removed, this tells that lines are lost.
            count_dropped()

    def _forget_beyond_keep(self) -> None:
        """Delete old files that a longer count once kept."""
        for path in self._files.folder.glob(f"{self._path.name}.*"):
            number = path.name.removeprefix(f"{self._path.name}.")
            if number.isdecimal() and int(number) > self._files.keep:
                with contextlib.suppress(OSError):
                    path.unlink()

    def _write(self, line: bytes) -> None:
        if self._descriptor < 0:
            raise ValueError("the log file is closed")
        if self._torn:
            line = b"\n" + line
        written = os.write(self._descriptor, line)
        self._size += written
        # The disk became full within the line; what comes next starts on a line of its own.
        self._torn = written < len(line)
        if self._torn:
            raise OSError("written in part")

    def _rotate_if_due(self, more_bytes: int) -> None:
        now = self._clock()
        too_large = self._size and self._size + more_bytes > self._files.max_bytes
        too_old = self._size and now - (self._since or now) >= self._files.max_age_s
        if not (too_large or too_old) or now < self._pause_until:
            return
        try:
            self._rotate()
        except OSError:
            # The present file goes on; it is better too large than lost.
            self._pause_until = now + _PAUSE_S
            count_dropped()

    def _rotate(self) -> None:
        for number in range(self._files.keep - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                self._numbered(number).replace(self._numbered(number + 1))
        # Somebody may have removed it since the last look.
        with contextlib.suppress(FileNotFoundError):
            self._path.replace(self._numbered(1))
        self._open()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


def _first_time(path: Path) -> float | None:
    """Return when the first line of a file was written, by its own word."""
    try:
        with path.open("rb") as stream:
            found = _FIRST_TIME.match(stream.read(_HEAD_BYTES))
        return datetime.fromisoformat(found[1].decode()).timestamp() if found else None
    except (OSError, ValueError):
        return None
