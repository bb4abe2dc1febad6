"""Who works on what: claims, heartbeats, and taking back what its owner let go.

The clock may be set, and then times of before lie. Set forward, it ends all leases at once: so nothing is taken back
until those who live have had the time to extend theirs, and deadlines move with it. Set back, it keeps the items of the
dead leased and those that wait out a pause waiting, for as long as it went back: so a lease or a pause that is longer
than any can be is none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from sqlalchemy import ColumnElement, RowMapping, or_, select, update

from steadyocr.jobs.bookkeeping import advance, lock_job, save
from steadyocr.jobs.config import longest_lease_s
from steadyocr.jobs.control import expire, is_overdue
from steadyocr.jobs.database import Tx
from steadyocr.jobs.models import Heartbeat, ItemState, Job, JobState, Lease
from steadyocr.jobs.outcomes import lose
from steadyocr.jobs.records import to_job, to_lease
from steadyocr.jobs.schema import is_state, item, job

_REAPED_AT_ONCE: Final = 500


def claim(tx: Tx, owner: str, token: str, limit: int, lease_s: float, *, again: bool = False) -> list[Lease]:
    """Lease the items that are next, at most `limit`.

    A single item counts as begun; of several each begins when :func:`begin` says so. Items of jobs whose deadline
    has passed are expired on the way.

    Args:
        tx: The transaction.
        owner: A name for the logs.
        token: What the leases are known by.
        limit: How many.
        lease_s: For how long.
        again: This token may have been used before without an answer; what it holds then is given out first.
    """
    rows = _held_under(tx, token, lease_s) if again or tx.repeated else []
    rows = rows or _take(tx, owner, token, limit, lease_s)
    while rows:
        jobs = _jobs_of(tx, rows)
        overdue = {late.id for late in jobs.values() if is_overdue(tx, late.deadline, late.created_at)}
        for job_id in overdue:
            expire(tx, job_id, also_leased_as=token)
        if kept := [row for row in rows if row["job_id"] not in overdue]:
            for job_id in {row["job_id"] for row in kept}:
                _note_start(tx, jobs[job_id])
            return sorted((to_lease(row, jobs[row["job_id"]]) for row in kept), key=lambda lease: lease.item_id)
        rows = _take(tx, owner, token, limit, lease_s)
    return []


def _take(tx: Tx, owner: str, token: str, limit: int, lease_s: float) -> Sequence[RowMapping]:
    # As a common table expression it is evaluated once; as a plain subquery PostgreSQL may run it again for a row.
    next_ones = (
        select(item.c.id)
        .where(is_state(ItemState.QUEUED), _passed(item.c.run_at, tx, tx.config.longest_delay_s))
        .order_by(item.c.priority.desc(), item.c.rank, item.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("next_ones")
    )
    return (
        tx.connection.execute(
            update(item)
            .where(item.c.id.in_(select(next_ones.c.id)))
            .values(
                state=ItemState.LEASED.value,
                token=token,
                owner=owner,
                lease_until=tx.now + lease_s,
                begun_at=tx.now if limit == 1 else None,
                started_at=tx.now,
            )
            .returning(item)
        )
        .mappings()
        .all()
    )


def _passed(moment: ColumnElement[float | None], tx: Tx, longest_s: float) -> ColumnElement[bool]:
    """Whether a moment has passed, or lies further ahead than any that was set by a clock like today's."""
    return or_(moment <= tx.now, moment > tx.now + longest_s)


def _held_under(tx: Tx, token: str, lease_s: float) -> Sequence[RowMapping]:
    held = update(item).where(item.c.token == token, is_state(ItemState.LEASED))
    return tx.connection.execute(held.values(lease_until=tx.now + lease_s).returning(item)).mappings().all()


def _jobs_of(tx: Tx, rows: Sequence[RowMapping]) -> dict[str, Job]:
    found = tx.connection.execute(select(job).where(job.c.id.in_({row["job_id"] for row in rows}))).mappings()
    return {row["id"]: to_job(row) for row in found}


def _note_start(tx: Tx, started: Job) -> None:
    if started.state is not JobState.QUEUED:
        return
    before = lock_job(tx, started.id)
    if before is not None and before.state is JobState.QUEUED:
        save(tx, before, advance(before, tx.now, {}, state=JobState.RUNNING))


def begin(tx: Tx, lease: Lease) -> bool:
    """Say that work on an item starts now, so that from now on a crash counts against it."""
    held = (item.c.id == lease.item_id) & (item.c.token == lease.token)
    return bool(
        tx.connection.execute(update(item).where(held, is_state(ItemState.LEASED)).values(begun_at=tx.now)).rowcount
    )


def heartbeat(tx: Tx, leases: Sequence[Lease], lease_s: float) -> Heartbeat:
    """Extend the leases that the caller knows of, and no others.

    A claim whose answer was lost is known to nobody; it must be let run out, so leases are never extended by owner.
    """
    kept = [lease for lease in leases if _extend(tx, lease, lease_s)]
    jobs = select(job.c.id).where(
        job.c.id.in_({lease.job_id for lease in kept}),
        job.c.state.in_((JobState.CANCELLED.value, JobState.EXPIRED.value)),
    )
    given_up = set(tx.connection.execute(jobs).scalars()) if kept else set()
    return Heartbeat(
        lost=frozenset(lease.key for lease in leases) - {lease.key for lease in kept},
        unwanted=frozenset(lease.key for lease in kept if lease.job_id in given_up),
    )


def _extend(tx: Tx, lease: Lease, lease_s: float) -> bool:
    held = (item.c.id == lease.item_id) & (item.c.token == lease.token)
    extended = update(item).where(held, is_state(ItemState.LEASED)).values(lease_until=tx.now + lease_s)
    return tx.connection.execute(extended).rowcount == 1


def reap(tx: Tx, lease_s: float) -> int:
    """Take back items whose lease has run out; returns how many.

    None for one lease after the clock was set: what seems to have run out may be held by somebody who lives.
    """
    if tx.steady_s < lease_s:
        return 0
    run_out = _passed(item.c.lease_until, tx, longest_lease_s(lease_s))
    rows = (
        tx.connection.execute(
            select(item.c.id, item.c.job_id, item.c.position, item.c.token, item.c.losses, item.c.begun_at)
            .where(is_state(ItemState.LEASED), run_out)
            .order_by(item.c.job_id, item.c.id)
            .limit(_REAPED_AT_ONCE)
        )
        .mappings()
        .all()
    )
    taken: Counter[ItemState] = Counter()
    for job_id in dict.fromkeys(row["job_id"] for row in rows):
        before = lock_job(tx, job_id)
        if before is None:
            continue
        for row in (row for row in rows if row["job_id"] == job_id):
            state = lose(tx, before, row, run_out)
            if state is None:
                continue
            taken[state] += 1
            if state is not ItemState.QUEUED:
                data = {"item": {"position": row["position"], "state": state.value}}
                before = save(tx, before, advance(before, tx.now, {state: 1}), item=data)
    if taken[ItemState.QUEUED]:
        tx.announce_work()
    return taken.total()
