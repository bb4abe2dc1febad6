"""What is asked of the store. Nothing here changes anything."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from sqlalchemy import and_, func, or_, select, tuple_

from steadyocr.jobs.control import job_not_found
from steadyocr.jobs.database import Tx
from steadyocr.jobs.models import Event, Item, ItemState, Job, JobState, Progress
from steadyocr.jobs.records import to_event, to_item, to_job
from steadyocr.jobs.schema import event, is_state, item, job


def get_job(tx: Tx, job_id: str) -> Job:
    """Return a job.

    Raises:
        JobNotFound: There is none.
    """
    row = tx.connection.execute(select(job).where(job.c.id == job_id)).mappings().one_or_none()
    if row is None:
        raise job_not_found()
    return to_job(row)


def list_jobs(
    tx: Tx, *, tenant: str | None, states: Collection[JobState] | None, before: Job | None, limit: int
) -> list[Job]:
    """Return jobs, newest first, from the one after `before` on."""
    query = select(job).order_by(job.c.created_at.desc(), job.c.id.desc()).limit(limit)
    if tenant is not None:
        query = query.where(job.c.tenant == tenant)
    if states is not None:
        query = query.where(job.c.state.in_([state.value for state in states]))
    if before is not None:
        query = query.where(tuple_(job.c.created_at, job.c.id) < tuple_(before.created_at, before.id))
    return [to_job(row) for row in tx.connection.execute(query).mappings()]


def progress(tx: Tx, job_id: str) -> Progress:
    """Return how far a job is.

    Raises:
        JobNotFound: There is none.
    """
    found = get_job(tx, job_id)
    mine = item.c.job_id == job_id
    leased = tx.connection.execute(select(func.count()).where(mine, is_state(ItemState.LEASED))).scalar_one()
    last = tx.connection.execute(select(func.max(item.c.rank)).where(mine, is_state(ItemState.QUEUED))).scalar_one()
    if last is None:
        return Progress(found, leased, 0)
    earlier = or_(item.c.priority > found.priority, and_(item.c.priority == found.priority, item.c.rank <= last))
    ahead = tx.connection.execute(select(func.count()).where(is_state(ItemState.QUEUED), earlier)).scalar_one()
    return Progress(found, leased, ahead)


def get_items(tx: Tx, job_id: str, *, after: int, limit: int, states: Collection[ItemState] | None) -> list[Item]:
    """Return items by position, from the one after `after` on, without their results.

    Raises:
        JobNotFound: There is no such job.
    """
    columns = [column for column in item.columns if column is not item.c.result]
    query = select(*columns).where(item.c.job_id == job_id, item.c.position > after).order_by(item.c.position)
    if states is not None:
        query = query.where(item.c.state.in_([state.value for state in states]))
    found = [to_item(row) for row in tx.connection.execute(query.limit(limit)).mappings()]
    if not found:
        get_job(tx, job_id)
    return found


def get_results(tx: Tx, job_id: str, *, after: int, limit: int) -> list[Item]:
    """Return ended items with their results by position, from the one after `after` on, up to the first unfinished.

    So a reader who asks again with the last position it got sees every item once and in order, while the job runs.

    Raises:
        JobNotFound: There is no such job.
    """
    following = (item.c.job_id == job_id) & (item.c.position > after)
    unfinished = (
        select(item.c.position)
        .where(following, item.c.state.in_((ItemState.QUEUED.value, ItemState.LEASED.value)))
        .order_by(item.c.position)
        .limit(1)
    )
    stop = tx.connection.execute(unfinished).scalar_one_or_none()
    query = select(item).where(following).order_by(item.c.position).limit(limit)
    if stop is not None:
        query = query.where(item.c.position < stop)
    found = [to_item(row) for row in tx.connection.execute(query).mappings()]
    if not found:
        get_job(tx, job_id)
    return found


def get_events(tx: Tx, job_id: str, *, after: int, limit: int) -> list[Event]:
    """Return a job's events, from the one after `after` on; a gap means that old ones were dropped.

    Raises:
        JobNotFound: There is no such job.
    """
    query = select(event).where(event.c.job_id == job_id, event.c.id > after).order_by(event.c.id).limit(limit)
    found = [to_event(row) for row in tx.connection.execute(query).mappings()]
    if not found:
        get_job(tx, job_id)
    return found


def referenced(tx: Tx, keys: Iterable[str]) -> set[str]:
    """Return those blob keys that an item needs, as its input, result or overlay."""
    wanted = list(keys)
    found: set[str] = set()
    for column in (item.c.input_ref, item.c.result_ref, item.c.overlay_ref):
        found.update(tx.connection.execute(select(column).where(column.in_(wanted)).distinct()).scalars())
    return found


def stored_bytes(tx: Tx) -> int:
    """Return what all jobs take, by their own books."""
    return int(tx.connection.execute(select(func.coalesce(func.sum(job.c.stored_bytes), 0))).scalar_one())


def waiting(tx: Tx) -> int:
    """Return how many items are queued, over all jobs."""
    return tx.connection.execute(select(func.count()).select_from(item).where(is_state(ItemState.QUEUED))).scalar_one()
