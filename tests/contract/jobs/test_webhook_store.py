"""Ends of jobs become due with the end itself, and stay due until somebody has told them."""

from __future__ import annotations

from every_store import CONFIG, clock, fast_folder, store

from jobs_support import claim_one, postgres, submit
from steadyocr.errors import UndecodableImage
from steadyocr.jobs.models import ItemOutcome, ItemState, NewItem, NewJob
from steadyocr.jobs.store import JobStore
from steadyocr.jobs.webhook_models import Delivery, DeliveryOutcome, WebhookState
from steadyocr.testing import FakeClock

__all__ = ["clock", "fast_folder", "postgres", "store"]

URL = "https://receiver.example/done?for=me"
DAMAGED = UndecodableImage("damaged").to_wire()
TOLD = DeliveryOutcome(delivered=True, status=204)
LATER = DeliveryOutcome(delivered=False, status=500, problem="the answer was 500", retry_in_s=10.0)
GIVEN_UP = DeliveryOutcome(delivered=False, problem="cannot be reached")


def end(store: JobStore) -> None:
    assert store.complete(claim_one(store), ItemOutcome(result={}))


def claimed(store: JobStore, lease_s: float = 60.0) -> Delivery:
    (delivery,) = store.claim_deliveries(lease_s=lease_s)
    return delivery


def state_of(store: JobStore, job_id: str) -> WebhookState:
    known = store.webhook(job_id)
    assert known is not None
    return known.state


def test_nothing_is_due_before_the_job_has_ended(store: JobStore) -> None:
    job = submit(store, 2, webhook_url=URL)
    end(store)
    assert store.claim_deliveries() == []
    end(store)
    delivery = claimed(store)
    assert (delivery.id, delivery.url, delivery.attempts) == (f"{job.id}-1", URL, 1)
    assert delivery.job == store.job(job.id)
    assert delivery.job.finished_at is not None


def test_a_job_that_asked_for_nothing_is_not_told(store: JobStore) -> None:
    job = submit(store, 1)
    end(store)
    assert store.webhook(job.id) is None
    assert store.claim_deliveries() == []


def test_a_job_that_enters_ended_is_due_at_once(store: JobStore) -> None:
    refused = NewItem(input_ref=None, error=DAMAGED)
    job = store.submit(NewJob(items=(refused,), webhook_url=URL))
    assert claimed(store).id == f"{job.id}-1"


def test_a_cancelled_job_is_told_too(store: JobStore) -> None:
    job = submit(store, 2, webhook_url=URL)
    store.cancel(job.id)
    assert claimed(store).job.state == "cancelled"


def test_a_delivered_end_is_told_once(store: JobStore, clock: FakeClock) -> None:
    job = submit(store, 1, webhook_url=URL)
    end(store)
    assert store.settle_delivery(claimed(store), TOLD)
    clock.advance(1e6)
    assert store.claim_deliveries() == []
    known = store.webhook(job.id)
    assert known is not None
    assert (known.state, known.status, known.delivered_at) == (WebhookState.DELIVERED, 204, clock.now - 1e6)


def test_a_failed_try_is_due_again_later(store: JobStore, clock: FakeClock) -> None:
    job = submit(store, 1, webhook_url=URL)
    end(store)
    assert store.settle_delivery(claimed(store), LATER)
    clock.advance(9.9)
    assert store.claim_deliveries() == []
    clock.advance(0.2)
    again = claimed(store)
    assert (again.id, again.attempts) == (f"{job.id}-1", 2)
    known = store.webhook(job.id)
    assert known is not None
    assert (known.state, known.problem) == (WebhookState.DUE, "the answer was 500")


def test_a_delivery_given_up_stays_so(store: JobStore, clock: FakeClock) -> None:
    job = submit(store, 1, webhook_url=URL)
    end(store)
    assert store.settle_delivery(claimed(store), GIVEN_UP)
    clock.advance(1e6)
    assert store.claim_deliveries() == []
    assert state_of(store, job.id) is WebhookState.FAILED


