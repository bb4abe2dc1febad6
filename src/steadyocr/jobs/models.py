"""The values of the job engine: jobs, items, leases and what becomes of them. Plain and frozen.

All times are seconds since 1970 by the store's own clock (see :mod:`steadyocr.jobs.clock`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Literal, NamedTuple


class JobState(StrEnum):
    """Where a job stands; `Job.finished_at` says whether anything of it is still under way."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class ItemState(StrEnum):
    """Where an item stands."""

    QUEUED = "queued"
    LEASED = "leased"
    DONE = "done"
    FAILED = "failed"
    DEAD = "dead"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


# An item in one of these has its outcome. The job row holds one counter for each.
ENDED: Final = (ItemState.DONE, ItemState.FAILED, ItemState.DEAD, ItemState.CANCELLED, ItemState.EXPIRED)

ItemKind = Literal["read", "expand"]
ErrorWire = Mapping[str, Any]
LeaseKey = tuple[int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewItem:
    """An item to be.

    Attributes:
        input_ref: Key of the blob to work on; ``None`` only together with `error`.
        name: The client's name for it. A label, never a path.
        size_bytes: Size of the input.
        kind: ``read`` a picture, or ``expand`` an archive into more items.
        error: The item is refused already and enters as failed, with this error.
    """

    input_ref: str | None
    name: str = ""
    size_bytes: int = 0
    kind: ItemKind = "read"
    error: ErrorWire | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job to be.

    Attributes:
        items: At least one.
        options: OCR options, as plain values.
        meta: The client's own values, given back as they came.
        priority: Higher goes first; jobs of one priority share fairly.
        deadline_s: Seconds from now after which what is not done is given up.
        tenant: Whose job it is; idempotency keys are unique within it.
        idempotency_key: A repeated submit with the same key and hash gives the job of the first one.
        request_hash: Hash of the whole request, to tell a repetition from a misuse of the key.
        webhook_url: Whom to tell when the job has ended; see :mod:`steadyocr.jobs.webhook`.
    """

    items: tuple[NewItem, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)
    priority: int = 0
    deadline_s: float | None = None
    tenant: str = ""
    idempotency_key: str | None = None
    request_hash: str | None = None
    webhook_url: str | None = None


class JobPlace(NamedTuple):
    """Where a job stands in the list of all, which goes by this. It outlives the job."""

    created_at: float
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as it stands.

    Attributes:
        total: All its items, expanded archives included.
        done: Items read.
        failed: Items refused for what they are.
        dead: Items given up after too many tries.
        cancelled: Items nobody wants any more.
        expired: Items that were not started in time.
        stored_bytes: What its inputs and results take, without regard to blobs shared with other jobs.
        last_event: Number of its newest event.
        finished_at: When its last item ended; ``None`` while one is queued or leased.
    """

    id: str
    tenant: str
    state: JobState
    priority: int
    options: Mapping[str, Any]
    meta: Mapping[str, Any]
    created_at: float
    started_at: float | None
    finished_at: float | None
    deadline: float | None
    total: int
    done: int
    failed: int
    dead: int
    cancelled: int
    expired: int
    stored_bytes: int
    last_event: int

    @property
    def place(self) -> JobPlace:
        """Where it stands in the list of all jobs."""
        return JobPlace(self.created_at, self.id)

    @property
    def ended(self) -> int:
        """How many items have their outcome."""
        return self.done + self.failed + self.dead + self.cancelled + self.expired

    @property
    def remaining(self) -> int:
        """How many items are queued or leased."""
        return self.total - self.ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """An item as it stands.

    Attributes:
        position: Its place in the job, from 0; items made by an expansion follow at the end.
        parent: Position of the archive it came from.
        attempts: Runs that ended badly and were its own fault as far as anybody knows.
        losses: Leases that ran out: the node that had it died or was cut off.
        run_at: Not before this time.
        result: What was read, when small; else see `result_ref`.
        result_ref: Blob key of the result, JSON.
        lines: Lines in `result`, in lists of items, which go without it; ``None`` where it is not in the row.
        overlay_ref: Blob key of the overlay picture.
        error: Why it failed, or what the last try ended with, as :meth:`SteadyOCRError.to_wire` gives it.
    """

    id: int
    job_id: str
    position: int
    parent: int | None
    kind: ItemKind
    name: str
    input_ref: str | None
    size_bytes: int
    state: ItemState
    attempts: int
    losses: int
    run_at: float
    owner: str | None
    lease_until: float | None
    started_at: float | None
    finished_at: float | None
    result: Any
    result_ref: str | None
    overlay_ref: str | None
    error: ErrorWire | None
    lines: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to settle one item, until it is lost.

    Attributes:
        token: Fencing token, new for every claim: only who holds the current one may settle the item.
        alone: The item has been in hand when something broke; run it with nothing beside it, so that a second
            break blames nobody else.
    """

    item_id: int
    token: str
    job_id: str
    position: int
    kind: ItemKind
    name: str
    input_ref: str
    size_bytes: int
    options: Mapping[str, Any]
    attempts: int
    losses: int
    deadline: float | None
    lease_until: float

    @property
    def key(self) -> LeaseKey:
        """What identifies it. Never the item's id alone: the same item comes back under another token."""
        return (self.item_id, self.token)

    @property
    def alone(self) -> bool:
        """Whether it must run with nothing beside it."""
        return self.attempts + self.losses > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemOutcome:
    """What a finished item gives.

    Attributes:
        result: JSON values; empty ones (no text found) are results like any other.
        result_ref: Blob key of the result instead, when it is large.
        overlay_ref: Blob key of the overlay picture, if one was asked for.
        stored_bytes: What all of it takes.
    """

    result: Any = None
    result_ref: str | None = None
    overlay_ref: str | None = None
    stored_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What a heartbeat learnt.

    Attributes:
        lost: Leases that are held no more; whatever they compute is worthless.
        unwanted: Leases still held whose job was cancelled or has expired; stop and release them.
    """

    lost: frozenset[LeaseKey]
    unwanted: frozenset[LeaseKey]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job.

    Attributes:
        id: Counts from 1 within the job, without gaps; old ones are dropped.
        kind: ``job`` (it changed as a whole) or ``item`` (one item ended).
        data: State and counters after it; for ``item`` its position and state as well.
    """

    id: int
    at: float
    kind: Literal["job", "item"]
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Load:
    """How much has been done and is to be done, over all jobs in the store.

    Attributes:
        ended: Items that were worked off: done, failed or dead. Falls when jobs are deleted or run again.
        unfinished: Items that are queued or leased.
    """

    ended: int
    unfinished: int


@dataclass(frozen=True, slots=True)
class Census:
    """How the whole store stands.

    Attributes:
        jobs: Jobs by state; a state without any may be missing.
        items: Items by state, likewise.
        oldest_waiting_s: Age of the oldest job of which something is unfinished, in seconds; 0 without one.
    """

    jobs: Mapping[JobState, int]
    items: Mapping[ItemState, int]
    oldest_waiting_s: float


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is.

    Attributes:
        leased: Its items in hand right now.
        ahead: Items of all jobs that are taken before its last waiting one, that one included; 0 when none waits.
        archives: Archives among these and among what is in hand: how many pictures they bring nobody knows yet.
    """

    job: Job
    leased: int
    ahead: int
    archives: int = 0
