from __future__ import annotations

import asyncio
import time

import pytest

from jobs_support import claim_one, new_items, submit
from steadyocr.errors import Unavailable
from steadyocr.jobs.async_store import AsyncJobStore
from steadyocr.jobs.eta import EtaMeter, RateMeter, outlook
from steadyocr.jobs.models import ItemOutcome, Load, NewJob, Progress
from steadyocr.telemetry.loops import Loops
from steadyocr.testing import InMemoryJobStore
from support import PATIENCE_S, in_real_time


def meter_of(*samples: tuple[float, int, int], window_s: float = 120.0) -> RateMeter:
    meter = RateMeter(window_s)
    for at, ended, unfinished in samples:
        meter.note(at, Load(ended, unfinished))
    return meter


def test_the_rate_is_what_was_worked_off_in_the_time_it_took() -> None:
    assert meter_of((0, 0, 100), (2, 8, 92), (4, 20, 80)).rate() == pytest.approx(5.0)


def test_nothing_is_known_before_enough_was_seen() -> None:
    assert RateMeter().rate() is None
    assert meter_of((0, 7, 5)).rate() is None, "one sample is no rate"
    assert meter_of((0, 0, 5), (10, 2, 3)).rate() is None, "two items are none either"
    assert meter_of((0, 0, 50), (1, 30, 20)).rate() is None, "nor is a second"


def test_where_nothing_moves_nothing_is_known() -> None:
    assert meter_of((0, 9, 5), (60, 9, 5), (120, 9, 5)).rate() is None


def test_idle_time_does_not_count() -> None:
    busy = ((0, 0, 10), (5, 10, 0))
    assert meter_of(*busy, (50, 10, 0), (55, 10, 0)).rate() == pytest.approx(2.0)


def test_what_was_long_ago_is_forgotten() -> None:
    meter = meter_of((0, 0, 100), (10, 100, 100), (20, 110, 90), (30, 120, 80), window_s=20)
    assert meter.rate() == pytest.approx(1.0)
    meter.note(1000, Load(120, 80))
    assert meter.rate() is None


def test_deleted_jobs_and_retries_do_not_spoil_the_rate() -> None:
    assert meter_of((0, 100, 50), (4, 120, 30), (6, 20, 20), (10, 40, 10)).rate() == pytest.approx(5.0)


def test_the_time_in_which_nobody_could_look_is_no_speed() -> None:
    meter = meter_of((0, 0, 100), (2, 10, 90), (4, 20, 80))
    meter.break_off()
    meter.note(90, Load(20, 80))
    assert meter.rate() == pytest.approx(5.0)
    meter.note(92, Load(30, 70))
    assert meter.rate() == pytest.approx(5.0)


def test_a_clock_that_stands_still_is_no_speed() -> None:
    assert meter_of((5, 0, 50), (5, 40, 10)).rate() is None


def progress_of(store: InMemoryJobStore, job_id: str) -> Progress:
    return store.progress(job_id)


def test_the_outlook_counts_everything_that_goes_first() -> None:
    store = InMemoryJobStore()
    first, second = submit(store, 4), submit(store, 4)
    claim_one(store)
    of_first, of_second = outlook(store.progress(first.id), 2.0), outlook(store.progress(second.id), 2.0)
    # They take turns, so of each all but the last items of the other go first.
    assert (of_first.position, of_second.position) == (4, 3)
    assert of_first.eta_s == pytest.approx((3 + 4 + 1) / 2)
    assert of_second.eta_s == pytest.approx((4 + 3) / 2)


def test_the_outlook_of_an_ended_job_is_nothing_and_without_a_rate_unknown() -> None:
    store = InMemoryJobStore()
    job = submit(store, 1)
    assert outlook(store.progress(job.id), None).eta_s is None
    store.complete(claim_one(store), ItemOutcome())
    assert outlook(store.progress(job.id), None) == outlook(store.progress(job.id), 1.0)
    assert outlook(store.progress(job.id), None).eta_s == 0.0


def test_nothing_is_known_while_an_archive_is_not_unpacked() -> None:
    store = InMemoryJobStore()
    job = store.submit(NewJob(items=new_items(1, "expand")))
    assert outlook(store.progress(job.id), 2.0).eta_s is None
    lease = claim_one(store)
    assert outlook(store.progress(job.id), 2.0).eta_s is None
    store.expand(lease, new_items(8))
    assert outlook(store.progress(job.id), 2.0).eta_s == 4.0


class _Failing(InMemoryJobStore):
    asked = 0

    def load(self) -> Load:
        self.asked += 1
        if self.asked % 3 == 1:
            raise Unavailable("not now")
        return super().load()


@in_real_time
async def test_the_meter_lives_on_the_store_and_survives_its_outages() -> None:
    store = _Failing(clock=time.monotonic)
    jobs, loops = AsyncJobStore(store), Loops()
    meter = EtaMeter(jobs, sample_s=0.01)
    job = submit(store, 500)
    meter.start(loops)
    async with asyncio.timeout(PATIENCE_S):
        while meter.outlook(store.progress(job.id)).eta_s is None:
            store.complete(claim_one(store), ItemOutcome())
            await asyncio.sleep(0.02)
    eta_s = meter.outlook(store.progress(job.id)).eta_s
    assert eta_s is not None
    assert eta_s > 0
    assert store.asked > 3
    assert not loops.dead
    await loops.stop()
    await jobs.close()
