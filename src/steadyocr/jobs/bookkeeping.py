"""The job row: locked before its items are changed, and changed with them in the same transaction."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import delete, insert, select, update

from steadyocr.jobs.database import Tx
from steadyocr.jobs.models import ENDED, ItemState, Job, JobState
from steadyocr.jobs.records import dump, to_job
from steadyocr.jobs.schema import event, job
from steadyocr.jobs.webhook_rows import note_change

# Old events are dropped this many at a time.
_EVENT_SLACK: Final = 100


def lock_job(tx: Tx, job_id: str) -> Job | None:
    """Return a job that nobody else changes until the end of the transaction; ``None`` when there is none.

    Every transaction locks the job before its items, so that two of them cannot wait for each other.
    """
    row = tx.connection.execute(select(job).where(job.c.id == job_id).with_for_update()).mappings().one_or_none()
    return None if row is None else to_job(row)


def advance(
    before: Job,
    now: float,
    changes: Mapping[ItemState, int],
    *,
    state: JobState | None = None,
    added: int = 0,
    stored_bytes: int = 0,
) -> Job:
    """Return the job after its items have changed.

    Args:
        before: The job until now.
        now: The time.
        changes: What to add to each counter; only those of ended states exist.
        state: The state asked for; by default it follows from the counters.
        added: New items.
        stored_bytes: More bytes stored.
    """
    counters = {kind.value: getattr(before, kind.value) + changes.get(kind, 0) for kind in ENDED}
    total = before.total + added
    ended = sum(counters.values()) == total
    after = state or before.state
    if ended and after in (JobState.QUEUED, JobState.RUNNING):
        after = JobState.DONE
    return dataclasses.replace(
        before,
        **counters,
        total=total,
        state=after,
        started_at=before.started_at or (now if after is JobState.RUNNING else None),
        finished_at=(before.finished_at or now) if ended else None,
        stored_bytes=before.stored_bytes + stored_bytes,
    )


def save(tx: Tx, before: Job, after: Job, *, item: Mapping[str, Any] | None = None) -> Job:
    """Write a job that changed, and its events.

    Args:
        tx: The transaction that holds the lock.
        before: The job as it was locked.
        after: The job as it is now.
        item: The item's part of the event, when one item ended.
    """
    changed = (before.state, before.finished_at is None) != (after.state, after.finished_at is None)
    facts: list[tuple[str, Mapping[str, Any]]] = [] if item is None else [("item", item)]
    if changed or item is None:
        facts.append(("job", {}))
    after = dataclasses.replace(after, last_event=after.last_event + len(facts))
    values = dataclasses.asdict(after)
    for constant in ("id", "tenant", "options", "meta", "priority", "created_at"):
        del values[constant]
    tx.connection.execute(update(job).where(job.c.id == after.id).values(values))
    write_events(tx, after, facts)
    note_change(tx, before, after)
    return after


def write_events(tx: Tx, after: Job, facts: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """Add the newest events of a job, the last of which has the number that the job says, and drop old ones."""
    first = after.last_event - len(facts) + 1
    rows = [
        {
            "job_id": after.id,
            "id": first + index,
            "at": tx.now,
            "kind": kind,
            "data": dump(event_data(after, extra)),
        }
        for index, (kind, extra) in enumerate(facts)
    ]
    tx.connection.execute(insert(event), rows)
    if after.last_event % _EVENT_SLACK < len(facts):
        oldest = after.last_event - tx.config.max_events
        tx.connection.execute(delete(event).where(event.c.job_id == after.id, event.c.id <= oldest))


def event_data(after: Job, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an event says: how the job stands, and what else there is to say."""
    counters = {kind.value: getattr(after, kind.value) for kind in ENDED}
    return {
        "state": after.state.value,
        "finished": after.finished_at is not None,
        "total": after.total,
        **counters,
        **extra,
    }
