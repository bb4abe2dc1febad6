from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import sqlite3
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import MetaData, create_engine, inspect, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from jobs_support import claim_one, postgres, submit  # noqa: F401 - one is a fixture
from steadyocr.errors import (
    ConfigError,
    IdempotencyConflict,
    InsufficientStorage,
    InternalError,
    JobNotFound,
    Unavailable,
)
from steadyocr.jobs import database as database_module
from steadyocr.jobs.async_store import AsyncJobStore
from steadyocr.jobs.clock import machine_clock
from steadyocr.jobs.config import StoreConfig
from steadyocr.jobs.database import Database, Tx, open_database
from steadyocr.jobs.db_errors import understand
from steadyocr.jobs.filesystems import file_system_of, refuse_network_file_system
from steadyocr.jobs.migrations import MIGRATIONS, Migration
from steadyocr.jobs.models import ItemOutcome, NewItem, NewJob
from steadyocr.jobs.schema import metadata
from steadyocr.jobs.sql_store import SqlJobStore, open_job_store
from steadyocr.jobs.submit import submit as submit_in
from steadyocr.testing import FakeClock, InMemoryJobStore
from support import PATIENCE_S, in_real_time, wait_until

NEXT = Migration(
    len(MIGRATIONS) + 1, "next", ("ALTER TABLE job ADD COLUMN colour TEXT", "CREATE INDEX job_colour ON job (colour)")
)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/jobs.db"


def shape(url: str) -> dict[str, object]:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    found = inspect(engine)
    tables = set(found.get_table_names()) - {"schema_version"}
    shape: dict[str, object] = {
        table: (
            {column["name"]: (str(column["type"]), column["nullable"]) for column in found.get_columns(table)},
            {
                (index["name"], index["unique"])
                for index in found.get_indexes(table)
                if not index.get("duplicates_constraint")
            },
            {tuple(constraint["column_names"]) for constraint in found.get_unique_constraints(table)},
        )
        for table in tables
    }
    engine.dispose()
    return shape


# --- migrations


def test_the_first_migration_makes_what_the_statements_expect_on_sqlite(url: str, tmp_path: Path) -> None:
    open_database(url).close()
    fresh = f"sqlite:///{tmp_path}/fresh.db"
    engine = create_engine(fresh)
    metadata.create_all(engine)
    engine.dispose()
    ours, theirs = shape(url), shape(fresh)
    assert _sqlite_kinds(ours) == _sqlite_kinds(theirs)


def _sqlite_kinds(shape: dict[str, object]) -> str:
    """SQLite knows one kind of whole numbers and one of the others, under any of their names."""
    return str(sorted(shape.items())).replace("BIGINT", "INTEGER").replace("DOUBLE", "REAL")


def test_the_first_migration_makes_what_the_statements_expect_on_postgresql(
    request: pytest.FixtureRequest,
) -> None:
    server = request.getfixturevalue("postgres")
    url, fresh = server.new_database(), server.new_database()
    open_database(url).close()
    engine = create_engine(fresh.replace("postgresql://", "postgresql+psycopg://"))
    metadata.create_all(engine)
    engine.dispose()
    assert shape(url) == shape(fresh)


def test_an_old_database_is_brought_up_to_date_with_its_content(url: str) -> None:
    old = SqlJobStore(open_database(url))
    job = submit(old, 3)
    old.close()
    newer = open_database(url, migrations=(*MIGRATIONS, NEXT))
    assert SqlJobStore(newer).job(job.id) == job
    newer.write(lambda tx: tx.connection.execute(text("UPDATE job SET colour = 'red'")))
    newer.close()
    again = open_database(url, migrations=(*MIGRATIONS, NEXT))
    versions = again.read(lambda tx: tx.connection.execute(text("SELECT version FROM schema_version")).scalars().all())
    assert versions == list(range(1, len(MIGRATIONS) + 2))
    again.close()


