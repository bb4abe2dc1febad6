"""Fixtures: every job store there is, on a clock that the test moves."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import pytest

from jobs_support import FAST_FOLDER, postgres  # noqa: F401 - a fixture
from steadyocr.jobs.config import StoreConfig
from steadyocr.jobs.database import open_database
from steadyocr.jobs.sql_store import SqlJobStore
from steadyocr.jobs.store import JobStore
from steadyocr.testing import FakeClock, InMemoryJobStore

CONFIG = StoreConfig(
    max_attempts=3,
    max_losses=4,
    backoff_first_s=2.0,
    backoff_max_s=5.0,
    max_items=10_000,
    max_events=50,
    max_stored_bytes=1 << 30,
    grace_s=3600.0,
)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def fast_folder() -> Iterator[str]:
    with tempfile.TemporaryDirectory(dir=FAST_FOLDER) as folder:
        yield folder


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, fast_folder: str, clock: FakeClock) -> Iterator[JobStore]:
    """Every store there is, on a clock that the test moves."""
    opened: JobStore
    if request.param == "memory":
        opened = InMemoryJobStore(CONFIG, clock)
    elif request.param == "sqlite":
        opened = SqlJobStore(open_database(f"sqlite:///{fast_folder}/jobs.db", CONFIG, clock=clock))
    else:
        server = request.getfixturevalue("postgres")
        database = open_database(server.shared_database, CONFIG, clock=clock)
        database.write(lambda tx: tx.connection.exec_driver_sql("TRUNCATE job, fact CASCADE"))
        opened = SqlJobStore(database)
    yield opened
    opened.close()
