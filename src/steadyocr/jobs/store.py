"""What a job store does, for whoever uses one. There is one on a database and one in memory, for tests."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final, Protocol

from steadyocr.errors import InsufficientStorage
from steadyocr.jobs.models import (
    Census,
    ErrorWire,
    Event,
    Heartbeat,
    Item,
    ItemOutcome,
    ItemState,
    Job,
    JobPlace,
    JobState,
    Lease,
    Load,
    NewItem,
    NewJob,
    Progress,
)
from steadyocr.jobs.stopping import KeepOn, always
from steadyocr.jobs.watch import Watch
from steadyocr.jobs.webhook_models import Delivery, DeliveryOutcome, Webhook

RETRYABLE = (ItemState.FAILED, ItemState.DEAD)
# Methods that change nothing; that they work says nothing about those that do.
READS: Final = frozenset(
    {
        "job", "jobs", "progress", "items", "item", "results", "events", "waiting", "load", "census", "webhook",
        "referenced", "stored_bytes", "lack_of_room",
    }
)  # fmt: skip


class JobStore(Protocol):
    """Jobs, their items, and who works on them. Blocking; see :mod:`steadyocr.jobs.async_store`.

    Every call is one transaction: it happens or it does not. Calls about a lease answer whether the lease still
    counted; with a lost one they change nothing. All of them raise :class:`Unavailable` when the store cannot be
    reached and :class:`InsufficientStorage` when its disk is full.
    """

    def submit(self, new: NewJob) -> Job:
        """Store a job; a repeated idempotency key gives the first one's job.

        Raises:
            EmptyInput: It has no items.
            PayloadTooLarge: It has too many.
            IdempotencyConflict: Its key stands for another request.
            InsufficientStorage: The disk is low and nothing new is taken; or the job does not fit beside those that are
                unfinished or ended just now.
        """

    def lack_of_room(
        self, size_bytes: int, *, tenant: str = "", idempotency_key: str | None = None
    ) -> InsufficientStorage | None:
        """Return why :meth:`submit` would refuse a job for its size now; ``None`` when it would not.

        A job that the key stands for already is never refused for that.
        """

    def claim(self, owner: str, *, limit: int = 1, lease_s: float = 30.0, token: str | None = None) -> list[Lease]:
        """Lease the next items. Of several, each needs :meth:`begin` before it is run.

        A caller that gives a token of its own, one that nobody guesses, can ask again with it when no answer came:
        what that claim took is given out then, instead of being lost until its lease runs out.
        """

    def begin(self, lease: Lease) -> bool:
        """Say that work on one of several claimed items starts now."""

    def heartbeat(self, leases: Sequence[Lease], *, lease_s: float = 30.0) -> Heartbeat:
        """Extend exactly these leases."""

    def complete(self, lease: Lease, outcome: ItemOutcome) -> bool:
        """Make an item's result visible."""

    def expand(self, lease: Lease, children: Sequence[NewItem]) -> bool:
        """Complete an archive's item and queue its content.

        Raises:
            PayloadTooLarge: The job would have too many items.
            NoRoom: The content does not fit beside what is promised, as in :meth:`submit`.
        """

    def fail(self, lease: Lease, error: ErrorWire, *, dead: bool = False) -> bool:
        """End an item for what it is, as failed; or as dead for what it does to those who try it."""

    def retry_later(self, lease: Lease, error: ErrorWire) -> ItemState | None:
        """Count a bad run: queued again after a pause, or dead; ``None`` when the lease was lost."""

    def release(self, lease: Lease, *, delay_s: float = 0.0) -> bool:
        """Put an item back with nobody to blame."""

    def reap(self, *, lease_s: float = 30.0) -> int:
        """Take back items whose lease has run out. Leases are about as long as this, at most twice."""

    def expire_overdue(self) -> int:
        """End what waits in jobs whose deadline has passed."""

    def cancel(self, job_id: str) -> Job:
        """End what waits; what runs is stopped at its next heartbeat.

        Raises:
            JobNotFound: There is no such job.
        """

    def retry(
        self, job_id: str, states: Collection[ItemState] = RETRYABLE, positions: Collection[int] | None = None
    ) -> Job:
        """Run items that ended in one of these states again, with a clean slate; only those at `positions` if given.

        Raises:
            JobNotFound: There is no such job.
        """

    def delete(self, job_id: str) -> None:
        """Forget a job and all about it; leases on its items are lost.

        Raises:
            JobNotFound: There is no such job.
        """

    def job(self, job_id: str) -> Job:
        """Return a job.

        Raises:
            JobNotFound: There is no such job.
        """

    def jobs(
        self,
        *,
        tenant: str | None = None,
        states: Collection[JobState] | None = None,
        before: JobPlace | None = None,
        limit: int = 50,
    ) -> list[Job]:
        """Return jobs, newest first, from the one after `before` on."""

    def progress(self, job_id: str) -> Progress:
        """Return how far a job is and how much is before it.

        Raises:
            JobNotFound: There is no such job.
        """

    def items(
        self,
        job_id: str,
        *,
        after: int = -1,
        offset: int = 0,
        limit: int = 100,
        states: Collection[ItemState] | None = None,
    ) -> list[Item]:
        """Return items by position, without results; of those that fit, the first `offset` are left out.

        Raises:
            JobNotFound: There is no such job.
        """

    def item(self, job_id: str, position: int) -> Item:
        """Return one item, with its result.

        Raises:
            JobNotFound: There is no such job.
            NotFoundError: It has no such item.
        """

    def results(self, job_id: str, *, after: int = -1, limit: int = 100) -> list[Item]:
        """Return ended items with results by position, up to the first unfinished one.

        Raises:
            JobNotFound: There is no such job.
        """

    def events(self, job_id: str, *, after: int = 0, limit: int = 100) -> list[Event]:
        """Return events by number.

        Raises:
            JobNotFound: There is no such job.
        """

    def waiting(self) -> int:
        """Return how many items are queued."""

    def load(self) -> Load:
        """Return how much has been done and is to be done."""

    def census(self) -> Census:
        """Count jobs and items by state."""

    def webhook(self, job_id: str) -> Webhook | None:
        """Return how far the telling of a job's end is; ``None`` when nobody is to be told."""

    def claim_deliveries(
        self, *, limit: int = 1, lease_s: float = 60.0, except_to: Collection[str] = ()
    ) -> list[Delivery]:
        """Take webhook deliveries that are due; one that is not settled within the lease comes up again.

        Those to the receivers `except_to` (see :func:`~steadyocr.jobs.webhook_models.receiver_of`) are left for later.
        """

    def settle_delivery(self, delivery: Delivery, outcome: DeliveryOutcome) -> bool:
        """Write down how a delivery went; returns whether it was still this one's to say."""

    def referenced(self, keys: Iterable[str]) -> set[str]:
        """Return those blob keys that an item refers to."""

    def stored_bytes(self) -> int:
        """Return what all jobs take."""

    def prune(self, older_than_s: float, keep_on: KeepOn = always, *, by_hand: bool = False) -> int:
        """Delete jobs that ended longer ago than this; returns how many.

        Args:
            older_than_s: How long.
            keep_on: Asked before each of several transactions whether there shall be another.
            by_hand: Somebody wants it now. Else it waits for a whole such time after the clock seems to have leapt.
        """

    def prune_to_quota(self, max_bytes: int, keep_on: KeepOn = always) -> int:
        """Delete ended jobs until all take no more than this; returns how many.

        Oldest first, and those whose webhook is still due last; none that ended less than
        :attr:`StoreConfig.grace_s <steadyocr.jobs.config.StoreConfig.grace_s>` ago.
        It can be broken off like :meth:`prune`.
        """

    def try_writing(self) -> None:
        """Write what nobody sees, to know whether that works."""

    def watch(self) -> Watch:
        """Return something that waits for changes."""

    def stop_retrying(self) -> None:
        """Give up at the first failure from now on, so that :meth:`close` need not wait long. Does not block."""

    def close(self) -> None:
        """Let go of everything. Safe to call twice."""
