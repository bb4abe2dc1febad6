"""What a check says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check.

    Attributes:
        name: Of the check.
        status: How bad it is.
        message: What was found, with its figures.
        advice: What to do; empty when nothing is to be done.
    """

    name: str
    status: Status
    message: str
    advice: str = ""

    def to_wire(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def ok(name: str, message: str) -> Finding:
    """All is well."""
    return Finding(name, Status.OK, message)


def warn(name: str, message: str, advice: str) -> Finding:
    """The service runs, but not as well as it could."""
    return Finding(name, Status.WARN, message, advice)


def fail(name: str, message: str, advice: str) -> Finding:
    """The service cannot run so."""
    return Finding(name, Status.FAIL, message, advice)


def worst(findings: Sequence[Finding]) -> Status:
    """Return the worst status."""
    order = list(Status)
    return max((finding.status for finding in findings), key=order.index, default=Status.OK)
