"""Work items: what waits in the admission queue and is handed to an engine."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal

from steadyocr.errors import SteadyOCRError
from steadyocr.imaging.header import ImageHeader
from steadyocr.telemetry.logging import job_id_var
from steadyocr.types import OcrOptions, SideCap

_ids = itertools.count(1)


class Priority(IntEnum):
    """Who goes first when both wait."""

    INTERACTIVE = 0
    BATCH = 1


@dataclass(frozen=True, slots=True)
class Reply:
    """An engine's answer: plain values, and the overlay picture when it was asked for."""

    message: dict[str, Any]
    payload: bytes = b""


@dataclass(slots=True)
class Course:
    """What has happened to an item so far, for the books.

    Attributes:
        queued_at: Event-loop time at which it was accepted.
        started_at: Event-loop time at which an engine was given it, the last time.
        settled_at: Event-loop time of its answer or error.
        in_hand: An engine has it now.
        reported: It has been told to the event bus.
        slot: Of the engine that had it last.
        predicted_bytes: What the engine's peak was predicted to be.
        held_bytes: The engine's resident memory when it was given the item.
        peak_bytes: The engine's peak resident memory with it.
        rss_bytes: The engine's resident memory after it.
        allocation_failed: The engine ran out of memory with it.
        keep_scratch: The engine may keep scratch memory after it, since more work waits.
        untidy_before: The engine had kept scratch memory of the item before.
        untidy_after: It kept scratch memory of this one.
    """

    queued_at: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    started_at: float | None = None
    settled_at: float | None = None
    in_hand: bool = False
    reported: bool = False
    slot: int | None = None
    predicted_bytes: float | None = None
    held_bytes: int = 0
    peak_bytes: int | None = None
    rss_bytes: int | None = None
    allocation_failed: bool = False
    keep_scratch: bool = False
    untidy_before: bool = False
    untidy_after: bool = False


@dataclass(slots=True, eq=False)
class WorkItem:
    """One picture on its way. Ends exactly once, in :meth:`succeed` or :meth:`fail`.

    Attributes:
        deadline: Event-loop time after which nobody waits any more.
        job_id: Of the job that it belongs to, for the logs.
        client: Who sent it, for fairness; an opaque name.
        header: What the picture says about itself, for predicting its memory; ``None`` for internal work.
        extra: Further plain values for the engine.
        attempts: How many engines have died with this item in hand.
        outside_deaths: How many of those prove nothing against the item: engines ended from outside, say.
        suspect: An engine has died of it, perhaps; it runs alone and one step smaller.
        short_of_memory: An engine had not enough memory for it, or was killed for want of it; it runs alone and one
            step smaller.
        cap: Side cap of the present attempt.
        course: What has happened to it so far.
    """

    payload: bytes
    options: OcrOptions
    deadline: float
    kind: Literal["run", "golden", "calibrate", "fit", "postprocess"] = "run"
    priority: Priority = Priority.INTERACTIVE
    request_id: str | None = None
    job_id: str | None = field(default_factory=job_id_var.get)
    client: str = ""
    header: ImageHeader | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    attempts: int = 0
    outside_deaths: int = 0
    suspect: bool = False
    short_of_memory: bool = False
    cap: SideCap | None = None
    course: Course = field(default_factory=Course)
    id: int = field(default_factory=lambda: next(_ids))
    _digest: str | None = field(default=None, init=False, repr=False)
    outcome: asyncio.Future[Reply] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def digest(self) -> str:
        """SHA-256 of the payload. Reckoned once, when first asked for: it takes a large picture's time."""
        if self._digest is None:
            self._digest = hashlib.sha256(self.payload).hexdigest()
        return self._digest

    @property
    def brief(self) -> bool:
        """Whether it takes next to no time beside a picture: a kept map post-processed again, with nothing to read."""
        return self.kind == "postprocess" and self.header is None

    @property
    def cautious(self) -> bool:
        """Whether it runs alone and one step smaller."""
        return self.suspect or self.short_of_memory

    @property
    def abandoned(self) -> bool:
        """Whether the outcome is settled or nobody waits for it."""
        return self.outcome.done()

    @property
    def answered(self) -> bool:
        """Whether it ended in an answer, not in an error and not given up."""
        return self.outcome.done() and not self.outcome.cancelled() and self.outcome.exception() is None

    def succeed(self, reply: Reply) -> None:
        """Settle with an answer."""
        if not self.outcome.done():
            self.course.settled_at = asyncio.get_running_loop().time()
            self.outcome.set_result(reply)

    def fail(self, error: SteadyOCRError) -> None:
        """Settle with an error."""
        if not self.outcome.done():
            self.course.settled_at = asyncio.get_running_loop().time()
            self.outcome.set_exception(error)
