"""What the tests of the job engine share: a PostgreSQL server of their own, new jobs, small fakes."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from ci_must import skip_or_fail
from steadyocr.jobs.models import ItemKind, Job, Lease, NewItem, NewJob
from steadyocr.jobs.store import JobStore
from support import free_port, wait_until

# In memory where possible: these tests flush all the time, and mean what is written, not the disk.
FAST_FOLDER = "/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir()

_numbers = itertools.count(1)


def key_of(number: int) -> str:
    """What looks like a blob key."""
    return f"{number:064x}"


def new_items(count: int, kind: ItemKind = "read") -> tuple[NewItem, ...]:
    return tuple(NewItem(input_ref=key_of(n), name=f"{n}.png", size_bytes=100, kind=kind) for n in range(count))


def submit(store: JobStore, count: int = 1, **fields: object) -> Job:
    return store.submit(NewJob(items=new_items(count), **fields))  # type: ignore[arg-type]


def claim_one(store: JobStore, owner: str = "me", lease_s: float = 30.0) -> Lease:
    (lease,) = store.claim(owner, lease_s=lease_s)
    return lease


def counters(job: Job) -> dict[str, int]:
    names = ("done", "failed", "dead", "cancelled", "expired")
    return {name: getattr(job, name) for name in names if getattr(job, name)}


def _postgres_bin() -> Path | None:
    on_path = shutil.which("initdb")
    candidates = [Path(on_path).resolve().parent] if on_path else []
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in candidates if (folder / "postgres").exists()), None)


class PostgresServer:
    """A server of our own in a folder of its own, on the loopback interface."""

    def __init__(self, binaries: Path, folder: Path, *options: str) -> None:
        self._binaries = binaries
        self._folder = folder
        self._options = options
        # The server refuses to run as root.
        self._as_user = (
            ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
        )
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    def create(self) -> None:
        if self._as_user:
            shutil.chown(self._folder, "postgres", "postgres")
        arguments = ["-D", str(self._folder / "data"), "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C"]
        subprocess.run(
            [*self._as_user, str(self._binaries / "initdb"), *arguments, "--no-sync"],
            cwd="/",
            check=True,
            capture_output=True,
            timeout=60,
        )

    def start(self) -> None:
        arguments = ["-D", str(self._folder / "data"), "-k", str(self._folder), "-p", str(self.port)]
        settings = ("listen_addresses=127.0.0.1", "max_connections=60", *self._options)
        self._process = subprocess.Popen(
            [*self._as_user, str(self._binaries / "postgres"), *arguments, *(f"-c{setting}" for setting in settings)],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self._answers)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "the PostgreSQL server ended while it started"
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self.url(), connect_timeout=2):
            return True
        return False

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        name = f"test_{os.getpid()}_{next(_numbers)}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return self.url(name)

    @functools.cached_property
    def shared_database(self) -> str:
        """One database for all tests that empty it first; making one costs hundreds of files."""
        return self.new_database()

    def stop(self) -> None:
        """End it at once, as a crash would, but without leaving children behind."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(20)
            self._process = None


@contextlib.contextmanager
def postgres_server(*options: str) -> Iterator[PostgresServer]:
    binaries = _postgres_bin()
    if binaries is None:
        skip_or_fail("no PostgreSQL server is installed (initdb and postgres were looked for)")
    folder = Path(tempfile.mkdtemp(prefix="steadyocr-postgres-", dir=FAST_FOLDER))
    server = PostgresServer(binaries, folder, *options)
    try:
        server.create()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for all tests that leave it running. Nothing survives it, so it need not flush."""
    with postgres_server("fsync=off", "full_page_writes=off", "synchronous_commit=off") as server:
        yield server