def test_a_delivery_whose_sender_died_comes_up_again_and_the_dead_one_has_no_say(
    store: JobStore, clock: FakeClock
) -> None:
    job = submit(store, 1, webhook_url=URL)
    end(store)
    lost = claimed(store, lease_s=60)
    assert store.claim_deliveries() == []
    clock.advance(61)
    again = claimed(store)
    assert (again.id, again.attempts) == (lost.id, 2)
    assert not store.settle_delivery(lost, GIVEN_UP)
    assert state_of(store, job.id) is WebhookState.DUE
    assert store.settle_delivery(again, TOLD)


def test_a_job_that_is_run_again_is_told_again_under_another_id(store: JobStore) -> None:
    job = submit(store, 1, webhook_url=URL)
    assert store.fail(claim_one(store), DAMAGED)
    late = claimed(store)
    store.retry(job.id, {ItemState.FAILED})
    assert state_of(store, job.id) is WebhookState.WAITING
    assert store.claim_deliveries() == []
    assert not store.settle_delivery(late, TOLD), "what was told is not true any more"
    end(store)
    assert claimed(store).id == f"{job.id}-2"


def test_the_oldest_go_first_and_no_more_than_asked_for(store: JobStore, clock: FakeClock) -> None:
    jobs = []
    for _ in range(4):
        jobs.append(submit(store, 1, webhook_url=URL).id)
        end(store)
        clock.advance(1)
    taken = [delivery.job.id for _ in range(3) for delivery in store.claim_deliveries(limit=2)]
    assert sorted(taken[:2]) == sorted(jobs[:2])
    assert sorted(taken) == sorted(jobs)


def test_receivers_that_have_enough_are_left_out(store: JobStore, clock: FakeClock) -> None:
    urls = [
        "http://a.example",
        "http://a.example/x",
        "http://a.example?x",
        "http://a.example:81/",
        "https://a.example/",
        "HTTP://A.Example",
        "http://a.example./x",
        "http://a.example.:8080",
        "http://[2606::A]/",
        "http://[2606::a]:81/",
        "http://a.example.org/",
        "http://b.a.example/",
        "http://b.example/http://a.example/",
        "http://[2606::a1]/",
    ]
    theirs = 4
    for url in urls:
        submit(store, 1, webhook_url=url)
        end(store)
        clock.advance(1)
    taken = store.claim_deliveries(limit=99, except_to=["a.example", "[2606::a]", "100%.example", "%"])
    assert sorted(delivery.url for delivery in taken) == sorted(urls[-theirs:])
    assert len(store.claim_deliveries(limit=99)) == len(urls) - theirs


def test_a_deleted_job_is_not_told(store: JobStore) -> None:
    job = submit(store, 1, webhook_url=URL)
    end(store)
    held = claimed(store)
    store.delete(job.id)
    assert store.webhook(job.id) is None
    assert not store.settle_delivery(held, TOLD)


def test_the_load_counts_what_was_worked_off_and_what_is_left(store: JobStore) -> None:
    assert (store.load().ended, store.load().unfinished) == (0, 0)
    submit(store, 3)
    other = submit(store, 2)
    end(store)
    assert store.fail(claim_one(store), DAMAGED)
    claim_one(store)
    load = store.load()
    assert (load.ended, load.unfinished) == (2, 3)
    store.cancel(other.id)
    load = store.load()
    assert load.ended == 2, "what nobody wants any more was not worked off"
    assert load.unfinished == 5 - 2 - store.job(other.id).cancelled


def test_the_quota_takes_jobs_whose_end_is_still_to_be_told_last(store: JobStore, clock: FakeClock) -> None:
    untold, told, silent = (submit(store, 1, webhook_url=url) for url in (URL, URL, None))
    for job in (untold, told, silent):
        store.cancel(job.id)
        clock.advance(1)
    deliveries = {delivery.job.id: delivery for delivery in store.claim_deliveries(limit=10)}
    assert store.settle_delivery(deliveries[told.id], TOLD)
    clock.advance(CONFIG.grace_s)
    one = store.stored_bytes() // 3
    assert store.prune_to_quota(one) == 2
    assert [job.id for job in store.jobs()] == [untold.id]
    # There is a limit to that as well.
    assert store.prune_to_quota(0) == 1
