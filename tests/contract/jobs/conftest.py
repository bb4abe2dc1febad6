from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from jobs_support import postgres  # noqa: F401 - a fixture

from steadyocr.jobs.config import StoreConfig
from steadyocr.jobs.database import open_database
from steadyocr.jobs.sql_store import SqlJobStore
from steadyocr.jobs.store import JobStore
from steadyocr.testing import FakeClock, InMemoryJobStore

CONFIG = StoreConfig(max_attempts=3, max_losses=4, backoff_first_s=2.0, backoff_max_s=5.0, max_items=10_000, max_events=50)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> Iterator[JobStore]:
    """Every store there is, on a clock that the test moves."""
    opened: JobStore
    if request.param == "memory":
        opened = InMemoryJobStore(CONFIG, clock)
    elif request.param == "sqlite":
        opened = SqlJobStore(open_database(f"sqlite:///{tmp_path}/jobs.db", CONFIG, clock=clock))
    else:
        server = request.getfixturevalue("postgres")
        opened = SqlJobStore(open_database(server.new_database(), CONFIG, clock=clock))
    yield opened
    opened.close()
