"""What a store does when its clock is set while leases are out, pauses are waited out and results are kept."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import pytest
from every_store import CONFIG, clock, fast_folder, store

from jobs_support import FAST_FOLDER, claim_one, postgres, submit
from steadyocr.errors import EngineDied
from steadyocr.jobs import retention
from steadyocr.jobs.database import open_database
from steadyocr.jobs.models import ItemOutcome, ItemState, JobState
from steadyocr.jobs.sql_store import SqlJobStore
from steadyocr.jobs.store import JobStore
from steadyocr.jobs.webhook_models import DeliveryOutcome
from steadyocr.testing import FakeClock

__all__ = ["clock", "fast_folder", "postgres", "store"]

DAY_S = 86_400.0
LEASE_S = 30.0


@pytest.fixture
def machine() -> FakeClock:
    """This machine's time since its start, which nobody sets."""
    return FakeClock(1000.0)


@pytest.fixture(params=["sqlite", "postgresql"])
def watched(request: pytest.FixtureRequest, clock: FakeClock, machine: FakeClock) -> Iterator[SqlJobStore]:
    """A store whose clock is somebody else's and can be set."""
    with tempfile.TemporaryDirectory(dir=FAST_FOLDER) as folder:
        url = f"sqlite:///{folder}/jobs.db"
        if request.param == "postgresql":
            url = request.getfixturevalue("postgres").new_database()
        opened = SqlJobStore(open_database(url, CONFIG, clock=clock, steady=machine))
        yield opened
        opened.close()


def pass_time(seconds: float, *clocks: FakeClock) -> None:
    for each in clocks:
        each.advance(seconds)


def test_a_clock_set_back_does_not_keep_the_items_of_the_dead(store: JobStore, clock: FakeClock) -> None:
    submit(store, 1)
    claim_one(store, lease_s=LEASE_S)
    clock.advance(-DAY_S)
    assert store.reap(lease_s=LEASE_S) == 1
    clock.advance(CONFIG.backoff_max_s)
    assert claim_one(store).losses == 1


def test_a_clock_set_back_does_not_keep_a_pause_for_a_day(store: JobStore, clock: FakeClock) -> None:
    submit(store, 1)
    assert store.retry_later(claim_one(store), EngineDied("x").to_wire()) is ItemState.QUEUED
    assert store.claim("me") == [], "the pause is kept"
    clock.advance(-DAY_S)
    assert claim_one(store).attempts == 1


@pytest.mark.parametrize("leap_s", [DAY_S, -DAY_S], ids=["forward", "back"])
def test_a_leap_takes_nothing_from_those_who_live(
    watched: SqlJobStore,
    clock: FakeClock,
    machine: FakeClock,
    leap_s: float,
) -> None:
    submit(watched, 2)
    alive, dead = claim_one(watched, lease_s=LEASE_S), claim_one(watched, lease_s=LEASE_S)
    pass_time(5, clock, machine)
    assert watched.reap(lease_s=LEASE_S) == 0
    clock.advance(leap_s)
    assert watched.reap(lease_s=LEASE_S) == 0, "who lives has had no time yet to say so"
    for _ in range(3):
        pass_time(9, clock, machine)
        assert watched.heartbeat([alive], lease_s=LEASE_S).lost == frozenset()
        assert watched.reap(lease_s=LEASE_S) == 0
    pass_time(9, clock, machine)
    assert watched.reap(lease_s=LEASE_S) == 1
    assert watched.complete(alive, ItemOutcome())
    assert not watched.complete(dead, ItemOutcome())
    (one, other) = sorted(watched.items(alive.job_id), key=lambda item: item.state)
    assert (one.losses, other.losses) == (0, 1)


URL = "https://receiver.example/"
LATER = DeliveryOutcome(delivered=False, status=500, retry_in_s=2560.0)


def test_a_clock_set_back_does_not_hold_a_webhook_that_is_due(store: JobStore, clock: FakeClock) -> None:
    job = submit(store, 1, webhook_url=URL)
    assert store.complete(claim_one(store), ItemOutcome())
    clock.advance(-3600)
    assert [delivery.job.id for delivery in store.claim_deliveries()] == [job.id]


def test_a_clock_set_back_does_not_lengthen_the_pause_of_a_webhook(store: JobStore, clock: FakeClock) -> None:
    submit(store, 1, webhook_url=URL)
    assert store.complete(claim_one(store), ItemOutcome())
    (delivery,) = store.claim_deliveries()
    assert store.settle_delivery(delivery, LATER)
    clock.advance(1000)
    assert store.claim_deliveries() == [], "the pause is kept"
    clock.advance(-3600)
    assert len(store.claim_deliveries()) == 1


def test_a_clock_set_back_does_not_hold_a_webhook_whose_sender_died(store: JobStore, clock: FakeClock) -> None:
    submit(store, 1, webhook_url=URL)
    assert store.complete(claim_one(store), ItemOutcome())
    assert len(store.claim_deliveries()) == 1
    clock.advance(-DAY_S)
    (again,) = store.claim_deliveries()
    assert again.attempts == 2
    assert store.claim_deliveries() == [], "it is held by the clock of today"


def test_a_webhook_is_not_given_out_twice_to_nodes_that_look_at_the_same_time(
    store: JobStore, clock: FakeClock
) -> None:
    submit(store, 1, webhook_url=URL)
    assert store.complete(claim_one(store), ItemOutcome())
    clock.advance(1)
    assert len(store.claim_deliveries()) == 1
    # A transaction has the time at which it began, and one that began later may have ended first.
    clock.advance(-1)
    assert store.claim_deliveries() == []


