"""Processes are killed, the database is stopped, the disk is full: every item has exactly one visible outcome."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import job_worker
import pytest

import forked
from jobs_support import claim_one, key_of, postgres, postgres_server, submit  # noqa: F401 - one is a fixture
from steadyocr.errors import InsufficientStorage, Unavailable
from steadyocr.jobs.blobs import put_bytes
from steadyocr.jobs.config import StoreConfig
from steadyocr.jobs.database import open_database
from steadyocr.jobs.local_blobs import LocalBlobs
from steadyocr.jobs.models import ItemOutcome, ItemState, JobState, NewItem, NewJob
from steadyocr.jobs.sql_store import SqlJobStore, open_job_store
from steadyocr.jobs.store import JobStore
from support import PATIENCE_S

pytestmark = pytest.mark.chaos

WORKER = Path(__file__).with_name("job_worker.py")
QUIET = StoreConfig(max_losses=3, backoff_first_s=0.05, backoff_max_s=0.1)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/jobs.db"
    new: str = request.getfixturevalue("postgres").new_database()
    return new


def test_processes_that_race_never_get_the_same_item(url: str) -> None:
    store = open_job_store(url)
    submit(store, 1000)
    spawn = multiprocessing.get_context("spawn")
    start, found = spawn.Barrier(4), spawn.Queue()
    racers = [spawn.Process(target=job_worker.race, args=(url, start, found)) for _ in range(4)]
    for racer in racers:
        racer.start()
    claimed = [found.get(timeout=PATIENCE_S) for _ in racers]
    for racer in racers:
        racer.join(PATIENCE_S)
        assert racer.exitcode == 0
    times = Counter(item_id for mine in claimed for item_id in mine)
    assert len(times) == times.total() == 1000
    # The last heat's claim may come too late: nobody waits after it, and SQLite's lock is not fair.
    assert all(len(mine) >= job_worker.HEATS - 1 for mine in claimed), "there was a race"
    store.close()


class Workers:
    """Processes that are started again whenever they end."""

    def __init__(self, url: str, runs: Path, count: int) -> None:
        self._arguments = [sys.executable, str(WORKER), url, str(runs)]
        self.processes = [self._start() for _ in range(count)]

    def _start(self) -> subprocess.Popen[bytes]:
        return forked.start(self._arguments)

    def keep_up(self) -> None:
        for index, process in enumerate(self.processes):
            if process.poll() is not None:
                self.processes[index] = self._start()

    def kill_one(self) -> bool:
        """Whether one that was at work is dead now; one that had ended by itself is not killed."""
        victim = random.choice(self.processes)
        if victim.poll() is not None:
            return False
        victim.kill()
        victim.wait(PATIENCE_S)
        return True

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait(PATIENCE_S)


@contextlib.contextmanager
def workers(url: str, runs: Path, count: int = 2) -> Iterator[Workers]:
    started = Workers(url, runs, count)
    try:
        yield started
    finally:
        started.close()


def assert_one_outcome_each(store: JobStore, job_id: str, poison: set[int]) -> None:
    job, items = store.job(job_id), store.results(job_id, limit=10_000)
    assert (job.state, job.total, job.remaining) == (JobState.DONE, len(items), 0)
    states = {item.position: item.state for item in items}
    assert {position for position, state in states.items() if state is ItemState.DEAD} == poison
    assert all(state is ItemState.DONE for position, state in states.items() if position not in poison)
    assert (job.done, job.dead) == (len(items) - len(poison), len(poison))
    for item in items:
        if item.position in poison:
            assert item.error is not None
            assert item.error["code"] == "engine_died"
        else:
            assert item.result == {"position": item.position}


def test_killed_processes_lose_nothing_and_poison_hurts_only_itself(url: str, tmp_path: Path) -> None:
    store = open_job_store(url, QUIET)
    poison = {7, 60}
    names = ["poison" if n in poison else str(n) for n in range(250)]
    items = tuple(NewItem(input_ref=key_of(n), name=name) for n, name in enumerate(names))
    job = store.submit(NewJob(items=items))
    deadline = time.monotonic() + 60
    # By what is done, not by the clock: however slow the machine, kills fall among the work.
    kill_after = list(range(10, 210, 25))
    with workers(url, tmp_path / "runs") as started:
        while (now := store.job(job.id)).finished_at is None:
            assert time.monotonic() < deadline, now
            time.sleep(random.uniform(0.0, 0.05))
            if kill_after and now.done >= kill_after[0] and started.kill_one():
                del kill_after[0]
            started.keep_up()
    assert not kill_after, "every kill fell among the work"
    assert_one_outcome_each(store, job.id, poison)
    runs_of = Counter(int(line) for line in (tmp_path / "runs").read_text(encoding="ascii").split())
    assert all(1 <= runs_of[position] <= 3 for position in poison)
    store.close()


def test_a_stopped_database_loses_nothing(tmp_path: Path) -> None:
    with postgres_server() as server:
        url = server.new_database()
        store = open_job_store(url, QUIET)
        job = submit(store, 150)
        with workers(url, tmp_path / "runs") as started:
            while store.job(job.id).done < 20:
                time.sleep(0.05)
            server.stop()
            with pytest.raises(Unavailable):
                store.job(job.id)
            time.sleep(1.0)
            server.start()
            deadline = time.monotonic() + 40
            while store.job(job.id).finished_at is None:
                assert time.monotonic() < deadline, store.job(job.id)
                time.sleep(0.1)
            assert all(process.poll() is None for process in started.processes), "an outage ends no process"
        assert_one_outcome_each(store, job.id, set())
        store.close()


def test_a_full_disk_is_a_typed_error_and_loses_nothing(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path}/jobs.db")
    store = SqlJobStore(database)
    job = submit(store, 3)
    lease = claim_one(store)

    def allow(more_pages: int) -> None:
        with database.engine.connect() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + more_pages}")

    allow(0)
    with pytest.raises(InsufficientStorage):
        submit(store, 10_000)
    with pytest.raises(InsufficientStorage):
        store.complete(lease, ItemOutcome(result="x" * 100_000))
    assert [known.id for known in store.jobs()] == [job.id]
    assert store.job(job.id).done == 0
    allow(1000)
    assert store.complete(lease, ItemOutcome(result="x" * 100_000))
    assert submit(store, 1000).total == 1000
    store.close()


def test_a_really_full_disk_loses_nothing(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(disk)], check=False, capture_output=True
    ).returncode == 0  # fmt: skip
    if not mounted:
        pytest.skip("a small disk cannot be mounted here (needs root)")
    try:
        store, blobs = open_job_store(f"sqlite:///{disk}/jobs.db"), LocalBlobs(disk / "blobs")
        job = submit(store, 10)
        leases = [claim_one(store) for _ in range(10)]
        kept = put_bytes(blobs, b"kept")
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
            while stream.write(bytes(4096)):
                pass
        with pytest.raises(InsufficientStorage):
            put_bytes(blobs, bytes(100_000))
        with contextlib.suppress(InsufficientStorage, Unavailable):
            for lease in leases:
                store.complete(lease, ItemOutcome(result="x" * 50_000))
        with pytest.raises((InsufficientStorage, Unavailable)):
            submit(store, 5000)
        before = store.job(job.id)
        filler.unlink()
        for lease in leases:
            assert store.complete(lease, ItemOutcome(result="x" * 50_000))
        after = store.job(job.id)
        assert (after.done, after.state, before.done < 10) == (10, JobState.DONE, True)
        assert [len(item.result) for item in store.results(job.id)] == [50_000] * 10
        assert blobs.exists(kept.key)
        assert blobs.sweep_unfinished(0) == 0
        store.close()
    finally:
        subprocess.run(["umount", str(disk)], check=True)