def test_a_database_of_the_first_version_learns_webhooks(url: str) -> None:
    store = open_job_store(url)
    job = submit(store, 1)
    store.close()
    first = create_engine(url)
    with first.begin() as connection:
        connection.exec_driver_sql("DROP TABLE webhook")
        connection.exec_driver_sql("DELETE FROM schema_version WHERE version > 1")
    first.dispose()
    store = open_job_store(url)
    assert store.job(job.id) == job
    assert store.webhook(job.id) is None
    told = submit(store, 1, webhook_url="https://receiver.example/")
    assert store.webhook(told.id) is not None
    store.close()


def test_webhooks_of_the_second_version_are_told(url: str) -> None:
    store = open_job_store(url)
    told = submit(store, 1, webhook_url="https://receiver.example/")
    store.cancel(told.id)
    store.close()
    second = create_engine(url)
    with second.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE webhook DROP COLUMN written_at")
        connection.exec_driver_sql("DELETE FROM schema_version WHERE version > 2")
    second.dispose()
    store = open_job_store(url)
    assert [delivery.job.id for delivery in store.claim_deliveries()] == [told.id]
    store.close()


def test_a_newer_database_is_refused(url: str) -> None:
    open_database(url, migrations=(*MIGRATIONS, NEXT)).close()
    with pytest.raises(ConfigError, match=f"version {NEXT.version}"):
        open_database(url)


def test_a_migration_that_fails_changes_nothing(url: str) -> None:
    open_database(url).close()
    broken = Migration(NEXT.version, "broken", ("CREATE TABLE half (id INTEGER)", "CREATE TABLE half (id INTEGER)"))
    with pytest.raises(InternalError):
        open_database(url, migrations=(*MIGRATIONS, broken))
    reflected = MetaData()
    engine = create_engine(url)
    reflected.reflect(engine)
    engine.dispose()
    assert "half" not in reflected.tables
    open_database(url).close()


def test_many_may_open_a_new_database_at_once(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue("postgres")
    for url in (f"sqlite:///{tmp_path}/new.db", server.new_database()):
        with ThreadPoolExecutor(6) as openers:
            stores = list(openers.map(open_job_store, [url] * 6))
        assert [store.waiting() for store in stores] == [0] * 6
        for store in stores:
            store.close()


# --- opening


@pytest.mark.parametrize("url", ["nonsense", "mysql://host/name", "sqlite://", "sqlite:///:memory:"])
def test_what_is_no_usable_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"jobs\.url"):
        open_database(url)


def test_sqlite_is_opened_for_safety(url: str) -> None:
    database = open_database(url)

    def pragmas(tx: Tx) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        return [tx.connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in names]

    assert database.read(pragmas) == ["wal", 2, 1, 30_000]
    database.close()


def test_an_unreachable_server_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        open_database("postgresql://nobody@127.0.0.1:9/none", sleep=lambda _: None)


MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw
30 22 0:40 / /data rw - nfs4 server:/data rw
31 30 0:41 / /data/local rw shared:3 - xfs /dev/b rw
32 22 0:42 / /with\\040space rw - fuse.sshfs me@host: rw
33 22 0:43 / /over rw - ext4 /dev/c rw
34 33 0:44 / /over rw - cifs //host/share rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/data/jobs", "nfs4"),
        ("/data/local/jobs", "xfs"),
        ("/database", "ext4"),
        ("/with space/x", "fuse.sshfs"),
        ("/over", "cifs"),
    ],
)
def test_the_file_system_of_a_path_is_that_of_the_nearest_mount(path: str, kind: str) -> None:
    assert file_system_of(Path(path), MOUNTS) == kind


def test_sqlite_on_a_network_file_system_is_refused() -> None:
    with pytest.raises(ConfigError, match="nfs4"):
        refuse_network_file_system(Path("/data/jobs"), MOUNTS)
    refuse_network_file_system(Path("/data/local/jobs"), MOUNTS)


# --- errors


class Flaky:
    """A transaction that fails some times before it works."""

    def __init__(self, failures: int, error: Callable[[], Exception]) -> None:
        self.failures = failures
        self.error = error
        self.seen: list[bool] = []

    def __call__(self, tx: Tx) -> str:
        self.seen.append(tx.repeated)
        if len(self.seen) <= self.failures:
            raise self.error()
        return "done"


