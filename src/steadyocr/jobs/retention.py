"""Which jobs are thrown away: those that are old, and those that are too much."""

from __future__ import annotations

from typing import Final

from sqlalchemy import delete, select

from steadyocr.jobs.database import Tx
from steadyocr.jobs.queries import stored_bytes
from steadyocr.jobs.schema import job

# Deleting is cut into transactions, so that a big clean-up never holds the write lock for long.
_PRUNED_AT_ONCE: Final = 20


def prune(tx: Tx, older_than_s: float) -> int:
    """Delete some jobs that ended longer ago than this; returns how many, 0 when none is left."""
    old = (
        select(job.c.id)
        .where(job.c.finished_at < tx.now - older_than_s)
        .order_by(job.c.finished_at)
        .limit(_PRUNED_AT_ONCE)
    )
    return tx.connection.execute(delete(job).where(job.c.id.in_(old))).rowcount


def prune_to_quota(tx: Tx, max_bytes: int) -> int:
    """Delete the job that ended longest ago if all jobs together take more than this; returns how many it deleted.

    Jobs that have not ended are never deleted, so the quota can stay exceeded.
    """
    if stored_bytes(tx) <= max_bytes:
        return 0
    oldest = select(job.c.id).where(job.c.finished_at.is_not(None)).order_by(job.c.finished_at).limit(1)
    return tx.connection.execute(delete(job).where(job.c.id.in_(oldest))).rowcount
