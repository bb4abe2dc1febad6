"""What becomes of a leased item. Every change is accepted only with the lease's token, and only once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, select, update

from steadyocr.errors import EngineDied
from steadyocr.jobs import quota
from steadyocr.jobs.bookkeeping import advance, lock_job, save
from steadyocr.jobs.database import Tx
from steadyocr.jobs.models import ErrorWire, ItemOutcome, ItemState, Job, Lease, NewItem
from steadyocr.jobs.records import dump
from steadyocr.jobs.schema import is_state, item
from steadyocr.jobs.submit import initial_states, insert_items, refuse_wrong_count, waiting_state


def complete(tx: Tx, lease: Lease, outcome: ItemOutcome) -> bool:
    """Make an item's result visible; returns whether it is the one that counts."""
    values = {
        "result": None if outcome.result_ref is not None else dump(outcome.result),
        "result_ref": outcome.result_ref,
        "overlay_ref": outcome.overlay_ref,
        "error": None,
    }
    return _settle(tx, lease, ItemState.DONE, values, stored_bytes=outcome.stored_bytes)


def fail(tx: Tx, lease: Lease, error: ErrorWire, *, dead: bool) -> bool:
    """End an item for what it is, or for what it does; it is not tried again. Returns whether that counts."""
    state = ItemState.DEAD if dead else ItemState.FAILED
    return _settle(tx, lease, state, {"error": dump(dict(error))})


def retry_later(tx: Tx, lease: Lease, error: ErrorWire) -> ItemState | None:
    """Count a bad run against an item and put it back for later, or give it up; ``None`` when the lease was lost."""
    before = lock_job(tx, lease.job_id)
    if before is None:
        return None
    attempts = lease.attempts + 1
    dead = attempts >= tx.config.max_attempts
    state = ItemState.DEAD if dead else waiting_state(before.state)
    values = {"attempts": attempts, "error": dump(dict(error)), "run_at": tx.now + tx.config.backoff_s(attempts)}
    return state if _settle_locked(tx, before, lease, state, values) else None


def release(tx: Tx, lease: Lease, delay_s: float) -> bool:
    """Put an item back, nobody to blame; of a job that nobody wants any more it ends here."""
    before = lock_job(tx, lease.job_id)
    if before is None:
        return False
    return _settle_locked(tx, before, lease, waiting_state(before.state), {"run_at": tx.now + delay_s})


def expand(tx: Tx, lease: Lease, children: Sequence[NewItem]) -> bool:
    """Complete an archive's item and queue what was in it, in one step; returns whether that counts.

    Raises:
        PayloadTooLarge: The job would have too many items. Nothing was changed.
        NoRoom: What was in it does not fit beside what is promised. Nothing was changed.
    """
    before = lock_job(tx, lease.job_id)
    if before is None:
        return False
    refuse_wrong_count(before.total + len(children), tx.config.max_items)
    if not _write(tx, lease, ItemState.DONE, {"result": dump({"expanded": len(children)}), "error": None}):
        return _was_written(tx, lease, ItemState.DONE)
    size_bytes = sum(child.size_bytes for child in children)
    # Only now: the same call repeated has its own children among what is stored already.
    quota.refuse_over_quota(tx, size_bytes)
    states = initial_states(children, before.state)
    after = advance(before, tx.now, Counter((ItemState.DONE, *states)), added=len(states), stored_bytes=size_bytes)
    insert_items(tx, after, children, states, first_position=before.total, parent=lease.position)
    save(tx, before, after, item=_event_data(lease.position, ItemState.DONE))
    tx.announce_work()
    return True


def lose(tx: Tx, before: Job, row: RowMapping, run_out: ColumnElement[bool]) -> ItemState | None:
    """Take an item from an owner who let its lease run out; ``None`` when it has not any more.

    Who had only fetched the item and not begun with it leaves no mark on it.
    """
    losses = row["losses"] + (row["begun_at"] is not None)
    values: dict[str, Any] = {"losses": losses, "run_at": tx.now}
    state = waiting_state(before.state)
    if row["begun_at"] is not None:
        values["run_at"] = tx.now + tx.config.backoff_s(losses)
        if losses >= tx.config.max_losses:
            state = ItemState.DEAD
            error = EngineDied(f"{losses} times the process that ran this item went away; it is not tried again")
            values["error"] = dump(error.to_wire())
    guard = (item.c.id == row["id"]) & (item.c.token == row["token"]) & run_out
    changed = tx.connection.execute(
        update(item).where(guard, is_state(ItemState.LEASED)).values(_unleased(tx, state) | values)
    )
    return state if changed.rowcount else None


def _settle(tx: Tx, lease: Lease, state: ItemState, values: dict[str, Any], stored_bytes: int = 0) -> bool:
    before = lock_job(tx, lease.job_id)
    return before is not None and _settle_locked(tx, before, lease, state, values, stored_bytes)


def _settle_locked(
    tx: Tx, before: Job, lease: Lease, state: ItemState, values: dict[str, Any], stored_bytes: int = 0
) -> bool:
    if not _write(tx, lease, state, values):
        return _was_written(tx, lease, state)
    if state is ItemState.QUEUED:
        tx.announce_work()
        return True
    after = advance(before, tx.now, {state: 1}, stored_bytes=stored_bytes)
    save(tx, before, after, item=_event_data(lease.position, state))
    return True


def _write(tx: Tx, lease: Lease, state: ItemState, values: dict[str, Any]) -> bool:
    changed = tx.connection.execute(
        update(item)
        .where(item.c.id == lease.item_id, item.c.token == lease.token, is_state(ItemState.LEASED))
        .values(_unleased(tx, state) | values)
    )
    return changed.rowcount == 1


def _unleased(tx: Tx, state: ItemState) -> dict[str, Any]:
    # The token stays, so that the same call repeated after a lost answer recognises its own deed.
    ended = state is not ItemState.QUEUED
    return {"state": state.value, "lease_until": None, "begun_at": None, "finished_at": tx.now if ended else None}


def _was_written(tx: Tx, lease: Lease, state: ItemState) -> bool:
    mine = (item.c.id == lease.item_id) & (item.c.token == lease.token)
    return tx.connection.execute(select(item.c.state).where(mine)).scalar_one_or_none() == state


def _event_data(position: int, state: ItemState) -> dict[str, Any]:
    return {"item": {"position": position, "state": state.value}}