def locked() -> OperationalError:
    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
    return OperationalError("BEGIN", {}, error)


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = open_database(url, clock=FakeClock(), sleep=lambda _: None)
    yield database
    database.close()


def test_a_transient_error_is_tried_again(database: Database) -> None:
    work = Flaky(2, locked)
    assert database.write(work) == "done"
    assert work.seen == [False, True, True]


def test_transient_errors_are_tried_again_only_so_often(database: Database) -> None:
    work = Flaky(100, locked)
    with pytest.raises(Unavailable) as caught:
        database.write(work)
    assert len(work.seen) == 4
    assert caught.value.retry_after_s is not None


def test_a_permanent_error_is_not_tried_again(database: Database) -> None:
    # Prototype bug 4: the retry loop caught every database error.
    work = Flaky(100, lambda: ProgrammingError("x", {}, sqlite3.ProgrammingError("no such column")))
    with pytest.raises(InternalError):
        database.write(work)
    assert work.seen == [False]
    with pytest.raises(InternalError):
        database.write(lambda tx: tx.connection.execute(text("SELECT nonsense FROM nowhere")))


def test_errors_of_our_own_pass_untouched(database: Database) -> None:
    work = Flaky(100, lambda: ConfigError("ours"))
    with pytest.raises(ConfigError):
        database.write(work)
    assert work.seen == [False]


def pg_error(state: str | None) -> OperationalError:
    return OperationalError("x", {}, type("OperationalError", (psycopg.OperationalError,), {"sqlstate": state})())


@pytest.mark.parametrize(
    ("state", "kind", "transient"),
    [
        (None, Unavailable, True),
        ("08006", Unavailable, True),
        ("40001", Unavailable, True),
        ("40P01", Unavailable, True),
        ("53300", Unavailable, True),
        ("57P01", Unavailable, True),
        ("55P03", Unavailable, True),
        ("25P03", Unavailable, True),
        ("25006", Unavailable, False),
        ("53100", InsufficientStorage, False),
        ("42703", InternalError, False),
        ("23505", InternalError, False),
        ("22021", InternalError, False),
    ],
)
def test_what_postgresql_says_is_understood(state: str | None, kind: type[Exception], transient: bool) -> None:
    fault = understand(pg_error(state))
    assert (type(fault.error), fault.transient) == (kind, transient)


def test_from_a_server_that_only_reads_no_connection_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = open_database(f"sqlite:///{tmp_path}/jobs.db")
    closed: list[bool] = []
    monkeypatch.setattr(database.engine, "dispose", lambda: closed.append(True))

    def refused(_: object) -> None:
        raise pg_error("25006")

    with pytest.raises(Unavailable):
        database.write(refused)
    assert closed == [True]
    monkeypatch.undo()
    database.close()


@pytest.mark.parametrize(
    ("code", "kind", "transient"),
    [
        (sqlite3.SQLITE_BUSY, Unavailable, True),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, Unavailable, True),
        (sqlite3.SQLITE_FULL, InsufficientStorage, False),
        (sqlite3.SQLITE_IOERR_WRITE, Unavailable, False),
        (sqlite3.SQLITE_CONSTRAINT_UNIQUE, InternalError, False),
        (sqlite3.SQLITE_CORRUPT, Unavailable, False),
        (sqlite3.SQLITE_NOTADB, Unavailable, False),
    ],
)
def test_what_sqlite_says_is_understood(code: int, kind: type[Exception], transient: bool) -> None:
    error = sqlite3.OperationalError("x")
    error.sqlite_errorcode = code
    fault = understand(OperationalError("x", {}, error))
    assert (type(fault.error), fault.transient) == (kind, transient)


SECRET_NAME = "payslip-of-mrs-tell-tale.png"
SECRET_TEXT = "tell-tale-iban"


def submit_secrets(store: SqlJobStore, count: int = 1) -> None:
    items = tuple(NewItem(input_ref=f"{n:064x}", name=SECRET_NAME) for n in range(count))
    store.submit(NewJob(items=items, meta={"who": SECRET_TEXT}))


def logged(caplog: pytest.LogCaptureFixture) -> str:
    formatter = logging.Formatter()
    return "\n".join(formatter.format(record) for record in caplog.records)


