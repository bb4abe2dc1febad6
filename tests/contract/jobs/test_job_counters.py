"""Whatever is done in whatever order: the counters of every job are the states of its items."""

from __future__ import annotations

import tempfile
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from jobs_support import FAST_FOLDER, new_items
from steadyocr.errors import EngineDied, JobNotFound
from steadyocr.jobs.config import StoreConfig
from steadyocr.jobs.database import open_database
from steadyocr.jobs.models import ENDED, ItemOutcome, ItemState, JobState, Lease, NewItem, NewJob
from steadyocr.jobs.sql_store import SqlJobStore
from steadyocr.jobs.store import JobStore
from steadyocr.testing import FakeClock, InMemoryJobStore

CONFIG = StoreConfig(max_attempts=2, max_losses=2, backoff_first_s=1, backoff_max_s=2, max_items=50, max_events=20)
DIED = EngineDied("died").to_wire()


class StoreMachine(RuleBasedStateMachine):
    """Does anything to a store."""

    jobs: Bundle[str] = Bundle("jobs")
    leases: Bundle[Lease] = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.store = self.open()
        self.known: set[str] = set()
        self.visible: dict[tuple[str, int], ItemState] = {}

    def open(self) -> JobStore:
        return InMemoryJobStore(CONFIG, self.clock)

    @initialize(target=jobs)
    def begin(self) -> str:
        job = self.store.submit(NewJob(items=new_items(3)))
        self.known.add(job.id)
        return job.id

    @rule(target=jobs, count=st.integers(1, 5), archive=st.booleans(), deadline_s=st.sampled_from([None, 5.0]))
    def submit(self, count: int, archive: bool, deadline_s: float | None) -> str:
        items = new_items(count, kind="expand" if archive else "read")
        job = self.store.submit(NewJob(items=items, deadline_s=deadline_s, priority=count % 2))
        self.known.add(job.id)
        return job.id

    @rule(target=leases, limit=st.integers(1, 3))
    def claim(self, limit: int) -> Any:
        return multiple(*self.store.claim("me", limit=limit, lease_s=10))

    @rule(lease=leases, begin=st.booleans())
    def beat(self, lease: Lease, begin: bool) -> None:
        if begin:
            self.store.begin(lease)
        self.store.heartbeat([lease], lease_s=10)

    @rule(lease=leases)
    def complete(self, lease: Lease) -> None:
        if lease.kind == "expand":
            refused = NewItem(input_ref=None, error=DIED)
            if lease.job_id in self.known and self.store.job(lease.job_id).total < 40:
                self.store.expand(lease, (*new_items(2), refused))
        else:
            self.store.complete(lease, ItemOutcome(result={}))

    @rule(lease=leases)
    def fail(self, lease: Lease) -> None:
        self.store.fail(lease, DIED)

    @rule(lease=leases)
    def retry_later(self, lease: Lease) -> None:
        self.store.retry_later(lease, DIED)

    @rule(lease=consumes(leases), delay_s=st.sampled_from([0.0, 1.0]))
    def release(self, lease: Lease, delay_s: float) -> None:
        self.store.release(lease, delay_s=delay_s)

    @rule(seconds=st.sampled_from([0.5, 3.0, 11.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.store.reap()
        self.store.expire_overdue()

    @rule(job_id=jobs)
    def cancel(self, job_id: str) -> None:
        if job_id in self.known:
            self.store.cancel(job_id)

    @rule(job_id=jobs, states=st.sets(st.sampled_from(ENDED[1:])))
    def retry(self, job_id: str, states: set[ItemState]) -> None:
        if job_id in self.known:
            self.store.retry(job_id, states)
            self.visible.clear()

    @rule(job_id=consumes(jobs))
    def delete(self, job_id: str) -> None:
        if job_id in self.known:
            self.known.discard(job_id)
            self.store.delete(job_id)

    @invariant()
    def counters_are_states(self) -> None:
        for job_id in self.known:
            job, items = self.store.job(job_id), self.store.items(job_id, limit=100)
            states = Counter(item.state for item in items)
            assert {state: getattr(job, state.value) for state in ENDED} == {state: states[state] for state in ENDED}
            assert job.total == len(items) == states.total()
            assert [item.position for item in items] == list(range(len(items)))
            assert (job.finished_at is not None) == (job.remaining == 0)
            assert job.state is not JobState.DONE or job.remaining == 0
            assert job.state not in (JobState.QUEUED, JobState.RUNNING) or job.remaining > 0
            assert self.store.events(job_id, after=job.last_event - 1)[0].data["done"] == job.done

    @invariant()
    def a_visible_outcome_stays(self) -> None:
        for job_id in self.known:
            for item in self.store.items(job_id, limit=100):
                if item.state in ENDED:
                    assert self.visible.setdefault((job_id, item.position), item.state) is item.state

    def teardown(self) -> None:
        for job in self.store.jobs():
            self.store.delete(job.id)
            with pytest.raises(JobNotFound):
                self.store.items(job.id)
        assert self.store.waiting() == 0
        self.store.close()


class SqliteMachine(StoreMachine):
    """Does anything to a store in a file."""

    def open(self) -> JobStore:
        self.folder = tempfile.TemporaryDirectory(dir=FAST_FOLDER)
        return SqlJobStore(open_database(f"sqlite:///{self.folder.name}/jobs.db", CONFIG, clock=self.clock))

    def teardown(self) -> None:
        super().teardown()
        self.folder.cleanup()


TestInMemoryCounters = StoreMachine.TestCase
TestInMemoryCounters.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestSqliteCounters = SqliteMachine.TestCase
TestSqliteCounters.settings = settings(
    max_examples=6, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