def test_a_clock_set_forward_expires_no_deadline_that_has_not_passed(
    watched: SqlJobStore, clock: FakeClock, machine: FakeClock
) -> None:
    early = submit(watched, 1, deadline_s=1000.0)
    clock.advance(DAY_S)
    assert watched.expire_overdue() == 0
    assert claim_one(watched).job_id == early.id
    late = submit(watched, 1, deadline_s=500.0)
    pass_time(499, clock, machine)
    assert watched.expire_overdue() == 0
    pass_time(2, clock, machine)
    assert watched.expire_overdue() == 1
    assert watched.job(late.id).state is JobState.EXPIRED
    assert watched.job(early.id).state is JobState.RUNNING
    pass_time(500, clock, machine)
    assert watched.expire_overdue() == 1
    assert watched.job(early.id).state is JobState.EXPIRED


def test_a_leap_that_is_undone_keeps_deadlines_as_they_were(
    watched: SqlJobStore, clock: FakeClock, machine: FakeClock
) -> None:
    submit(watched, 1, deadline_s=1000.0)
    clock.advance(DAY_S)
    assert watched.expire_overdue() == 0
    clock.advance(-DAY_S)
    assert watched.expire_overdue() == 0
    pass_time(1001, clock, machine)
    assert watched.claim("me") == []
    assert watched.waiting() == 0


def test_two_leaps_add_up(watched: SqlJobStore, clock: FakeClock, machine: FakeClock) -> None:
    submit(watched, 1, deadline_s=1000.0)
    for _ in range(2):
        clock.advance(800)
        assert watched.expire_overdue() == 0
    pass_time(1001, clock, machine)
    assert watched.expire_overdue() == 1


def test_a_job_run_again_after_a_leap_keeps_a_deadline_that_has_not_passed(
    watched: SqlJobStore, clock: FakeClock, machine: FakeClock
) -> None:
    job = submit(watched, 2, deadline_s=1000.0)
    assert watched.fail(claim_one(watched), EngineDied("x").to_wire())
    clock.advance(DAY_S)
    watched.waiting()
    assert watched.retry(job.id).deadline == job.deadline
    pass_time(1001, clock, machine)
    assert watched.expire_overdue() == 1
    assert watched.retry(job.id, [ItemState.EXPIRED]).deadline is None


def finish(store: JobStore) -> str:
    job = submit(store, 1)
    assert store.complete(claim_one(store), ItemOutcome())
    return job.id


def test_a_clock_that_learns_the_time_late_throws_nothing_away_at_once(clock: FakeClock, store: JobStore) -> None:
    real, clock.now = clock.now, 100.0
    finish(store)
    assert store.prune(7 * DAY_S) == 0
    clock.now = real
    assert store.prune(7 * DAY_S) == 0, "all that was done seems to be decades old"
    for _ in range(6):
        clock.advance(DAY_S)
        assert store.prune(7 * DAY_S) == 0
    clock.advance(DAY_S + 1)
    assert store.prune(7 * DAY_S) == 1


def test_a_leap_that_is_undone_costs_no_results(store: JobStore, clock: FakeClock) -> None:
    finish(store)
    assert store.prune(7 * DAY_S) == 0
    clock.advance(30 * DAY_S)
    assert store.prune(7 * DAY_S) == 0
    clock.advance(-30 * DAY_S + 3600)
    assert store.prune(7 * DAY_S) == 0
    # And keeping ends when it should, not a month later.
    for _ in range(7):
        clock.advance(DAY_S)
        store.prune(7 * DAY_S)
    assert store.jobs() == []


def test_a_clock_set_back_keeps_the_quota_from_nothing_for_long(store: JobStore, clock: FakeClock) -> None:
    finish(store)
    clock.advance(-CONFIG.grace_s / 2)
    assert store.prune_to_quota(0) == 0, "nobody has had the time to fetch it"
    clock.advance(-DAY_S)
    assert store.prune_to_quota(0) == 1


def test_a_clock_set_forward_does_not_hand_fresh_results_to_the_quota(
    watched: SqlJobStore, clock: FakeClock, machine: FakeClock
) -> None:
    finish(watched)
    clock.advance(DAY_S)
    assert watched.prune_to_quota(0) == 0
    pass_time(CONFIG.grace_s - 1, clock, machine)
    assert watched.prune_to_quota(0) == 0
    pass_time(1, clock, machine)
    assert watched.prune_to_quota(0) == 1


def test_a_claim_without_an_answer_is_answered_when_asked_again(store: JobStore, clock: FakeClock) -> None:
    submit(store, 2)
    (lost,) = store.claim("me", lease_s=10, token="mine")
    clock.advance(8)
    (again,) = store.claim("me", lease_s=10, token="mine")
    assert again.key == lost.key
    clock.advance(8)
    assert store.reap(lease_s=10) == 0, "the lease begins with the answer"
    assert store.complete(again, ItemOutcome())
    (other,) = store.claim("me", lease_s=10, token="mine")
    assert other.item_id != lost.item_id


def test_big_jobs_are_thrown_away_a_few_at_a_time(watched: SqlJobStore, clock: FakeClock) -> None:
    for count in (6000, 6000, 10, 10):
        watched.cancel(submit(watched, count).id)
        clock.advance(1)
    clock.advance(10)
    assert watched._database.write(lambda tx: retention.prune(tx, 5)) == 2, "one transaction holds the lock"
    assert watched.prune(5) == 2