def test_a_full_store_writes_no_names_into_the_log(url: str, caplog: pytest.LogCaptureFixture) -> None:
    database = open_database(url)
    store = SqlJobStore(database)
    with database.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(InsufficientStorage):
        submit_secrets(store, 1000)
    text = logged(caplog)
    assert "INSERT INTO" in text, "the statement is there, and what it was given is not"
    assert "tell-tale" not in text
    store.close()


@pytest.mark.parametrize("code", ["53100", "23514"], ids=["full", "refused"])
def test_a_server_that_quotes_the_row_writes_no_names_into_the_log(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture, code: str
) -> None:
    database = open_database(request.getfixturevalue("postgres").new_database())
    store = SqlJobStore(database)
    refuse = f"""CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        RAISE EXCEPTION 'no room' USING ERRCODE = '{code}', DETAIL = 'Failing row: ' || NEW.name, HINT = NEW.name;
        END $$"""
    with database.engine.begin() as connection:
        connection.exec_driver_sql(refuse)
        connection.exec_driver_sql("CREATE TRIGGER refuse BEFORE INSERT ON item FOR EACH ROW EXECUTE FUNCTION refuse()")
    with pytest.raises((InsufficientStorage, InternalError)) as caught:
        submit_secrets(store)
    text = logged(caplog) + "".join(traceback.format_exception(caught.value))
    assert "no room" in text
    assert "tell-tale" not in text
    store.close()


# --- trouble


async def fails(jobs: AsyncJobStore, call: Callable[[], object]) -> None:
    with pytest.raises(Unavailable):
        await jobs.run(call)


@in_real_time
async def test_a_damaged_file_stays_trouble_although_other_parts_can_be_read(url: str, tmp_path: Path) -> None:
    store = open_job_store(url)
    job = submit(store, 300)
    store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "jobs.db")) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'event'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with (tmp_path / "jobs.db").open("r+b") as stream:
        stream.seek((root - 1) * size)
        stream.write(b"\xff" * size)
    jobs = AsyncJobStore(open_job_store(url))
    await fails(jobs, functools.partial(jobs.store.events, job.id))
    assert await jobs.run(jobs.store.waiting) == 300
    assert jobs.trouble is not None
    await jobs.close()


@in_real_time
async def test_closing_waits_for_what_is_under_way_and_gives_up_what_waits() -> None:
    jobs = AsyncJobStore(InMemoryJobStore(), threads=1)
    begun, answered = threading.Event(), threading.Event()
    ran: list[str] = []

    def silent() -> str:
        begun.set()
        answered.wait(30)
        return "answered at last"

    first = asyncio.create_task(jobs.run(silent))
    await asyncio.to_thread(begun.wait, 30)
    rest = [asyncio.create_task(jobs.run(ran.append, "late")) for _ in range(5)]
    closing = asyncio.create_task(jobs.close())
    done, _ = await asyncio.wait(rest, timeout=30)
    assert len(done) == 5, "they need not wait for the silent one"
    assert not closing.done()
    answered.set()
    await closing
    assert await first == "answered at last"
    assert [type(task.exception()) for task in rest] == [Unavailable] * 5
    assert ran == []


@in_real_time
async def test_closing_ends_the_tries_of_what_is_under_way(url: str) -> None:
    database = open_database(url, sleep=lambda _: None)
    jobs = AsyncJobStore(SqlJobStore(database))
    begun, go_on = threading.Event(), threading.Event()
    tries = 0

    def silent(_: Tx) -> None:
        nonlocal tries
        tries += 1
        begun.set()
        assert go_on.wait(PATIENCE_S)
        raise locked()

    call = asyncio.create_task(jobs.run(database.read, silent))
    assert await asyncio.to_thread(begun.wait, 30)
    closing = asyncio.create_task(jobs.close())
    await asyncio.sleep(0)
    go_on.set()
    await closing
    with pytest.raises(Unavailable):
        await call
    assert tries == 1


