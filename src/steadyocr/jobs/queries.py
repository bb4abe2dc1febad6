"""What is asked of the store. Nothing here changes anything."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from sqlalchemy import JSON, ColumnElement, and_, case, cast, false, func, or_, select, tuple_

from steadyocr.errors import NotFoundError
from steadyocr.jobs.control import job_not_found
from steadyocr.jobs.database import Tx
from steadyocr.jobs.models import ENDED, Census, Event, Item, ItemState, Job, JobPlace, JobState, Load, Progress
from steadyocr.jobs.records import to_event, to_item, to_job
from steadyocr.jobs.schema import event, is_state, item, job

# More than any position.
_NO_POSITION: Final = 2**31 - 1


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
    tx: Tx, *, tenant: str | None, states: Collection[JobState] | None, before: JobPlace | None, limit: int
) -> list[Job]:
    """Return jobs, newest first, from the one after `before` on."""
    query = select(job).order_by(job.c.created_at.desc(), job.c.id.desc()).limit(limit)
    if tenant is not None:
        query = query.where(job.c.tenant == tenant)
    if states is not None:
        query = query.where(job.c.state.in_([state.value for state in states]))
    if before is not None:
        query = query.where(tuple_(job.c.created_at, job.c.id) < tuple_(*before))
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
    before_last = item.c.rank <= (-1 if last is None else last)
    earlier = or_(item.c.priority > found.priority, and_(item.c.priority == found.priority, before_last))
    ahead = is_state(ItemState.QUEUED) & earlier if last is not None else false()
    waiting = tx.connection.execute(select(func.count()).select_from(item).where(ahead)).scalar_one()
    to_unpack = (item.c.kind == "expand") & or_(ahead, is_state(ItemState.LEASED) & (item.c.priority >= found.priority))
    archives = tx.connection.execute(select(func.count()).select_from(item).where(to_unpack)).scalar_one()
    return Progress(found, leased, waiting, archives)


def _count_lines(tx: Tx) -> ColumnElement[int | None]:
    """Count the lines of a result where it lies, so that it need not travel; null without a page in the row."""
    if not tx.postgres:
        is_array = func.json_type(item.c.result, "$.lines") == "array"
        return case((is_array, func.json_array_length(item.c.result, "$.lines")))
    lines = cast(item.c.result, JSON)["lines"]
    # PostgreSQL refuses to look into a value in which half a character is written as its number.
    whole = func.strpos(item.c.result, "\\u") == 0
    return case((whole, case((func.json_typeof(lines) == "array", func.json_array_length(lines)))))


def get_items(
    tx: Tx, job_id: str, *, after: int, offset: int, limit: int, states: Collection[ItemState] | None
) -> list[Item]:
    """Return items by position, from the one after `after` on, with the number of lines for their results.

    Raises:
        JobNotFound: There is no such job.
    """
    columns = [column for column in item.columns if column is not item.c.result] + [_count_lines(tx).label("lines")]
    query = select(*columns).where(item.c.job_id == job_id, item.c.position > after).order_by(item.c.position)
    if states is not None:
        query = query.where(item.c.state.in_([state.value for state in states]))
    found = [to_item(row) for row in tx.connection.execute(query.offset(offset).limit(limit)).mappings()]
    if not found:
        get_job(tx, job_id)
    return found


def get_item(tx: Tx, job_id: str, position: int) -> Item:
    """Return one item, with its result.

    Raises:
        JobNotFound: There is no such job.
        NotFoundError: It has no such item.
    """
    query = select(item).where(item.c.job_id == job_id, item.c.position == position)
    row = tx.connection.execute(query).mappings().one_or_none()
    if row is None:
        get_job(tx, job_id)
        raise NotFoundError("the job has no item at this position")
    return to_item(row)


def get_results(tx: Tx, job_id: str, *, after: int, limit: int) -> list[Item]:
    """Return ended items with their results by position, from the one after `after` on, up to the first unfinished.

    So a reader who asks again with the last position it got sees every item once and in order, while the job runs.

    Raises:
        JobNotFound: There is no such job.
    """
    other = item.alias()
    unfinished = select(func.min(other.c.position)).where(
        other.c.job_id == job_id,
        other.c.position > after,
        other.c.state.in_((ItemState.QUEUED.value, ItemState.LEASED.value)),
    )
    # In one statement: PostgreSQL looks anew for each, and a retry in between would hand out what is queued again.
    stop = unfinished.scalar_subquery()
    query = (
        select(item)
        .where(item.c.job_id == job_id, item.c.position > after, item.c.position < func.coalesce(stop, _NO_POSITION))
        .order_by(item.c.position)
        .limit(limit)
    )
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


def load(tx: Tx) -> Load:
    """Return how much has been done and is to be done, from the jobs' own counters."""
    worked = job.c.done + job.c.failed + job.c.dead
    given_up = job.c.cancelled + job.c.expired
    query = select(
        func.coalesce(func.sum(worked), 0), func.coalesce(func.sum(job.c.total - worked - given_up), 0)
    ).select_from(job)
    ended, unfinished = tx.connection.execute(query).one()
    return Load(int(ended), int(unfinished))


def census(tx: Tx) -> Census:
    """Count jobs and items by state, from the jobs' own counters."""
    by_state = tx.connection.execute(select(job.c.state, func.count()).group_by(job.c.state)).all()
    columns = [job.c[state.value] for state in ENDED]
    sums = [func.coalesce(func.sum(column), 0) for column in (job.c.total, *columns)]
    total, *ended = (int(value) for value in tx.connection.execute(select(*sums)).one())
    unfinished = job.c.total > sum(columns[1:], columns[0])
    oldest = tx.connection.execute(select(func.min(job.c.created_at)).where(unfinished)).scalar_one()
    queued = waiting(tx)
    items = dict(zip(ENDED, ended, strict=True))
    items[ItemState.QUEUED] = queued
    items[ItemState.LEASED] = total - sum(ended) - queued
    jobs = {JobState(state): count for state, count in by_state}
    return Census(jobs, items, 0.0 if oldest is None else max(0.0, tx.now - oldest))
