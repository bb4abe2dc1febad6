"""How every job store counts what is in it."""

from __future__ import annotations

from every_store import clock, fast_folder, store

from jobs_support import claim_one, postgres, submit
from steadyocr.errors import UndecodableImage
from steadyocr.jobs.models import ItemOutcome, ItemState, JobState
from steadyocr.jobs.store import JobStore
from steadyocr.testing import FakeClock

__all__ = ["clock", "fast_folder", "postgres", "store"]


def test_an_empty_store_has_nothing_in_it(store: JobStore) -> None:
    census = store.census()
    assert sum(census.jobs.values()) == sum(census.items.values()) == census.oldest_waiting_s == 0


def test_jobs_and_items_are_counted_by_state(store: JobStore, clock: FakeClock) -> None:
    done = submit(store, 1)
    assert store.complete(claim_one(store), ItemOutcome(result={}))
    clock.advance(10)
    submit(store, 3)
    clock.advance(5)
    assert store.fail(claim_one(store), UndecodableImage("damaged").to_wire())
    claim_one(store)
    cancelled = submit(store, 2)
    store.cancel(cancelled.id)
    census = store.census()
    assert {state: count for state, count in census.jobs.items() if count} == {
        JobState.DONE: 1,
        JobState.RUNNING: 1,
        JobState.CANCELLED: 1,
    }
    assert {state: count for state, count in census.items.items() if count} == {
        ItemState.DONE: 1,
        ItemState.FAILED: 1,
        ItemState.LEASED: 1,
        ItemState.QUEUED: 1,
        ItemState.CANCELLED: 2,
    }
    assert census.oldest_waiting_s == 5
    assert store.job(done.id).state is JobState.DONE