@in_real_time
async def test_closing_ends_the_pause_before_the_next_try(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "_PAUSES_S", (600.0,))
    database = open_database(url)
    jobs = AsyncJobStore(SqlJobStore(database))
    work = Flaky(100, locked)
    call = asyncio.create_task(jobs.run(database.read, work))
    await asyncio.to_thread(wait_until, lambda: bool(work.seen), 30)
    async with asyncio.timeout(PATIENCE_S):
        await jobs.close()
    with pytest.raises(Unavailable):
        await call
    assert len(work.seen) == 1


@in_real_time
async def test_that_reading_works_does_not_end_trouble_with_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = AsyncJobStore(store := InMemoryJobStore())
    broken: set[str] = {"reap", "waiting"}

    def breakable(name: str) -> None:
        call = getattr(store, name)

        @functools.wraps(call)
        def guarded(*args: object, **kwargs: object) -> object:
            if name in broken:
                raise Unavailable(name)
            return call(*args, **kwargs)

        monkeypatch.setattr(store, name, guarded)

    def trouble() -> str | None:
        return jobs.trouble.message if jobs.trouble else None

    breakable("reap")
    breakable("waiting")
    await fails(jobs, store.waiting)
    await jobs.run(store.load)
    assert trouble() is None, "reading works"
    await fails(jobs, store.reap)
    await fails(jobs, store.waiting)
    await jobs.run(store.load)
    assert trouble() == "reap"
    with pytest.raises(JobNotFound):
        await jobs.run(store.cancel, "none")
    async with asyncio.timeout(PATIENCE_S):
        while trouble():  # noqa: ASYNC110 - until it is known that writing works
            await asyncio.sleep(0.01)
    await jobs.close()


@in_real_time
async def test_a_call_that_had_nothing_to_write_does_not_end_trouble_with_writing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jobs = AsyncJobStore(store := InMemoryJobStore())
    tries: list[str] = []
    full = ["the disk is full"]

    def write() -> None:
        tries.append("")
        if full:
            raise Unavailable(full[0])

    monkeypatch.setattr(store, "reap", write)
    monkeypatch.setattr(store, "try_writing", write)

    def in_trouble() -> bool:
        return jobs.trouble is not None

    await fails(jobs, store.reap)
    async with asyncio.timeout(PATIENCE_S):
        while len(tries) < 4:
            assert await jobs.run(store.claim, "me") == []
            assert in_trouble()
        full.clear()
        while in_trouble():
            assert await jobs.run(store.claim, "me") == []
    await jobs.close()


# --- a commit whose answer was lost


