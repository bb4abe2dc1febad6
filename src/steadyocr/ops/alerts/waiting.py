"""One notice that waits, and its file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from steadyocr.ops.alerts.notices import Notice

SUFFIX: Final = ".json"
# No moment of ours lies beyond it, and none can be shown.
_END_OF_TIME: Final = 1e11


@dataclass(slots=True)
class Entry:
    """A waiting notice.

    Attributes:
        number: Its place in the order of arrival.
        notice: What is to be sent.
        pending: Names of the channels that have not had it.
        held: It waits for the end of quiet hours.
        refusals: How often a channel that was reached did not take it, by channel.
        size: Of its file, in bytes.
        expires: On the monotonic clock, so that a jump of the wall clock drops nothing.
    """

    number: int
    notice: Notice
    pending: list[str]
    held: bool
    refusals: dict[str, int] = field(default_factory=dict)
    size: int = 0
    expires: float = 0.0

    def to_text(self) -> str:
        """Return what its file says."""
        return json.dumps({"notice": self.notice.to_wire(), "pending": self.pending, "held": self.held})


def file_of(folder: Path, number: int) -> Path:
    """Return the file of an entry."""
    return folder / f"{number:010d}{SUFFIX}"


def files_in(folder: Path) -> list[Path]:
    """Return the files of all entries, oldest first."""
    return sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []


def read_entry(path: Path) -> Entry:
    """Read one file; how long the entry may still wait is for the reader to say.

    Raises:
        OSError: It cannot be read.
        ValueError: It is damaged.
    """
    text = path.read_text(encoding="utf-8")
    try:
        values = json.loads(text)
        notice, pending = Notice.from_wire(values["notice"]), [str(name) for name in values["pending"]]
        entry = Entry(int(path.stem), notice, pending, bool(values["held"]), size=len(text.encode()))
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("this is no waiting notice") from error
    if not 0 <= notice.at < _END_OF_TIME:
        raise ValueError("this notice is of no time")
    return entry


def waiting_in(folder: Path) -> list[Entry]:
    """Return what waits in a folder and change nothing there: a service may be at work on it."""
    found = []
    for path in files_in(folder):
        # One that was sent or is damaged meanwhile is not waiting.
        try:
            found.append(read_entry(path))
        except (OSError, ValueError):
            continue
    return found
