"""How files come in for a job, and what a job store that is away does to the rest."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import os
import threading
import time
import zipfile
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from steadyocr.errors import (
    ConfigError,
    DeadlineExceeded,
    Draining,
    EmptyInput,
    InsufficientStorage,
    InvalidOption,
    NotReady,
    PayloadTooLarge,
    QueueFull,
    Unavailable,
)
from steadyocr.jobs.blobs import Blob, BlobWriter
from steadyocr.jobs.local_blobs import LocalBlobs
from steadyocr.jobs.models import ItemState, Job, NewJob
from steadyocr.jobs.sql_store import SqlJobStore
from steadyocr.jobs.sql_store import open_job_store as really_open
from steadyocr.jobs.store import JobStore
from steadyocr.jobs.sweep import sweep_orphans
from steadyocr.scheduling.items import Reply
from steadyocr.service import batches as batches_module
from steadyocr.service import opening
from steadyocr.service.batches import Batches
from steadyocr.service.incoming import IncomingFile
from steadyocr.service.intake import Intake, JobRequest
from steadyocr.settings import Settings, load_settings
from steadyocr.telemetry.loops import Loops
from support import FIXTURES, PATIENCE_S, in_real_time

PICTURE = (FIXTURES / "english.png").read_bytes()


async def nobody(*_: object, **__: object) -> Reply:
    raise NotReady("no engine in these tests")


def settings(folder: Path, **jobs: object) -> Settings:
    given = {f"STEADYOCR_JOBS__{name.upper()}": str(value) for name, value in jobs.items()}
    environ = {"STEADYOCR_DATA_DIR": str(folder), "STEADYOCR_JOBS__MIN_FREE_BYTES": "0", **given}
    return load_settings(environ=environ)[0]


@contextlib.asynccontextmanager
async def opened(folder: Path, **jobs: object) -> AsyncIterator[Batches]:
    batches, loops = Batches(settings(folder, **jobs), nobody), Loops()
    try:
        await batches.start(loops)
        yield batches
    finally:
        await batches.drain()
        await loops.stop()
        await batches.close()


async def add(intake: Intake, *contents: bytes) -> None:
    for number, content in enumerate(contents):
        await intake.begin(f"{number}.png")
        # In odd pieces.
        for start in range(0, len(content), 700_001):
            await intake.write(content[start : start + 700_001])
        await intake.end()


async def make(batches: Batches, *contents: bytes) -> Job:
    async with batches.intake() as intake:
        await add(intake, *contents)
        return await intake.submit(JobRequest())


def unfinished(folder: Path) -> list[Path]:
    return list((folder / "jobs" / "blobs" / "unfinished").iterdir())


@in_real_time
async def test_what_came_in_is_what_is_stored(tmp_path: Path) -> None:
    large = PICTURE + os.urandom(3_000_000)
    async with opened(tmp_path) as batches:
        job = await make(batches, PICTURE, large, PICTURE)
        items = await batches.call(JobStore.items, job.id)
        stored = []
        for item in items:
            with batches.blobs.open(item.input_ref or "") as stream:
                stored.append(stream.read())
        assert stored == [PICTURE, large, PICTURE]
        assert items[0].input_ref == items[2].input_ref
        assert unfinished(tmp_path) == []


@in_real_time
async def test_a_file_behind_one_that_could_not_be_stored_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as batches:

        def full(_: object) -> None:
            raise InsufficientStorage("the disk is full")

        async def send() -> None:
            async with batches.intake() as intake:
                with monkeypatch.context() as patched:
                    patched.setattr(IncomingFile, "_commit", full)
                    await add(intake, PICTURE + os.urandom(2 << 20))
                    await asyncio.gather(*intake._flushes, return_exceptions=True)
                await add(intake, PICTURE + os.urandom(2 << 20))

        with pytest.raises(InsufficientStorage):
            await send()
        assert unfinished(tmp_path) == []


@in_real_time
async def test_files_of_this_machine_come_in_under_their_names(tmp_path: Path) -> None:
    async with opened(tmp_path) as batches, batches.intake() as intake:
        await intake.add_path(FIXTURES / "english.png")
        await intake.add_path(FIXTURES / "english.png", "other/name.png")
        job = await intake.submit(JobRequest())
        items = await batches.call(JobStore.items, job.id)
        assert [item.name for item in items] == ["english.png", "other/name.png"]


@in_real_time
async def test_a_job_of_nothing_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as batches:
        with pytest.raises(EmptyInput):
            await make(batches)


@in_real_time
async def test_the_bounds_of_a_job_hold_exactly(tmp_path: Path) -> None:
    size = len(PICTURE)
    async with opened(tmp_path, max_files=3, max_upload_bytes=3 * size) as batches:
        assert (await make(batches, PICTURE, PICTURE, PICTURE)).total == 3
        with pytest.raises(PayloadTooLarge, match="bytes"):
            await make(batches, PICTURE, PICTURE, PICTURE + b"x")
        with pytest.raises(PayloadTooLarge, match="3 files"):
            await make(batches, b"a", b"b", b"c", b"d")
        assert unfinished(tmp_path) == []


@in_real_time
async def test_only_so_many_jobs_are_sent_at_the_same_time(tmp_path: Path) -> None:
    async with opened(tmp_path, max_uploads=2) as batches:
        async with batches.intake(), batches.intake():
            with pytest.raises(QueueFull):
                async with batches.intake():
                    pass
            assert batches.describe()["uploads"] == 2
        await make(batches, PICTURE)


@in_real_time
async def test_no_more_is_taken_while_too_much_waits(tmp_path: Path) -> None:
    async with opened(tmp_path, max_waiting=2) as batches:
        await make(batches, PICTURE)
        await make(batches, PICTURE)
        with pytest.raises(QueueFull):
            await make(batches, PICTURE)


async def dribble(batches: Batches, files: int) -> None:
    async with batches.intake() as intake:
        for _ in range(files):
            await intake.begin("a.png")
            await intake.write(PICTURE + bytes(2_000_000))
        await asyncio.Event().wait()


@in_real_time
async def test_sending_takes_its_time_but_not_for_ever_even_if_no_file_comes(tmp_path: Path) -> None:
    async with opened(tmp_path, upload_timeout_s="0.05") as batches:
        for files in (0, 1):
            with pytest.raises(DeadlineExceeded):
                await dribble(batches, files)
            assert batches.uploads == 0
        assert unfinished(tmp_path) == []


@in_real_time
async def test_the_time_for_sending_ends_when_all_has_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path, upload_timeout_s="0.3") as batches:
        submit = SqlJobStore.submit

        def slowly(self: SqlJobStore, new: NewJob) -> Job:
            time.sleep(0.5)
            return submit(self, new)

        monkeypatch.setattr(SqlJobStore, "submit", slowly)
        assert (await make(batches, PICTURE)).total == 1


@in_real_time
async def test_who_is_called_off_while_files_are_flushed_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as batches:
        flushing, go_on, leaving = threading.Event(), threading.Event(), asyncio.Event()
        commit = BlobWriter.commit

        def held(self: BlobWriter) -> Blob:
            flushing.set()
            assert go_on.wait(PATIENCE_S)
            return commit(self)

        monkeypatch.setattr(BlobWriter, "commit", held)

        async def send() -> None:
            async with batches.intake() as intake:
                await add(intake, PICTURE + bytes(2_000_000))
                await intake.begin("second.png")
                await intake.write(PICTURE + bytes(2_000_000))
                await asyncio.to_thread(flushing.wait, 10)
                leaving.set()

        sending = asyncio.create_task(send())
        # By the time anybody else runs it waits for the flush.
        await leaving.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert batches.uploads == 0
        assert len(unfinished(tmp_path)) == 1, "the second file is gone; the first is in a thread's hands"
        go_on.set()
        await until(lambda: not unfinished(tmp_path))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in threads
            await asyncio.sleep(0.002)


@in_real_time
async def test_many_small_files_are_stored_together_and_keep_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path, max_files=5000) as batches:
        lots: list[int] = []
        put_many = LocalBlobs.put_many

        def counted(self: LocalBlobs, contents: Sequence[bytes | bytearray]) -> list[Blob]:
            lots.append(len(contents))
            return put_many(self, contents)

        monkeypatch.setattr(LocalBlobs, "put_many", counted)
        small = [PICTURE + str(n).encode() for n in range(1200)]
        large = PICTURE + bytes(1 << 20)
        job = await make(batches, small[0], b"", large, *small[1:], large)
        items = await batches.call(JobStore.items, job.id, limit=2000)
        assert [item.error["code"] for item in items if item.error] == ["empty_input"]
        wanted = [small[0], None, large, *small[1:], large]
        keys = [None if content is None else hashlib.sha256(content).hexdigest() for content in wanted]
        assert [item.input_ref for item in items] == keys
        assert sum(lots) == 1200
        assert len(lots) < 1200 * len(PICTURE) / (2 << 20), "a few megabytes each"


@in_real_time
async def test_a_file_that_breaks_off_is_not_kept(tmp_path: Path) -> None:
    async with opened(tmp_path) as batches:
        async with batches.intake() as intake:
            await intake.begin("a.png")
            await intake.write(PICTURE + bytes(2_000_000))
            assert len(unfinished(tmp_path)) == 1
        assert unfinished(tmp_path) == []
        assert batches.uploads == 0


@in_real_time
async def test_a_job_whose_files_were_cleaned_away_while_it_came_in_is_to_be_sent_again(tmp_path: Path) -> None:
    # The clock is set forward a day, and the janitor takes what came in before for a broken upload's.
    async with opened(tmp_path) as batches:
        async with batches.intake() as intake:
            await add(intake, PICTURE, PICTURE + bytes(2_000_000))
            await intake.begin("archive.zip")
            await intake.write(zip_of_one())
            await intake.end()
            await until(lambda: len(list(batches.blobs.list_older(0))) == 3)
            assert sweep_orphans(batches.jobs.store, batches.blobs, 0) == 3
            with pytest.raises(Unavailable, match="send it again"):
                await intake.submit(JobRequest())
        assert (await make(batches, PICTURE)).total == 1


def zip_of_one() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.png", PICTURE)
    return stream.getvalue()


@in_real_time
async def test_a_full_disk_refuses_the_job_and_is_not_the_pictures_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path, min_free_bytes=1000) as batches:
        monkeypatch.setattr("steadyocr.jobs.disk.shutil.disk_usage", lambda _: type("Usage", (), {"free": 999}))
        with pytest.raises(InsufficientStorage):
            await make(batches, PICTURE, PICTURE)


@in_real_time
async def test_a_full_disk_keeps_nobody_from_a_job_of_small_files_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def make_known(batches: Batches, content: bytes, key: str) -> Job:
        async with batches.intake() as intake:
            await add(intake, content)
            return await intake.submit(JobRequest(idempotency_key=key))

    async with opened(tmp_path, min_free_bytes=1000) as batches:
        job = await make_known(batches, PICTURE, "k")
        monkeypatch.setattr("steadyocr.jobs.disk.shutil.disk_usage", lambda _: type("Usage", (), {"free": 999}))
        assert (await make_known(batches, PICTURE, "k")).id == job.id
        with pytest.raises(InsufficientStorage):
            await make_known(batches, PICTURE, "another")


@in_real_time
async def test_a_stopping_service_takes_nothing_more(tmp_path: Path) -> None:
    async with opened(tmp_path) as batches:
        await batches.drain()
        with pytest.raises(Draining):
            batches.intake()
        await batches.close()
        with pytest.raises(Draining):
            await batches.call(JobStore.waiting)


@in_real_time
async def test_without_a_start_jobs_are_refused(tmp_path: Path) -> None:
    batches = Batches(settings(tmp_path), nobody)
    with pytest.raises(Unavailable):
        await batches.call(JobStore.waiting)
    assert batches.describe()["state"] == "unavailable"


@in_real_time
async def test_a_store_that_is_away_at_the_start_is_opened_when_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0

    def open_at_last(*arguments: object) -> SqlJobStore:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise Unavailable("away")
        return really_open(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(opening, "open_job_store", open_at_last)
    monkeypatch.setattr(opening, "_FIRST_PAUSE_S", 0.01)
    async with opened(tmp_path) as batches:
        assert batches.describe()["state"] == "unavailable"
        with pytest.raises(Unavailable):
            batches.intake()
        async with asyncio.timeout(PATIENCE_S):
            while batches.trouble is not None:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.01)
        job = await make(batches, PICTURE)
        items = await batches.call(JobStore.items, job.id)
        assert [item.state for item in items] == [ItemState.QUEUED]


@in_real_time
async def test_a_start_does_not_wait_for_a_store_that_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches_module, "_FIRST_OPEN_S", 0.05)
    silent = asyncio.Event()

    async def say_nothing(_: Settings) -> object:
        await silent.wait()
        raise AssertionError

    monkeypatch.setattr(opening, "open_once", say_nothing)
    async with opened(tmp_path) as batches:
        assert batches.describe()["state"] == "unavailable"


@in_real_time
async def test_a_store_that_can_never_work_fails_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"jobs\.url"):
        async with opened(tmp_path, url="oracle://x"):
            pass


@in_real_time
async def test_webhooks_are_refused_when_nothing_signs_them_or_the_address_is_none(tmp_path: Path) -> None:
    async with opened(tmp_path) as batches:
        with pytest.raises(InvalidOption, match="no webhooks"):
            batches.check_webhook("https://example.com/hook")
    async with opened(tmp_path, webhook_secret="s" * 40) as batches:
        batches.check_webhook("https://example.com/hook")
        with pytest.raises(InvalidOption):
            batches.check_webhook("file:///etc/passwd")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:top%20secret@host:5/db?x=1", "postgresql://me:***@host:5/db?x=1"),
        ("postgresql://me:aB/c+d==@host/db", "postgresql://me:***@host/db"),
        ("postgresql://me:a#b?c@host/db", "postgresql://me:***@host/db"),
        ("postgresql://host/db?user=me&password=secret&x=1", "postgresql://host/db?user=me&password=***&x=1"),
        ("postgresql://me@host:5/db", "postgresql://me@host:5/db"),
        ("sqlite:////var/lib/jobs.db", "sqlite:////var/lib/jobs.db"),
    ],
)
def test_a_password_in_a_url_is_not_shown(tmp_path: Path, url: str, shown: str) -> None:
    secret = settings(tmp_path, url=url)
    assert secret.jobs.url == url
    assert secret.model_dump(mode="json")["jobs"]["url"] == shown