class LosesAnswers:
    """Wraps a database so that after each write's commit the answer is lost once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.config, self.path = database.config, database.path

    def write(self, work: Callable[[Tx], object]) -> object:
        self._database.write(work)
        return self._database.write(lambda tx: work(Tx(tx.connection, tx.now, tx.config, repeated=True)))

    def read(self, work: Callable[[Tx], object]) -> object:
        return self._database.read(work)


def test_a_lost_answer_never_makes_anything_happen_twice(database: Database) -> None:
    store = SqlJobStore(LosesAnswers(database))  # type: ignore[arg-type]
    job = submit(store, 3)
    assert [known.id for known in store.jobs()] == [job.id]
    first = claim_one(store)
    assert store.progress(job.id).leased == 1
    assert store.complete(first, ItemOutcome(result={}))
    assert store.fail(claim_one(store), {"code": "x"})
    assert store.retry_later(claim_one(store), {"code": "x"}) is not None
    now = store.job(job.id)
    assert (now.done, now.failed, now.remaining) == (1, 1, 1)
    assert store.items(job.id)[2].attempts == 1


# --- two at once


def test_two_submits_at_once_do_not_both_take_the_last_room(request: pytest.FixtureRequest) -> None:
    url = request.getfixturevalue("postgres").new_database()
    database = open_database(url, StoreConfig(max_stored_bytes=1000))
    entered, leave = threading.Event(), threading.Event()
    new = NewJob(items=(NewItem(input_ref="a" * 64, size_bytes=600),))

    def slow(tx: Tx) -> None:
        submit_in(tx, "first", new)
        entered.set()
        assert leave.wait(PATIENCE_S)

    with ThreadPoolExecutor(2) as submitters, psycopg.connect(url, autocommit=True) as beside:
        first = submitters.submit(database.write, slow)
        assert entered.wait(PATIENCE_S)
        second = submitters.submit(SqlJobStore(database).submit, new)
        waits = b"SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'"
        wait_until(lambda: second.done() or beside.execute(waits).fetchone() == (1,))
        leave.set()
        first.result()
        with pytest.raises(InsufficientStorage):
            second.result()
    database.close()


# --- time


def test_the_machines_clock_does_not_follow_jumps_of_the_wall_clock(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_job_store(url)
    submit(store, 1)
    lease = claim_one(store)
    real = time.time
    for jump_s in (86_400.0, -86_400.0 * 365):
        monkeypatch.setattr(time, "time", lambda jump_s=jump_s: real() + jump_s)
        other = open_job_store(url)
        assert other.reap() == 0
        made = submit(other, 1)
        assert abs(made.created_at - lease.lease_until) < 60
        assert other.heartbeat([lease]).lost == frozenset()
        other.close()
    assert store.complete(lease, ItemOutcome())
    store.close()


def test_a_new_boot_ends_all_leases_and_pauses(url: str) -> None:
    uptime = FakeClock(5000.0)
    database = open_database(url, StoreConfig(), clock=FakeClock(1_700_000_000.0))

    def clock_of(boot: str, wall: float) -> float:
        return database.write(lambda tx: machine_clock(tx.connection, boot=boot, wall=lambda: wall, boottime=uptime))()

    assert clock_of("first", 1_700_000_000.0) == 1_700_000_000.0
    store = SqlJobStore(database)
    submit(store, 2)
    claim_one(store)
    store.retry_later(claim_one(store), {"code": "x"})
    uptime.advance(10)
    assert clock_of("first", 1_900_000_000.0) == 1_700_000_010.0, "the wall clock is asked once a boot"
    assert store.reap() == 0
    # The power was cut, and the machine came up with its clock two years back.
    uptime.now = 3.0
    assert clock_of("second", 1_640_000_000.0) == 1_640_000_000.0
    database.close()
    after = SqlJobStore(open_database(url, clock=FakeClock(1_640_000_000.0)))
    assert after.reap() == 1
    assert len(after.claim("me", limit=5)) == 1
    after.close()


def test_postgresql_gives_the_time_itself(request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue("postgres")
    store = open_job_store(server.new_database())
    submit(store, 1)
    claim_one(store, lease_s=0.05)
    time.sleep(0.1)
    assert store.reap() == 1
    store.close()


def test_a_low_disk_refuses_new_jobs_and_lets_running_ones_finish(url: str) -> None:
    roomy = open_job_store(url)
    submit(roomy, 1)
    store = open_job_store(url, StoreConfig(min_free_bytes=1 << 60))
    with pytest.raises(InsufficientStorage):
        submit(store, 1)
    assert store.complete(claim_one(store), ItemOutcome())
    roomy.close()
    store.close()


def test_a_low_disk_keeps_nobody_from_a_job_that_is_there(url: str) -> None:
    roomy = open_job_store(url)
    job = submit(roomy, 1, idempotency_key="k", request_hash="h")
    store = open_job_store(url, StoreConfig(min_free_bytes=1 << 60))
    assert submit(store, 1, idempotency_key="k", request_hash="h") == job
    with pytest.raises(IdempotencyConflict):
        submit(store, 1, idempotency_key="k", request_hash="other")
    with pytest.raises(InsufficientStorage):
        submit(store, 1, idempotency_key="new", request_hash="h")
    roomy.close()
    store.close()


@in_real_time
async def test_that_all_the_room_is_taken_is_no_trouble_of_the_store(url: str) -> None:
    jobs = AsyncJobStore(open_job_store(url, StoreConfig(max_stored_bytes=1000)))
    with pytest.raises(InsufficientStorage, match="larger"):
        await jobs.run(jobs.store.submit, NewJob(items=(NewItem(input_ref="0" * 64, name="a.png", size_bytes=5000),)))
    assert jobs.trouble is None
    await jobs.close()
