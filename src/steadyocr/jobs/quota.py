"""What jobs may take together.

Results are promised to clients: until a job has ended, and for a while after that. So room for a new job is never made
of them; a job that does not fit beside what is promised is refused, and its client can come again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sqlalchemy import ColumnElement, func, or_, select

from steadyocr.errors import InsufficientStorage
from steadyocr.jobs.config import StoreConfig
from steadyocr.jobs.database import Tx
from steadyocr.jobs.schema import job

# Any constant will do, as long as nothing else in the same database takes it.
_ADVISORY_LOCK: Final = 0x57EAD0C8
# When unfinished jobs fill the quota, nobody knows when there is room.
_SOME_TIME_S: Final = 60.0


class NoRoom(InsufficientStorage):
    """A job does not fit beside what is promised: an answer of a store that works, no trouble of its."""


class TooLargeForAnyRoom(NoRoom):
    """A job would not fit if there were nothing else."""

    retryable = False


def promised_within(now: float, grace_s: float) -> tuple[float, float]:
    """Return after when and until when a job must have ended for its results to be promised still.

    The end may lie ahead when the clock was set back, but no further: it must not keep a job for as long as it went
    back.
    """
    return now - grace_s, now + grace_s


def is_promised(tx: Tx) -> ColumnElement[bool]:
    """Whether the results of a job that has ended are promised still."""
    after, until = promised_within(tx.now, tx.config.grace_s)
    return (job.c.finished_at > after) & (job.c.finished_at <= until)


def refuse_over_quota(tx: Tx, size_bytes: int) -> None:
    """Refuse a new job, or what was packed in one, that does not fit beside what is promised.

    On PostgreSQL others wait until this one is stored.

    Raises:
        NoRoom: It does not.
    """
    if tx.postgres and tx.config.max_stored_bytes > 0:
        # Of two at once each would find the room that the other is about to take.
        tx.connection.execute(select(func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
    if (lack := lack_of_room(tx, size_bytes)) is not None:
        raise lack


def lack_of_room(tx: Tx, size_bytes: int) -> NoRoom | None:
    """Return why a new job of this size does not fit beside what is promised; ``None`` when it does."""
    if tx.config.max_stored_bytes <= 0:
        return None
    size = func.coalesce(func.sum(job.c.stored_bytes), 0)
    taken = tx.connection.execute(select(size).where(or_(job.c.finished_at.is_(None), is_promised(tx)))).scalar_one()
    if taken + size_bytes <= tx.config.max_stored_bytes:
        return None
    rows = tx.connection.execute(select(job.c.finished_at, job.c.stored_bytes).where(is_promised(tx)))
    ended = [(row.finished_at, row.stored_bytes) for row in rows]
    return refusal(tx.config, tx.now, int(taken), size_bytes, ended)


def refusal(
    config: StoreConfig, now: float, taken_bytes: int, size_bytes: int, ended: Iterable[tuple[float, int]]
) -> NoRoom:
    """Return the error for a job that does not fit.

    Args:
        config: What the store may hold.
        now: The time.
        taken_bytes: What is promised, unfinished jobs included.
        size_bytes: What the job takes.
        ended: When the promised ones that have ended did so, and what they take.
    """
    limit = config.max_stored_bytes
    details = {"limit_bytes": limit, "job_bytes": size_bytes}
    if size_bytes > limit:
        return TooLargeForAnyRoom(
            "the job is larger than all jobs together may be; send it in smaller parts", **details
        )
    wait_s = _wait_s(taken_bytes + size_bytes - limit, ((at + config.grace_s - now, size) for at, size in ended))
    return NoRoom(
        "stored jobs take all the room they may; delete those whose results you have, or try again later",
        retry_after_s=wait_s,
        **details,
    )


def _wait_s(missing_bytes: int, freed: Iterable[tuple[float, int]]) -> float:
    """Return after how long there is room, from what becomes free after how long."""
    for wait_s, size in sorted(freed):
        missing_bytes -= size
        if missing_bytes <= 0:
            return wait_s
    return _SOME_TIME_S
