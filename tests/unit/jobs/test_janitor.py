"""Cleaning up may take long, and a stop does not wait for it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from steadyocr.errors import Unavailable
from steadyocr.jobs import blobs as blobs_module
from steadyocr.jobs.async_store import AsyncJobStore
from steadyocr.jobs.blobs import put_bytes
from steadyocr.jobs.config import RetentionConfig, StoreConfig
from steadyocr.jobs.janitor import Janitor
from steadyocr.jobs.local_blobs import LocalBlobs
from steadyocr.jobs.models import NewItem, NewJob
from steadyocr.jobs.stopping import while_wanted
from steadyocr.jobs.sweep import sweep_orphans
from steadyocr.telemetry.loops import Loops
from steadyocr.testing import InMemoryJobStore
from support import PATIENCE_S, in_real_time

COUNT = 4


class Slow:
    """Stands before a step of the janitor and holds the first one up."""

    def __init__(self, step: Callable[..., object]) -> None:
        self._step = step
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.steps = 0

    def __call__(self, *args: object, **kwargs: object) -> object:
        self.steps += 1
        self.begun.set()
        assert self.go_on.wait(PATIENCE_S)
        return self._step(*args, **kwargs)


@pytest.mark.parametrize("what", ["old jobs", "too many jobs", "orphans", "broken uploads"])
@in_real_time
async def test_a_stop_ends_cleaning_up_within_one_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    store = InMemoryJobStore(StoreConfig(grace_s=0.0), time.monotonic)
    blobs = LocalBlobs(tmp_path)
    for number in range(COUNT):
        if what == "broken uploads":
            (tmp_path / "unfinished" / f"upload-{number}").touch()
        elif what == "orphans":
            put_bytes(blobs, str(number).encode())
        else:
            store.cancel(store.submit(NewJob(items=(NewItem(input_ref="a" * 64, size_bytes=1),))).id)
    place, name = {"orphans": (blobs, "delete"), "broken uploads": (blobs_module, "age_s")}.get(what, (store, "delete"))
    slow = Slow(getattr(place, name))
    monkeypatch.setattr(place, name, slow)
    keep_s = -1.0 if what == "old jobs" else 3600.0
    loops, jobs = Loops(), AsyncJobStore(store)
    Janitor(jobs, blobs, RetentionConfig(keep_s=keep_s, max_bytes=0, orphan_age_s=0.0)).start(loops)
    assert await asyncio.to_thread(slow.begun.wait, 30)
    await loops.stop()
    slow.go_on.set()
    await jobs.close()
    await asyncio.get_running_loop().shutdown_default_executor()
    assert slow.steps == 1


class Failing:
    """Stands for a step that does not work out."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __call__(self, *args: object, **kwargs: object) -> object:
        raise self._error


@pytest.mark.parametrize(
    "error", [Unavailable("the database does not answer"), PermissionError("a folder")], ids=["store", "folder"]
)
@pytest.mark.parametrize("broken", ["prune", "referenced", "sweep_unfinished"])
@in_real_time
async def test_a_step_that_does_not_work_out_is_told_and_keeps_no_other_from_being_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, broken: str, error: Exception
) -> None:
    store, blobs = InMemoryJobStore(StoreConfig(grace_s=0.0), time.monotonic), LocalBlobs(tmp_path)
    leftover = tmp_path / "unfinished" / "upload-1"
    leftover.touch()
    orphan = put_bytes(blobs, b"orphan").key
    store.cancel(store.submit(NewJob(items=(NewItem(input_ref="a" * 64, size_bytes=1),))).id)
    monkeypatch.setattr(blobs if broken == "sweep_unfinished" else store, broken, Failing(error))
    jobs = AsyncJobStore(store)
    await Janitor(jobs, blobs, RetentionConfig(keep_s=-1.0, orphan_age_s=0.0)).clean_up()
    await jobs.close()
    done = {
        "prune": not store.jobs(),
        "referenced": not blobs.exists(orphan),
        "sweep_unfinished": not leftover.exists(),
    }
    assert {step for step, was_done in done.items() if not was_done} == {broken}
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "Cleaning up did not work out"
    ]


def test_a_folder_of_young_blobs_is_not_looked_through_for_somebody_who_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs, store = LocalBlobs(tmp_path), InMemoryJobStore()
    for number in range(COUNT):
        put_bytes(blobs, str(number).encode())
    looked = 0

    def wanted() -> bool:
        nonlocal looked
        looked += 1
        return looked <= 2

    asked: list[object] = []
    monkeypatch.setattr(store, "referenced", asked.append)
    assert sweep_orphans(store, blobs, 3600, wanted) == 0
    assert looked == 3
    assert sweep_orphans(store, blobs, 0, lambda: False) == 0
    assert asked == []


def test_what_is_not_wanted_any_more_is_not_even_begun() -> None:
    assert list(while_wanted([1, 2, 3], lambda: False)) == []
    assert list(while_wanted([1, 2, 3], lambda: True)) == [1, 2, 3]
