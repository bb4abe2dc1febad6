"""How every job store gives out items one by one, page by page, and runs chosen ones again."""

from __future__ import annotations

import pytest
from every_store import clock, fast_folder, store

from jobs_support import claim_one, counters, postgres, submit
from steadyocr.errors import JobNotFound, NotFoundError, UndecodableImage
from steadyocr.jobs.models import ItemOutcome, ItemState
from steadyocr.jobs.store import JobStore

__all__ = ["clock", "fast_folder", "postgres", "store"]

DAMAGED = UndecodableImage("damaged").to_wire()


def test_an_offset_counts_only_what_fits(store: JobStore) -> None:
    job = submit(store, 6)
    for number in range(4):
        lease = claim_one(store)
        if number % 2:
            store.fail(lease, DAMAGED)
        else:
            store.complete(lease, ItemOutcome(result={}))
    failed = store.items(job.id, states=[ItemState.FAILED])
    assert len(failed) == 2
    assert store.items(job.id, states=[ItemState.FAILED], offset=1) == failed[1:]
    assert [item.position for item in store.items(job.id, offset=2, limit=3)] == [2, 3, 4]
    assert [item.position for item in store.items(job.id, after=0, offset=2, limit=1)] == [3]
    assert store.items(job.id, offset=6) == []


def test_an_item_is_given_with_its_result_even_behind_an_unfinished_one(store: JobStore) -> None:
    job = submit(store, 2)
    first, second = claim_one(store), claim_one(store)
    store.complete(second, ItemOutcome(result={"text": "b"}))
    assert store.results(job.id) == []
    assert store.item(job.id, second.position).result == {"text": "b"}
    assert store.item(job.id, first.position).state is ItemState.LEASED
    for position in (-1, 2):
        with pytest.raises(NotFoundError):
            store.item(job.id, position)
    with pytest.raises(JobNotFound):
        store.item("nothing", 0)


UNKNOWN: set[int | None] = {None}
PAGES: list[tuple[object, set[int | None]]] = [
    ({"lines": [{"text": "a"}, {"text": "b"}]}, {2}),
    ({"lines": []}, {0}),
    # PostgreSQL does not look into values like these.
    ({"lines": [{"text": "\x00"}, {"text": "\\u0000"}]}, {2, None}),
    ({"lines": [{"text": "\ud83d"}]}, {1, None}),
    ({"lines": "none"}, UNKNOWN),
    ({"expanded": 3}, UNKNOWN),
    ([], UNKNOWN),
    ("lines", UNKNOWN),
    (None, UNKNOWN),
]


@pytest.mark.parametrize(("result", "counts"), PAGES, ids=lambda value: repr(value)[:40])
def test_a_list_of_items_tells_the_number_of_lines(store: JobStore, result: object, counts: set[int | None]) -> None:
    """From the row alone; and a result that a database cannot look into does not keep the list from coming."""
    job = submit(store, 2)
    store.complete(claim_one(store), ItemOutcome(result=result))
    first, second = store.items(job.id)
    assert second.lines is None
    assert first.lines in counts


def test_a_large_result_is_not_fetched_to_count_its_lines(store: JobStore) -> None:
    job = submit(store, 1)
    store.complete(claim_one(store), ItemOutcome(result_ref="0" * 64))
    assert [item.lines for item in store.items(job.id)] == [None]


def test_only_chosen_items_are_run_again(store: JobStore) -> None:
    job = submit(store, 4)
    for _ in range(3):
        store.fail(claim_one(store), DAMAGED)
    again = store.retry(job.id, [ItemState.FAILED], [0, 2, 3, 77])
    assert counters(again) == {"failed": 1}
    assert [item.state for item in store.items(job.id)] == [
        ItemState.QUEUED,
        ItemState.FAILED,
        ItemState.QUEUED,
        ItemState.QUEUED,
    ]
    assert counters(store.retry(job.id, [ItemState.FAILED], [])) == {"failed": 1}
