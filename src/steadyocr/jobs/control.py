"""What is done to a whole job: cancel, retry, expire, delete."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from sqlalchemy import bindparam, delete, or_, select, update

from steadyocr.errors import JobNotFound
from steadyocr.jobs.bookkeeping import advance, lock_job, save
from steadyocr.jobs.database import Tx
from steadyocr.jobs.models import ItemState, Job, JobState
from steadyocr.jobs.schema import is_state, item, job
from steadyocr.jobs.submit import first_rank


def require_job(tx: Tx, job_id: str) -> Job:
    """Lock a job.

    Raises:
        JobNotFound: There is none.
    """
    found = lock_job(tx, job_id)
    if found is None:
        raise job_not_found()
    return found


def job_not_found() -> JobNotFound:
    """Return the error for an id that stands for no job."""
    return JobNotFound("there is no such job; it was never made, was deleted, or its time of keeping is over")


def cancel(tx: Tx, job_id: str) -> Job:
    """End what waits; what runs is told at its next heartbeat. A job that has ended stays as it is."""
    before = require_job(tx, job_id)
    if before.finished_at is not None or before.state is JobState.CANCELLED:
        return before
    return _end_waiting(tx, before, JobState.CANCELLED, ItemState.CANCELLED)


def expire(tx: Tx, job_id: str, also_leased_as: str | None = None) -> None:
    """End what waits in a job whose deadline has passed, and what this transaction has just leased of it."""
    before = lock_job(tx, job_id)
    if before is None or before.finished_at is not None:
        return
    _end_waiting(tx, before, JobState.EXPIRED, ItemState.EXPIRED, also_leased_as)


def is_overdue(tx: Tx, deadline: float | None, created_at: float) -> bool:
    """Whether the deadline of a job has passed, by the clock that it was set by.

    When the clock is set ahead, time has not passed for those who wait. Only what this process has seen itself is
    known, so for one that was started later the clock of today is the yardstick.
    """
    if deadline is None:
        return False
    return deadline + sum(leap.by_s for leap in tx.leaps if created_at <= leap.before) <= tx.now


def expire_overdue(tx: Tx) -> int:
    """Expire all jobs whose deadline has passed; returns how many."""
    passed = tx.connection.execute(
        select(job.c.id, job.c.deadline, job.c.created_at).where(
            job.c.deadline <= tx.now,
            job.c.finished_at.is_(None),
            job.c.state.in_((JobState.QUEUED.value, JobState.RUNNING.value)),
        )
    )
    ids = sorted(row.id for row in passed if is_overdue(tx, row.deadline, row.created_at))
    for job_id in ids:
        expire(tx, job_id)
    return len(ids)


def _end_waiting(tx: Tx, before: Job, state: JobState, item_state: ItemState, also_leased_as: str | None = None) -> Job:
    waiting = is_state(ItemState.QUEUED)
    if also_leased_as is not None:
        waiting = or_(waiting, is_state(ItemState.LEASED) & (item.c.token == also_leased_as))
    ended = tx.connection.execute(
        update(item)
        .where(item.c.job_id == before.id, waiting)
        .values(state=item_state.value, finished_at=tx.now, lease_until=None, begun_at=None)
    ).rowcount
    return save(tx, before, advance(before, tx.now, {item_state: ended}, state=state))


def retry(tx: Tx, job_id: str, states: Collection[ItemState], positions: Collection[int] | None = None) -> Job:
    """Queue items again that ended in one of these states, with a clean slate, and open the job again for them.

    Items that were refused before they had an input stay as they are. Without any to retry nothing changes.
    """
    before = require_job(tx, job_id)
    wanted = [state.value for state in states]
    query = (
        select(item.c.id, item.c.state)
        .where(item.c.job_id == job_id, item.c.state.in_(wanted), item.c.input_ref.is_not(None))
        .order_by(item.c.position)
    )
    if positions is not None:
        query = query.where(item.c.position.in_(positions))
    rows = tx.connection.execute(query).all()
    if not rows:
        return before
    rank = first_rank(tx, before)
    clean = {"attempts": 0, "losses": 0, "run_at": tx.now, "token": None, "finished_at": None, "error": None}
    tx.connection.execute(
        update(item)
        .where(item.c.id == bindparam("item_id"))
        .values(state=ItemState.QUEUED.value, rank=bindparam("new_rank"), **clean),
        [{"item_id": row.id, "new_rank": rank + index} for index, row in enumerate(rows)],
    )
    back = {state: -sum(row.state == state for row in rows) for state in states}
    reopened = advance(before, tx.now, back, state=JobState.RUNNING)
    if is_overdue(tx, before.deadline, before.created_at):
        # Whoever runs it again wants it read, and by this deadline nothing could be.
        reopened = dataclasses.replace(reopened, deadline=None)
    after = save(tx, before, reopened)
    tx.announce_work()
    return after


def delete_job(tx: Tx, job_id: str) -> None:
    """Forget a job and all about it. Its blobs become orphans and go with the next sweep."""
    require_job(tx, job_id)
    tx.connection.execute(delete(job).where(job.c.id == job_id))
