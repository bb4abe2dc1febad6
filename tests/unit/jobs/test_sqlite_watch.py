"""How often SQLite is looked at: often while something goes on, seldom where nothing does."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from steadyocr.jobs.watch import SqliteWatch


class Clock:
    """Time that passes in pauses only, and what happens at which moment of it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.closed = False
        self.pauses: list[float] = []
        self.events: dict[float, sqlite3.Connection] = {}

    def is_set(self) -> bool:
        return self.closed

    def set(self) -> None:
        self.closed = True

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.pauses.append(seconds)
        for moment in [moment for moment in self.events if moment <= self.now]:
            with self.events.pop(moment) as connection:
                connection.execute("CREATE TABLE IF NOT EXISTS marks (x)")
                connection.execute("INSERT INTO marks VALUES (1)")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("steadyocr.jobs.watch.time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr("steadyocr.jobs.watch.threading", SimpleNamespace(Event=lambda: clock, Lock=threading.Lock))
    return clock


def test_an_idle_store_is_looked_at_more_and_more_seldom_up_to_a_bound(clock: Clock, tmp_path: Path) -> None:
    writer = sqlite3.connect(tmp_path / "jobs.db")
    watch = SqliteWatch(tmp_path / "jobs.db")
    assert watch.wait(1.0), "the first look"
    clock.pauses.clear()
    assert not watch.wait(60.0)
    *looks, _ = clock.pauses
    assert looks == sorted(looks)
    assert looks[0] == 0.02
    assert looks[-1] == 0.1
    assert len(looks) < 700
    # Also over many short waits, as the one who waits looks up now and then.
    clock.pauses.clear()
    assert not any(watch.wait(0.5) for _ in range(10))
    assert len(clock.pauses) <= 60
    # A change is seen within the longer pause, and from then on they are short again.
    clock.events[clock.now + 0.05] = writer
    clock.pauses.clear()
    assert watch.wait(5.0)
    assert clock.pauses == [0.1]
    assert not watch.wait(0.1)
    assert clock.pauses[1] == 0.02
    watch.close()
    writer.close()
