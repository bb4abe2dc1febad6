"""What every job store does. Runs on the one in memory, on SQLite and on PostgreSQL."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from every_store import CONFIG, clock, fast_folder, store

from jobs_support import claim_one, counters, key_of, new_items, postgres, submit
from steadyocr.errors import (
    EmptyInput,
    EngineDied,
    IdempotencyConflict,
    InsufficientStorage,
    JobNotFound,
    PayloadTooLarge,
    UndecodableImage,
)
from steadyocr.jobs.models import ItemOutcome, ItemState, Job, JobState, Lease, NewItem, NewJob
from steadyocr.jobs.store import JobStore
from steadyocr.testing import FakeClock

__all__ = ["clock", "fast_folder", "postgres", "store"]

DAMAGED = UndecodableImage("damaged").to_wire()
DIED = EngineDied("died").to_wire()
READ = ItemOutcome(result={"text": "您好"})


def states_of(store: JobStore, job_id: str) -> list[ItemState]:
    return [item.state for item in store.items(job_id, limit=10_000)]


def finish(store: JobStore, lease: Lease) -> None:
    assert store.complete(lease, READ)


# --- coming in


def test_a_job_comes_back_as_it_was_given(store: JobStore, clock: FakeClock) -> None:
    items = (NewItem(input_ref=key_of(7), name="发票.png", size_bytes=12), NewItem(input_ref=key_of(8)))
    made = store.submit(NewJob(items=items, options={"max_side": 960}, meta={"for": "me"}, priority=3, tenant="a"))
    job = store.job(made.id)
    assert job == made
    assert (job.state, job.total, job.ended, job.remaining) == (JobState.QUEUED, 2, 0, 2)
    assert (job.options, job.meta, job.priority, job.tenant) == ({"max_side": 960}, {"for": "me"}, 3, "a")
    assert (job.created_at, job.started_at, job.finished_at, job.stored_bytes) == (clock.now, None, None, 12)
    first, second = store.items(job.id)
    assert (first.position, first.name, first.input_ref, first.state) == (0, "发票.png", key_of(7), ItemState.QUEUED)
    assert (second.position, second.name, second.size_bytes) == (1, "", 0)


def test_the_same_key_and_request_give_the_same_job(store: JobStore) -> None:
    first = submit(store, 2, idempotency_key="k", request_hash="h")
    again = submit(store, 2, idempotency_key="k", request_hash="h")
    assert again == first
    assert len(store.jobs()) == 1
    assert store.waiting() == 2


def test_the_same_key_with_another_request_is_a_conflict(store: JobStore) -> None:
    submit(store, 1, idempotency_key="k", request_hash="h")
    with pytest.raises(IdempotencyConflict):
        submit(store, 1, idempotency_key="k", request_hash="other")


def test_keys_of_tenants_do_not_meet(store: JobStore) -> None:
    first = submit(store, 1, idempotency_key="k", request_hash="h", tenant="a")
    second = submit(store, 1, idempotency_key="k", request_hash="other", tenant="b")
    assert first.id != second.id


def test_a_repeated_key_gives_the_job_as_it_stands_now(store: JobStore) -> None:
    submit(store, 1, idempotency_key="k", request_hash="h")
    finish(store, claim_one(store))
    assert submit(store, 1, idempotency_key="k", request_hash="h").state is JobState.DONE


def test_a_job_without_items_is_refused(store: JobStore) -> None:
    with pytest.raises(EmptyInput):
        submit(store, 0)


def test_a_job_of_ten_thousand_items_is_taken_and_one_more_is_not(store: JobStore) -> None:
    job = submit(store, 10_000)
    assert (job.total, store.waiting()) == (10_000, 10_000)
    with pytest.raises(PayloadTooLarge):
        submit(store, 10_001)
    assert store.waiting() == 10_000


def test_items_that_were_refused_before_enter_as_failed(store: JobStore) -> None:
    refused = NewItem(input_ref=None, name="bad.png", error=DAMAGED)
    job = store.submit(NewJob(items=(refused, *new_items(1))))
    assert (job.state, counters(job)) == (JobState.QUEUED, {"failed": 1})
    only_refused = store.submit(NewJob(items=(refused,)))
    assert (only_refused.state, only_refused.finished_at is None) == (JobState.DONE, False)
    (item,) = store.results(only_refused.id)
    assert item.error == DAMAGED


def test_any_name_can_be_stored(store: JobStore) -> None:
    job = store.submit(NewJob(items=(NewItem(input_ref=key_of(1), name="x" * 1000 + "a\0b\ud800c\n"),)))
    (item,) = store.items(job.id)
    unknown = "\N{REPLACEMENT CHARACTER}"
    assert item.name.endswith(f"xa{unknown}b{unknown}c{unknown}")
    assert len(item.name) == 255


# --- leases


def test_a_claim_gives_what_the_work_needs(store: JobStore, clock: FakeClock) -> None:
    job = submit(store, 1, options={"recognise": False}, deadline_s=60.0)
    lease = claim_one(store, lease_s=10.0)
    assert (lease.job_id, lease.position, lease.kind, lease.name) == (job.id, 0, "read", "0.png")
    assert (lease.input_ref, lease.size_bytes, lease.options) == (key_of(0), 100, {"recognise": False})
    assert (lease.attempts, lease.losses, lease.alone) == (0, 0, False)
    assert (lease.deadline, lease.lease_until) == (clock.now + 60, clock.now + 10)
    assert store.claim("me") == []
    now = store.job(job.id)
    assert (now.state, now.started_at) == (JobState.RUNNING, clock.now)


def test_no_item_is_given_twice(store: JobStore) -> None:
    submit(store, 20)
    leases = [lease for _ in range(8) for lease in store.claim("me", limit=3)]
    assert sorted(lease.position for lease in leases) == list(range(20))
    assert len({lease.token for lease in leases}) >= 7


def test_an_outcome_ends_item_and_job_at_once(store: JobStore, clock: FakeClock) -> None:
    job = submit(store, 1)
    lease = claim_one(store)
    clock.advance(2)
    assert store.complete(lease, ItemOutcome(result={"text": "您好"}, overlay_ref=key_of(9), stored_bytes=40))
    now = store.job(job.id)
    assert (now.state, counters(now), now.finished_at) == (JobState.DONE, {"done": 1}, clock.now)
    assert now.stored_bytes == 140
    (item,) = store.results(job.id)
    assert (item.state, item.result, item.overlay_ref) == (ItemState.DONE, {"text": "您好"}, key_of(9))
    assert (item.finished_at, item.lease_until, item.error) == (clock.now, None, None)


@pytest.mark.parametrize("result", [{}, [], "", 0, None, {"lines": []}, {"text": "\0 and half: \ud83d"}])
def test_an_empty_or_odd_result_is_a_result(store: JobStore, result: object) -> None:
    # Prototype bug 3: an empty result was not stored.
    job = submit(store, 1)
    assert store.complete(claim_one(store), ItemOutcome(result=result))
    (item,) = store.results(job.id)
    assert (item.state, item.result) == (ItemState.DONE, result)


def test_a_large_result_is_known_by_its_key(store: JobStore) -> None:
    job = submit(store, 1)
    assert store.complete(claim_one(store), ItemOutcome(result_ref=key_of(5)))
    (item,) = store.results(job.id)
    assert (item.result, item.result_ref) == (None, key_of(5))


def test_the_same_outcome_twice_counts_once(store: JobStore) -> None:
    job = submit(store, 2)
    lease = claim_one(store)
    assert store.complete(lease, READ)
    assert store.complete(lease, READ)
    assert not store.fail(lease, DAMAGED)
    assert counters(store.job(job.id)) == {"done": 1}


def test_a_late_outcome_is_refused(store: JobStore, clock: FakeClock) -> None:
    job = submit(store, 1)
    late = claim_one(store, "slow", lease_s=10)
    clock.advance(11)
    assert store.reap() == 1
    clock.advance(10)
    lease = claim_one(store, "quick")
    assert lease.item_id == late.item_id
    assert lease.token != late.token
    assert not store.complete(late, ItemOutcome(result="late"))
    assert not store.fail(late, DAMAGED)
    assert store.retry_later(late, DIED) is None
    assert not store.release(late)
    finish(store, lease)
    assert not store.complete(late, ItemOutcome(result="late"))
    assert counters(store.job(job.id)) == {"done": 1}
    assert store.results(job.id)[0].result == READ.result


def test_an_item_that_failed_for_what_it_is_is_not_tried_again(store: JobStore, clock: FakeClock) -> None:
    job = submit(store, 1)
    assert store.fail(claim_one(store), DAMAGED)
    clock.advance(1000)
    assert store.claim("me") == []
    assert (store.job(job.id).state, counters(store.job(job.id))) == (JobState.DONE, {"failed": 1})
    assert store.results(job.id)[0].error == DAMAGED


def test_an_item_that_ends_engines_is_dead_at_once(store: JobStore, clock: FakeClock) -> None:
    job = submit(store, 1)
    assert store.fail(claim_one(store), DIED, dead=True)
    (item,) = store.results(job.id)
    assert (item.state, store.job(job.id).dead) == (ItemState.DEAD, 1)
    assert item.error is not None
    assert item.error["code"] == "engine_died"
    store.retry(job.id)
    assert claim_one(store).attempts == 0, "somebody may know better"


def test_bad_runs_are_repeated_with_growing_pauses_and_then_given_up(store: JobStore, clock: FakeClock) -> None:
    job = submit(store, 1)
    assert store.retry_later(claim_one(store), DIED) is ItemState.QUEUED
    assert store.claim("me") == []
    clock.advance(1.9)
    assert store.claim("me") == []
    clock.advance(0.2)
    lease = claim_one(store)
    assert (lease.attempts, lease.alone) == (1, True)
    assert store.retry_later(lease, DIED) is ItemState.QUEUED
    clock.advance(3.9)
    assert store.claim("me") == []
    clock.advance(0.2)
    assert store.retry_later(claim_one(store), DIED) is ItemState.DEAD
    clock.advance(1000)
    assert store.claim("me") == []
    now = store.job(job.id)
    assert (now.state, counters(now)) == (JobState.DONE, {"dead": 1})
    (item,) = store.results(job.id)
    assert (item.state, item.attempts, item.error) == (ItemState.DEAD, 3, DIED)


def test_a_released_item_carries_no_blame(store: JobStore, clock: FakeClock) -> None:
    submit(store, 1)
    for _ in range(10):
        lease = claim_one(store)
        assert (lease.attempts, lease.losses, lease.alone) == (0, 0, False)
        assert store.release(lease, delay_s=3)
        assert store.claim("me") == []
        clock.advance(3)


def test_a_heartbeat_extends_what_is_known_and_nothing_else(store: JobStore, clock: FakeClock) -> None:
    # Prototype bug 2: all items of an owner were extended, so a claim whose answer was lost never ran out.
    submit(store, 2)
    known = claim_one(store, "me", lease_s=10)
    claim_one(store, "me", lease_s=10)
    clock.advance(8)
    assert store.heartbeat([known], lease_s=10).lost == frozenset()
    clock.advance(8)
    assert store.reap() == 1
    finish(store, known)
    clock.advance(100)
    assert claim_one(store).position == 1


def test_a_heartbeat_tells_lost_leases_by_item_and_token(store: JobStore, clock: FakeClock) -> None:
    # Prototype bug 1: a lost item was known by its id alone, and so the re-claimed one counted as lost too.
    submit(store, 1)
    first = claim_one(store, lease_s=10)
    clock.advance(11)
    store.reap()
    assert store.heartbeat([first]).lost == {first.key}
    clock.advance(10)
    second = claim_one(store, lease_s=10)
    assert second.item_id == first.item_id
    beat = store.heartbeat([first, second], lease_s=10)
    assert (beat.lost, beat.unwanted) == (frozenset({first.key}), frozenset())
    finish(store, second)


def test_no_leases_no_heartbeat(store: JobStore) -> None:
    beat = store.heartbeat([])
    assert (beat.lost, beat.unwanted) == (frozenset(), frozenset())


def test_a_lease_that_ran_out_but_was_not_taken_back_still_counts(store: JobStore, clock: FakeClock) -> None:
    submit(store, 1)
    lease = claim_one(store, lease_s=10)
    clock.advance(11)
    assert store.heartbeat([lease], lease_s=10).lost == frozenset()
    assert store.reap() == 0
    finish(store, lease)


def test_an_item_that_is_lost_again_and_again_is_given_up(store: JobStore, clock: FakeClock) -> None:
    job = submit(store, 1)
    for losses in range(4):
        lease = claim_one(store, lease_s=10)
        assert (lease.losses, lease.attempts, lease.alone) == (losses, 0, losses > 0)
        clock.advance(10)
        assert store.reap() == 1
        clock.advance(5)
    assert store.claim("me") == []
    (item,) = store.results(job.id)
    assert (item.state, item.losses) == (ItemState.DEAD, 4)
    assert item.error is not None
    assert item.error["code"] == "engine_died"
    assert counters(store.job(job.id)) == {"dead": 1}


def test_of_several_claimed_items_only_the_one_begun_is_blamed(store: JobStore, clock: FakeClock) -> None:
    # Prototype bug 5: all items fetched ahead were blamed for a crash, and innocent ones died.
    submit(store, 4)
    leases = store.claim("me", limit=4, lease_s=10)
    assert store.begin(leases[1])
    clock.advance(10)
    assert store.reap() == 4
    clock.advance(10)
    assert [lease.losses for lease in store.claim("me", limit=4)] == [0, 1, 0, 0]


def test_work_on_a_lost_lease_cannot_begin(store: JobStore, clock: FakeClock) -> None:
    submit(store, 1)
    (lease,) = store.claim("me", limit=2, lease_s=10)
    clock.advance(10)
    store.reap()
    assert not store.begin(lease)


# --- the whole job


def test_cancelling_ends_what_waits_and_tells_what_runs(store: JobStore) -> None:
    job = submit(store, 5)
    done, running, slow = claim_one(store), claim_one(store), claim_one(store)
    finish(store, done)
    cancelled = store.cancel(job.id)
    assert (cancelled.state, counters(cancelled)) == (JobState.CANCELLED, {"done": 1, "cancelled": 2})
    assert cancelled.finished_at is None
    assert store.claim("me") == []
    assert store.heartbeat([running, slow]).unwanted == {running.key, slow.key}
    assert store.release(running)
    finish(store, slow)
    ended = store.job(job.id)
    assert (ended.state, counters(ended)) == (JobState.CANCELLED, {"done": 2, "cancelled": 3})
    assert ended.finished_at is not None
    assert store.cancel(job.id) == ended


def test_a_lost_item_of_a_cancelled_job_is_not_run_again(store: JobStore, clock: FakeClock) -> None:
    job = submit(store, 2)
    claim_one(store, lease_s=10)
    lease = claim_one(store, lease_s=100)
    store.cancel(job.id)
    clock.advance(10)
    assert store.reap() == 1
    assert store.retry_later(lease, DIED) is ItemState.CANCELLED
    assert counters(store.job(job.id)) == {"cancelled": 2}


def test_cancelling_a_finished_job_changes_nothing(store: JobStore) -> None:
    job = submit(store, 1)
    finish(store, claim_one(store))
    assert store.cancel(job.id).state is JobState.DONE


def test_failed_and_dead_items_run_again_with_a_clean_slate(store: JobStore, clock: FakeClock) -> None:
    job = store.submit(NewJob(items=(*new_items(3), NewItem(input_ref=None, error=DAMAGED))))
    finish(store, claim_one(store))
    assert store.fail(claim_one(store), DAMAGED)
    for _ in range(3):
        store.retry_later(claim_one(store), DIED)
        clock.advance(10)
    before = store.job(job.id)
    assert (before.state, counters(before)) == (JobState.DONE, {"done": 1, "failed": 2, "dead": 1})
    again = store.retry(job.id)
    assert (again.state, counters(again), again.finished_at) == (JobState.RUNNING, {"done": 1, "failed": 1}, None)
    leases = [claim_one(store), claim_one(store)]
    assert [(lease.position, lease.attempts, lease.losses) for lease in leases] == [(1, 0, 0), (2, 0, 0)]
    for lease in leases:
        finish(store, lease)
    assert counters(store.job(job.id)) == {"done": 3, "failed": 1}
    assert store.retry(job.id) == store.job(job.id)


def test_an_old_lease_does_not_count_after_a_retry(store: JobStore) -> None:
    job = submit(store, 1)
    lease = claim_one(store)
    assert store.fail(lease, DAMAGED)
    store.retry(job.id)
    assert not store.fail(lease, DAMAGED)
    assert not store.release(lease)
    assert states_of(store, job.id) == [ItemState.QUEUED]


def test_cancelled_items_run_again_on_request(store: JobStore) -> None:
    job = submit(store, 3)
    store.cancel(job.id)
    again = store.retry(job.id, [ItemState.CANCELLED])
    assert (again.state, again.remaining) == (JobState.RUNNING, 3)
    assert store.heartbeat([claim_one(store)]).unwanted == frozenset()


def test_what_was_not_started_in_time_expires(store: JobStore, clock: FakeClock) -> None:
    job = submit(store, 3, deadline_s=60.0)
    other = submit(store, 1)
    lease = claim_one(store, lease_s=1000)
    clock.advance(59)
    assert store.expire_overdue() == 0
    clock.advance(1)
    assert store.expire_overdue() == 1
    expired = store.job(job.id)
    assert (expired.state, counters(expired), expired.finished_at) == (JobState.EXPIRED, {"expired": 2}, None)
    assert store.heartbeat([lease], lease_s=1000).unwanted == {lease.key}
    assert store.release(lease)
    assert counters(store.job(job.id)) == {"expired": 3}
    assert store.job(job.id).finished_at == clock.now
    assert claim_one(store).job_id == other.id
    assert store.expire_overdue() == 0


def test_a_claim_never_gives_what_is_overdue(store: JobStore, clock: FakeClock) -> None:
    late = submit(store, 50, deadline_s=60.0)
    job = submit(store, 1)
    clock.advance(61)
    assert claim_one(store).job_id == job.id
    assert store.claim("me") == []
    assert (store.job(late.id).state, counters(store.job(late.id))) == (JobState.EXPIRED, {"expired": 50})


def test_expired_items_run_again_on_request_without_the_deadline(store: JobStore, clock: FakeClock) -> None:
    job = submit(store, 1, deadline_s=60.0)
    clock.advance(61)
    store.expire_overdue()
    assert store.retry(job.id, [ItemState.EXPIRED]).deadline is None
    assert claim_one(store).job_id == job.id


@pytest.mark.parametrize("state", [ItemState.FAILED, ItemState.CANCELLED])
def test_whatever_runs_again_after_the_deadline_runs_without_it(
    store: JobStore, clock: FakeClock, state: ItemState
) -> None:
    job = submit(store, 1, deadline_s=60.0)
    if state is ItemState.FAILED:
        assert store.fail(claim_one(store), DAMAGED)
    else:
        store.cancel(job.id)
    clock.advance(60)
    assert store.retry(job.id, [state]).deadline is None
    assert store.expire_overdue() == 0
    assert claim_one(store).job_id == job.id


def test_a_deadline_to_come_holds_for_what_runs_again(store: JobStore, clock: FakeClock) -> None:
    job = submit(store, 1, deadline_s=60.0)
    assert store.fail(claim_one(store), DAMAGED)
    clock.advance(59)
    assert store.retry(job.id).deadline == clock.now + 1
    clock.advance(1)
    assert store.expire_overdue() == 1


def test_a_deleted_job_is_gone_with_all_it_had(store: JobStore) -> None:
    job = submit(store, 2, idempotency_key="k", request_hash="h")
    lease = claim_one(store)
    store.delete(job.id)
    for ask in (store.job, store.items, store.results, store.events, store.progress, store.cancel, store.retry):
        with pytest.raises(JobNotFound):
            ask(job.id)
    with pytest.raises(JobNotFound):
        store.delete(job.id)
    assert store.heartbeat([lease]).lost == {lease.key}
    assert not store.complete(lease, READ)
    assert not store.release(lease)
    assert store.claim("me") == []
    assert submit(store, 1, idempotency_key="k", request_hash="other").id != job.id


# --- order


def test_higher_priority_goes_first(store: JobStore) -> None:
    low, high, normal = submit(store, 1, priority=-1), submit(store, 1, priority=5), submit(store, 1)
    assert [claim_one(store).job_id for _ in range(3)] == [high.id, normal.id, low.id]


def test_a_late_small_job_is_neither_last_nor_first(store: JobStore) -> None:
    big = submit(store, 100)
    for _ in range(10):
        finish(store, claim_one(store))
    small = submit(store, 5)
    served = [claim_one(store).job_id for _ in range(12)]
    assert served.count(small.id) == 5
    assert served.count(big.id) == 7


def test_an_item_that_is_tried_again_does_not_set_the_virtual_time_back(store: JobStore, clock: FakeClock) -> None:
    big = submit(store, 40)
    store.retry_later(claim_one(store), DIED)
    for _ in range(20):
        finish(store, claim_one(store))
    late = submit(store, 40)
    served = [claim_one(store).job_id for _ in range(10)]
    assert 4 <= served.count(late.id) <= 6
    assert served.count(big.id) == 10 - served.count(late.id)


def test_two_archives_of_a_job_do_not_count_as_two_jobs(store: JobStore) -> None:
    job = store.submit(NewJob(items=new_items(2, kind="expand")))
    for _ in range(2):
        assert store.expand(claim_one(store), new_items(20))
    other = submit(store, 20)
    served = [claim_one(store).job_id for _ in range(20)]
    assert 9 <= served.count(other.id) <= 11
    assert job.id in served


def test_how_much_is_ahead(store: JobStore) -> None:
    first, second = submit(store, 10), submit(store, 3)
    assert (store.progress(first.id).ahead, store.progress(second.id).ahead) == (13, 6)
    lease = claim_one(store)
    progress = store.progress(first.id)
    assert (progress.leased, progress.ahead, progress.job) == (1, 12, store.job(first.id))
    finish(store, lease)
    store.cancel(second.id)
    assert (store.progress(second.id).ahead, store.progress(first.id).leased) == (0, 0)


def test_archives_ahead_are_told_until_their_pictures_are_counted(store: JobStore) -> None:
    archive = store.submit(NewJob(items=new_items(1, "expand")))
    job, urgent = submit(store, 2), submit(store, 1, priority=1)
    assert [store.progress(one.id).archives for one in (archive, job, urgent)] == [1, 1, 0]
    finish(store, claim_one(store))
    lease = claim_one(store)
    assert lease.kind == "expand"
    assert [store.progress(one.id).archives for one in (archive, job, urgent)] == [1, 1, 0]
    assert store.expand(lease, new_items(5))
    assert [store.progress(one.id).archives for one in (archive, job)] == [0, 0]


# --- archives


def test_an_expansion_queues_the_content_in_the_same_step(store: JobStore) -> None:
    job = store.submit(NewJob(items=(*new_items(1, kind="expand"), *new_items(1))))
    lease = claim_one(store)
    assert lease.kind == "expand"
    refused = NewItem(input_ref=None, name="locked.png", error=DAMAGED)
    assert store.expand(lease, (*new_items(2), refused))
    now = store.job(job.id)
    assert (now.total, now.state, counters(now)) == (5, JobState.RUNNING, {"done": 1, "failed": 1})
    assert now.stored_bytes == 400
    items = store.items(job.id)
    assert [(item.position, item.parent, item.kind) for item in items] == [
        (0, None, "expand"),
        (1, None, "read"),
        (2, 0, "read"),
        (3, 0, "read"),
        (4, 0, "read"),
    ]
    assert store.results(job.id, limit=1)[0].result == {"expanded": 3}
    assert store.expand(lease, (*new_items(2), refused)), "the same again is the same"
    assert store.job(job.id) == now


def test_an_expansion_without_the_lease_adds_nothing(store: JobStore, clock: FakeClock) -> None:
    job = store.submit(NewJob(items=new_items(1, kind="expand")))
    lease = claim_one(store, lease_s=10)
    clock.advance(10)
    store.reap()
    assert not store.expand(lease, new_items(5))
    assert store.job(job.id).total == 1


def test_an_expansion_beyond_the_limit_changes_nothing(store: JobStore) -> None:
    job = store.submit(NewJob(items=new_items(1, kind="expand")))
    lease = claim_one(store)
    with pytest.raises(PayloadTooLarge):
        store.expand(lease, new_items(10_000))
    assert states_of(store, job.id) == [ItemState.LEASED]
    assert store.fail(lease, DAMAGED)


def test_the_content_of_a_cancelled_archive_is_cancelled(store: JobStore) -> None:
    job = store.submit(NewJob(items=new_items(1, kind="expand")))
    lease = claim_one(store)
    store.cancel(job.id)
    assert store.expand(lease, new_items(3))
    now = store.job(job.id)
    assert (now.state, counters(now), now.finished_at is None) == (
        JobState.CANCELLED,
        {"done": 1, "cancelled": 3},
        False,
    )


# --- asking


def test_items_are_paged_by_position_and_chosen_by_state(store: JobStore) -> None:
    job = submit(store, 7)
    store.fail(claim_one(store), DAMAGED)
    assert [item.position for item in store.items(job.id, limit=3)] == [0, 1, 2]
    assert [item.position for item in store.items(job.id, after=2, limit=3)] == [3, 4, 5]
    assert [item.position for item in store.items(job.id, after=5, limit=3)] == [6]
    assert store.items(job.id, after=6) == []
    assert [item.position for item in store.items(job.id, states=[ItemState.FAILED])] == [0]


def test_results_come_in_order_and_none_is_skipped(store: JobStore) -> None:
    job = submit(store, 4)
    leases = [claim_one(store) for _ in range(3)]
    finish(store, leases[0])
    finish(store, leases[2])
    assert [item.position for item in store.results(job.id)] == [0]
    assert store.results(job.id, after=0) == []
    finish(store, leases[1])
    assert [item.position for item in store.results(job.id, after=0, limit=1)] == [1]
    assert [item.position for item in store.results(job.id, after=1)] == [2]
    assert store.items(job.id)[0].result is None


def test_results_taken_while_a_job_is_retried_are_results(store: JobStore) -> None:
    job, over = submit(store, 4), threading.Event()

    def fail_and_retry() -> None:
        for _ in range(60):
            while lease := next(iter(store.claim("me")), None):
                store.fail(lease, DAMAGED)
            store.retry(job.id)
        over.set()

    retrying = threading.Thread(target=fail_and_retry, name="retrying")
    retrying.start()
    unfinished = []
    while not over.is_set():
        unfinished += [
            item.state for item in store.results(job.id) if item.state in (ItemState.QUEUED, ItemState.LEASED)
        ]
    retrying.join()
    assert unfinished == []


def test_events_are_numbered_without_gaps_and_tell_how_the_job_stands(store: JobStore, clock: FakeClock) -> None:
    job = submit(store, 2)
    finish(store, claim_one(store))
    finish(store, claim_one(store))
    events = store.events(job.id)
    assert [event.id for event in events] == [1, 2, 3, 4, 5]
    assert [event.kind for event in events] == ["job", "job", "item", "item", "job"]
    assert [event.data["state"] for event in events] == ["queued", "running", "running", "done", "done"]
    assert [event.data["done"] for event in events] == [0, 0, 1, 2, 2]
    assert events[2].data["item"] == {"position": 0, "state": "done"}
    assert (events[-1].data["finished"], events[-2].at) == (True, clock.now)
    assert store.job(job.id).last_event == 5
    assert [event.id for event in store.events(job.id, after=2, limit=2)] == [3, 4]
    assert store.events(job.id, after=5) == []


def test_old_events_are_dropped(store: JobStore) -> None:
    job = submit(store, 300)
    for lease in store.claim("me", limit=300):
        store.complete(lease, READ)
    events = store.events(job.id, limit=1000)
    assert [event.id for event in events] == list(range(events[0].id, 304))
    assert 50 <= len(events) <= 150


def test_jobs_are_listed_newest_first_in_pages(store: JobStore, clock: FakeClock) -> None:
    made = []
    for tenant in ("a", "b", "a", "b", "a"):
        made.append(submit(store, 1, tenant=tenant))
        clock.advance(1)
    first = store.jobs(limit=2)
    assert [job.id for job in first] == [made[4].id, made[3].id]
    assert [job.id for job in store.jobs(before=first[-1].place)] == [made[2].id, made[1].id, made[0].id]
    assert [job.id for job in store.jobs(tenant="a")] == [made[4].id, made[2].id, made[0].id]
    store.cancel(made[1].id)
    assert [job.id for job in store.jobs(states=[JobState.CANCELLED])] == [made[1].id]


def test_jobs_of_one_moment_are_paged_too(store: JobStore) -> None:
    made = {submit(store, 1).id for _ in range(5)}
    seen = store.jobs(limit=2)
    while page := store.jobs(before=seen[-1].place, limit=2):
        seen += page
    assert len(seen) == 5
    assert {job.id for job in seen} == made


# --- keeping and forgetting


def test_old_jobs_are_pruned_and_running_ones_never(store: JobStore, clock: FakeClock) -> None:
    old = submit(store, 1)
    finish(store, claim_one(store))
    running = submit(store, 1)
    clock.advance(100)
    young = submit(store, 1, priority=1)
    finish(store, claim_one(store))
    clock.advance(50)
    assert store.prune(100) == 1
    assert {job.id for job in store.jobs()} == {running.id, young.id}
    with pytest.raises(JobNotFound):
        store.job(old.id)


def test_many_old_jobs_are_pruned_in_one_call(store: JobStore, clock: FakeClock) -> None:
    for _ in range(50):
        store.cancel(submit(store, 1).id)
    clock.advance(10)
    assert store.prune(5) == 50
    assert store.jobs() == []


def test_throwing_away_can_be_broken_off_between_two_steps(store: JobStore, clock: FakeClock) -> None:
    for _ in range(50):
        store.cancel(submit(store, 1).id)
    clock.advance(2 * CONFIG.grace_s)
    assert store.prune_to_quota(0, lambda: False) == 0
    wanted = iter([True, False])
    assert store.prune_to_quota(0, lambda: next(wanted)) == 1
    assert store.prune(5, lambda: False) == 0
    wanted = iter([True, False])
    assert 0 < store.prune(5, lambda: next(wanted)) <= 20
    assert store.prune(5) > 0
    assert store.jobs() == []


def test_the_quota_takes_the_oldest_ended_jobs(store: JobStore, clock: FakeClock) -> None:
    made = []
    for _ in range(4):
        made.append(submit(store, 10))
        clock.advance(1)
    for job in made[:3]:
        store.cancel(job.id)
        clock.advance(1)
    clock.advance(CONFIG.grace_s)
    assert store.stored_bytes() == 4000
    assert store.prune_to_quota(4000) == 0
    assert store.prune_to_quota(2500) == 2
    assert {job.id for job in store.jobs()} == {made[2].id, made[3].id}
    assert store.prune_to_quota(0) == 1
    assert [job.id for job in store.jobs()] == [made[3].id]


def test_the_quota_spares_what_nobody_has_had_the_time_to_fetch(store: JobStore, clock: FakeClock) -> None:
    old, young = submit(store, 1), submit(store, 1)
    store.cancel(old.id)
    clock.advance(CONFIG.grace_s / 2)
    store.cancel(young.id)
    assert store.prune_to_quota(0) == 0
    clock.advance(CONFIG.grace_s / 2)
    assert store.prune_to_quota(0) == 1
    assert [job.id for job in store.jobs()] == [young.id]
    clock.advance(CONFIG.grace_s / 2)
    assert store.prune_to_quota(0) == 1


QUOTA = CONFIG.max_stored_bytes
THIRD = QUOTA // 3


def submit_bytes(store: JobStore, size_bytes: int, **fields: Any) -> Job:
    return store.submit(NewJob(items=(NewItem(input_ref=key_of(1), size_bytes=size_bytes),), **fields))


def refused_for_room(store: JobStore, size_bytes: int) -> InsufficientStorage:
    with pytest.raises(InsufficientStorage) as caught:
        submit_bytes(store, size_bytes)
    return caught.value


def test_a_job_that_does_not_fit_beside_unfinished_ones_is_refused(store: JobStore, clock: FakeClock) -> None:
    jobs = [submit_bytes(store, THIRD) for _ in range(3)]
    clock.advance(10 * CONFIG.grace_s)
    assert refused_for_room(store, THIRD).retry_after_s == 60.0, "when they end nobody knows"
    assert [job.id for job in store.jobs()] == sorted((job.id for job in jobs), reverse=True)
    store.delete(jobs[0].id)
    assert submit_bytes(store, THIRD).total == 1


def test_a_job_that_just_fits_is_taken(store: JobStore) -> None:
    submit_bytes(store, QUOTA - 5)
    refused_for_room(store, 6)
    assert submit_bytes(store, 5).total == 1


def test_room_is_made_of_results_once_there_was_time_to_fetch_them(store: JobStore, clock: FakeClock) -> None:
    for _ in range(3):
        store.cancel(submit_bytes(store, THIRD).id)
        clock.advance(10)
    assert refused_for_room(store, THIRD).retry_after_s == CONFIG.grace_s - 30
    assert refused_for_room(store, 2 * THIRD).retry_after_s == CONFIG.grace_s - 20
    clock.advance(CONFIG.grace_s - 31)
    refused_for_room(store, THIRD)
    clock.advance(1)
    made = submit_bytes(store, THIRD)
    assert store.prune_to_quota(QUOTA) == 1
    assert made.id in {job.id for job in store.jobs()}


def test_results_written_since_count_too(store: JobStore) -> None:
    submit_bytes(store, THIRD)
    assert store.complete(claim_one(store), ItemOutcome(result={}, stored_bytes=2 * THIRD))
    refused_for_room(store, THIRD)


def test_a_known_job_is_given_however_full_the_store_is(store: JobStore) -> None:
    first = submit_bytes(store, QUOTA, idempotency_key="k", request_hash="h")
    refused_for_room(store, 1)
    assert submit_bytes(store, QUOTA, idempotency_key="k", request_hash="h").id == first.id
    with pytest.raises(IdempotencyConflict):
        submit_bytes(store, QUOTA, idempotency_key="k", request_hash="other")


def test_what_will_not_fit_is_known_before_it_is_sent(store: JobStore) -> None:
    submit_bytes(store, QUOTA - 5, tenant="t", idempotency_key="k", request_hash="h")
    assert store.lack_of_room(5) is None
    lack = store.lack_of_room(6)
    assert lack is not None
    assert (lack.retry_after_s, lack.details) == (60.0, {"limit_bytes": QUOTA, "job_bytes": 6})
    assert store.lack_of_room(6, tenant="t", idempotency_key="k") is None, "its job is given however full it is"
    assert store.lack_of_room(6, tenant="other", idempotency_key="k") is not None


def packed_job(store: JobStore, size_bytes: int) -> Job:
    return store.submit(NewJob(items=(NewItem(input_ref=key_of(1), size_bytes=size_bytes, kind="expand"),)))


def test_the_content_of_an_archive_that_just_fits_is_taken(store: JobStore) -> None:
    job = packed_job(store, 10)
    lease = claim_one(store)
    children = (NewItem(input_ref=key_of(2), size_bytes=QUOTA - 16), NewItem(input_ref=key_of(3), size_bytes=6))
    assert store.expand(lease, children)
    assert store.expand(lease, children), "the same again is the same, however full it is by now"
    assert store.job(job.id).stored_bytes == QUOTA


def test_the_content_of_an_archive_that_does_not_fit_changes_nothing(store: JobStore) -> None:
    submit_bytes(store, THIRD, priority=-1)
    job = packed_job(store, 10)
    lease = claim_one(store)
    too_much = QUOTA - THIRD - 9
    with pytest.raises(InsufficientStorage) as caught:
        store.expand(lease, (NewItem(input_ref=key_of(2), size_bytes=too_much),))
    assert caught.value.details == {"limit_bytes": QUOTA, "job_bytes": too_much}
    assert states_of(store, job.id) == [ItemState.LEASED]
    assert (store.job(job.id).stored_bytes, store.job(job.id).total) == (10, 1)
    assert store.expand(lease, (NewItem(input_ref=key_of(2), size_bytes=too_much - 1),))


def test_a_job_larger_than_all_may_be_is_not_told_to_come_again(store: JobStore) -> None:
    refusal = refused_for_room(store, QUOTA + 1)
    assert refusal.retry_after_s is None
    assert refusal.details == {"limit_bytes": QUOTA, "job_bytes": QUOTA + 1}


def test_which_blobs_are_needed(store: JobStore) -> None:
    submit(store, 2)
    store.complete(claim_one(store), ItemOutcome(result_ref=key_of(70), overlay_ref=key_of(71)))
    asked = [key_of(n) for n in (0, 1, 2, 70, 71, 72)]
    assert store.referenced(asked) == {key_of(0), key_of(1), key_of(70), key_of(71)}
    assert store.referenced([]) == set()


# --- waiting


def test_a_watch_wakes_up_when_work_comes(store: JobStore) -> None:
    watch = store.watch()
    while watch.wait(0.05):
        pass
    submitter = threading.Timer(0.1, submit, (store,))
    submitter.start()
    assert watch.wait(10)
    watch.close()
    submitter.join()


def test_closing_a_watch_ends_the_wait(store: JobStore) -> None:
    watch = store.watch()
    while watch.wait(0.05):
        pass
    threading.Timer(0.1, watch.close).start()
    assert not watch.wait(20)
    watch.close()
    assert not watch.wait(20)
