"""What is sent: one notice about one incident, as plain values."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any, Final

_MAX_TITLE: Final = 200
_MAX_BODY: Final = 4000
_MAX_DIGEST_LINES: Final = 40
# For the line that says how many were left out.
_MORE_CHARS: Final = 32


class Severity(IntEnum):
    """How bad it is."""

    INFO = 0
    WARNING = 1
    CRITICAL = 2

    @property
    def label(self) -> str:
        """Its name in settings and texts."""
        return self.name.lower()


class NoticeKind(StrEnum):
    """Why a notice is sent."""

    RAISED = "raised"
    REMINDER = "reminder"
    RECOVERED = "recovered"
    DIGEST = "digest"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Notice:
    """One message.

    Attributes:
        kind: Why it is sent.
        rule: Name of the rule it comes from.
        severity: Of the rule; a recovery has that of what it ends, so that both go the same way.
        title: One line.
        body: A few lines of plain text.
        at: When it came about, in seconds since the epoch.
    """

    kind: NoticeKind
    rule: str
    severity: Severity
    title: str
    body: str
    at: float

    def to_wire(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "kind": self.kind.value,
            "rule": self.rule,
            "severity": self.severity.label,
            "title": _shortened(self.title, _MAX_TITLE),
            "body": _shortened(self.body, _MAX_BODY),
            "at": self.at,
        }

    @classmethod
    def from_wire(cls, values: Mapping[str, Any]) -> Notice:
        """Rebuild a notice.

        Raises:
            KeyError: A part is missing.
            ValueError: A part is not what it must be.
        """
        return cls(
            NoticeKind(values["kind"]),
            str(values["rule"]),
            parse_severity(str(values["severity"])),
            str(values["title"]),
            str(values["body"]),
            float(values["at"]),
        )


def parse_severity(label: str) -> Severity:
    """Return the severity of this name.

    Raises:
        ValueError: There is none.
    """
    try:
        return Severity[label.upper()]
    except KeyError:
        raise ValueError(f"no severity is called {label!r}") from None


def say_time(at: float) -> str:
    """Return a moment in local time, for people."""
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(at)).strip()


def say_span(seconds: float) -> str:
    """Return a span in the largest unit that fits, for people."""
    for unit, size in (("d", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def digest(held: Sequence[Notice], source: str, now: float) -> Notice:
    """Return one notice that tells what was held back, oldest first."""
    lines: list[str] = []
    room = _MAX_BODY - _MORE_CHARS
    for notice in held[:_MAX_DIGEST_LINES]:
        line = f"{say_time(notice.at)}  {_shortened(notice.title, _MAX_TITLE)}"
        room -= len(line) + 1
        if room < 0:
            break
        lines.append(line)
    if len(held) > len(lines):
        lines.append(f"and {len(held) - len(lines)} more")
    worst = max((notice.severity for notice in held), default=Severity.INFO)
    title = f"[digest] {source}: {len(held)} notices during quiet hours"
    return Notice(NoticeKind.DIGEST, "digest", worst, title, "\n".join(lines), now)
