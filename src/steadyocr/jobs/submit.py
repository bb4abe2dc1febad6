"""How items come in: a job is stored with all of them or not at all."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from sqlalchemy import ColumnElement, func, insert, select

from steadyocr.errors import EmptyInput, IdempotencyConflict, InsufficientStorage, PayloadTooLarge
from steadyocr.jobs import quota, webhook_rows
from steadyocr.jobs.bookkeeping import advance, write_events
from steadyocr.jobs.database import Tx
from steadyocr.jobs.models import ItemState, Job, JobState, NewItem, NewJob
from steadyocr.jobs.records import dump, to_job
from steadyocr.jobs.schema import is_state, item, job

_MAX_NAME: Final = 255
# Bidirectional classes of the characters that turn the direction of those behind them round.
_TURNS: Final = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})


def refuse_wrong_count(count: int, max_items: int) -> None:
    """Refuse a job without items, or with too many.

    Raises:
        EmptyInput: There are none.
        PayloadTooLarge: There are more than `max_items`.
    """
    if count == 0:
        raise EmptyInput("the job has no items; send at least one picture")
    if count > max_items:
        raise PayloadTooLarge(f"the job would have {count} items; the limit is {max_items}", limit=max_items)


def waiting_state(job_state: JobState) -> ItemState:
    """Return the state of an unfinished item of such a job: it waits, or is unwanted like the job itself."""
    unwanted = {JobState.CANCELLED: ItemState.CANCELLED, JobState.EXPIRED: ItemState.EXPIRED}
    return unwanted.get(job_state, ItemState.QUEUED)


def initial_states(items: Sequence[NewItem], job_state: JobState) -> list[ItemState]:
    """Return what new items of a job start as; those refused already have failed."""
    waiting = waiting_state(job_state)
    return [waiting if new.error is None and new.input_ref is not None else ItemState.FAILED for new in items]


def submit(tx: Tx, job_id: str, new: NewJob, refuse_low_disk: Callable[[], None] = lambda: None) -> Job:
    """Store a job with all its items, or return the one that its idempotency key stands for.

    Args:
        tx: The transaction.
        job_id: What a new job is called.
        new: What it is to be.
        refuse_low_disk: Raises when the disk is too full for a new job; one that is there is given all the same.

    Raises:
        IdempotencyConflict: The key stands for another request.
        InsufficientStorage: It does not fit beside the others, or the disk is low.
    """
    if (known := _known(tx, job_id, new)) is not None:
        return known
    refuse_low_disk()
    states = initial_states(new.items, JobState.QUEUED)
    created = new_job(job_id, new, states, tx.now)
    quota.refuse_over_quota(tx, created.stored_bytes)
    stated = {column.name: getattr(created, column.name) for column in job.columns if hasattr(created, column.name)}
    written = {"options": dump(dict(new.options)), "meta": dump(dict(new.meta))}
    keys = {"idempotency_key": new.idempotency_key, "request_hash": new.request_hash}
    tx.connection.execute(insert(job).values(stated | written | keys))
    insert_items(tx, created, new.items, states, first_position=0)
    write_events(tx, created, [("job", {})])
    if new.webhook_url is not None:
        webhook_rows.add(tx, created, new.webhook_url)
    tx.announce_work()
    return created


def _known(tx: Tx, job_id: str, new: NewJob) -> Job | None:
    if tx.repeated:
        row = tx.connection.execute(select(job).where(job.c.id == job_id)).mappings().one_or_none()
        if row is not None:
            return to_job(row)
    if new.idempotency_key is None:
        return None
    if tx.postgres:
        # Two requests with one key at the same time: the second waits here and then finds the first one's job.
        name = f"{len(new.tenant)}:{new.tenant}:{new.idempotency_key}"
        tx.connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))
    row = tx.connection.execute(select(job).where(_same_key(new.tenant, new.idempotency_key))).mappings().one_or_none()
    if row is None:
        return None
    if row["request_hash"] != new.request_hash:
        raise IdempotencyConflict("this idempotency key was used for another request; use a new key for a new request")
    return to_job(row)


def _same_key(tenant: str, key: str) -> ColumnElement[bool]:
    return (job.c.tenant == tenant) & (job.c.idempotency_key == key)


def lack_of_room(tx: Tx, size_bytes: int, tenant: str, idempotency_key: str | None) -> InsufficientStorage | None:
    """Return why a job would be refused for its size, before it is sent; ``None`` when it would not, or is known."""
    if idempotency_key is not None:
        known = select(job.c.id).where(_same_key(tenant, idempotency_key))
        if tx.connection.execute(known).first() is not None:
            return None
    return quota.lack_of_room(tx, size_bytes)


def new_job(job_id: str, new: NewJob, states: Sequence[ItemState], now: float) -> Job:
    """Return a job as it enters, its first event counted."""
    blank = Job(
        id=job_id,
        tenant=new.tenant,
        state=JobState.QUEUED,
        priority=new.priority,
        options=new.options,
        meta=new.meta,
        created_at=now,
        started_at=None,
        finished_at=None,
        deadline=None if new.deadline_s is None else now + new.deadline_s,
        total=0,
        done=0,
        failed=0,
        dead=0,
        cancelled=0,
        expired=0,
        stored_bytes=0,
        last_event=1,
    )
    size = sum(entry.size_bytes for entry in new.items)
    return advance(blank, now, Counter(states), added=len(states), stored_bytes=size)


def insert_items(
    tx: Tx,
    owner: Job,
    items: Sequence[NewItem],
    states: Sequence[ItemState],
    *,
    first_position: int,
    parent: int | None = None,
) -> None:
    """Add items to a job."""
    rank = first_rank(tx, owner)
    rows = [
        {
            "job_id": owner.id,
            "position": first_position + index,
            "parent": parent,
            "kind": new.kind,
            "name": label(new.name),
            "input_ref": new.input_ref,
            "size_bytes": new.size_bytes,
            "state": state.value,
            "priority": owner.priority,
            "rank": rank + index,
            "run_at": tx.now,
            "attempts": 0,
            "losses": 0,
            "finished_at": None if state is ItemState.QUEUED else tx.now,
            "error": None if new.error is None else dump(dict(new.error)),
        }
        for index, (new, state) in enumerate(zip(items, states, strict=True))
    ]
    if rows:
        tx.connection.execute(insert(item), rows)


def label(name: str) -> str:
    """Return a client's name for an item as every database takes it: short, without control characters.

    Blanks of all kinds and joiners stay: by its name a client finds its file again. Of a long one the end is kept,
    where files in deep folders differ.
    """
    return "".join("\N{REPLACEMENT CHARACTER}" if _is_control(letter) else letter for letter in name[-_MAX_NAME:])


def _is_control(letter: str) -> bool:
    """Whether it commands instead of being shown: controls, halves of characters, line ends, changes of direction."""
    return unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") or unicodedata.bidirectional(letter) in _TURNS


def first_rank(tx: Tx, owner: Job) -> int:
    """Return the rank of the next item that joins the queue, by start-time fair queueing (Goyal et al., 1996).

    Every item costs one. A job's items are ranked one after the other, starting at the virtual time, which is the
    rank of the item that is served next; so a job that comes late is neither behind all others nor before them.
    Items that were tried before keep their old rank and do not tell the time.
    """
    untouched = (item.c.attempts == 0) & (item.c.losses == 0)
    now = tx.connection.execute(
        select(item.c.rank)
        .where(is_state(ItemState.QUEUED), item.c.priority == owner.priority, untouched)
        .order_by(item.c.rank)
        .limit(1)
    ).scalar_one_or_none()
    own = tx.connection.execute(
        select(func.max(item.c.rank)).where(item.c.job_id == owner.id, is_state(ItemState.QUEUED))
    ).scalar_one()
    return max(0 if now is None else now, 0 if own is None else own + 1)
