"""Waiting until something changes, without asking all the time."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from steadyocr.jobs.database import CHANNEL, Database

if TYPE_CHECKING:
    import psycopg

# How often SQLite is asked for its change counter: one read of shared memory, some ten microseconds. Where nothing has
# changed for a while the pause is a twentieth of that while, up to the longer one: an idle service sleeps.
_POLL_S: Final = 0.02
_POLL_IDLE_S: Final = 0.1
_IDLE_SHARE: Final = 0.05
# A wait is cut into pieces so that closing never takes much longer than this.
_PIECE_S: Final = 0.25


class Watch(Protocol):
    """Waits for changes. One thread waits, any thread closes."""

    def wait(self, timeout_s: float) -> bool:
        """Wait for a change since the last wait; returns whether there was one. May err on the side of ``True``."""

    def close(self) -> None:
        """End a wait under way and let go of everything. Safe to call twice."""


class SqliteWatch:
    """Looks at ``PRAGMA data_version``, which counts the commits of all other connections."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._closed = threading.Event()
        self._waiting = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._seen: int | None = None
        self._changed_at = time.monotonic()

    def wait(self, timeout_s: float) -> bool:
        """See :meth:`Watch.wait`."""
        deadline = time.monotonic() + timeout_s
        with self._waiting:
            while not self._closed.is_set():
                version = self._version()
                now = time.monotonic()
                if version != self._seen:
                    self._seen, self._changed_at = version, now
                    return True
                remaining = deadline - now
                if remaining <= 0:
                    break
                quiet_s = now - self._changed_at
                self._closed.wait(min(max(_POLL_S, quiet_s * _IDLE_SHARE), _POLL_IDLE_S, remaining))
        return False

    def _version(self) -> int | None:
        try:
            if self._connection is None:
                self._connection = sqlite3.connect(self._path, timeout=1.0, check_same_thread=False)
            version: int = self._connection.execute("PRAGMA data_version").fetchone()[0]
        except sqlite3.Error:
            # Whoever waits asks the store next and learns from it what is wrong.
            return self._seen
        return version

    def close(self) -> None:
        """See :meth:`Watch.close`."""
        self._closed.set()
        with self._waiting:
            if self._connection is not None:
                self._connection.close()
                self._connection = None


class PostgresWatch:
    """Listens for announced work. Progress is not announced: a notification at every commit would cost too much."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._closed = threading.Event()
        self._waiting = threading.Lock()
        self._connection: psycopg.Connection | None = None

    def wait(self, timeout_s: float) -> bool:
        """See :meth:`Watch.wait`."""
        import psycopg

        deadline = time.monotonic() + timeout_s
        with self._waiting:
            try:
                return self._listen(deadline)
            except psycopg.Error:
                self._drop()
        self._closed.wait(max(0.0, min(deadline - time.monotonic(), 1.0)))
        return False

    def _listen(self, deadline: float) -> bool:
        import psycopg

        while not self._closed.is_set() and (remaining := deadline - time.monotonic()) > 0:
            if self._connection is None:
                self._connection = psycopg.connect(self._conninfo, autocommit=True, connect_timeout=5)
                self._connection.execute(f"LISTEN {CHANNEL}".encode())
                # What was announced while nobody listened is gone, so have a look.
                return True
            if any(True for _ in self._connection.notifies(timeout=min(remaining, _PIECE_S), stop_after=1)):
                return True
        return False

    def _drop(self) -> None:
        import psycopg

        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
            self._connection = None

    def close(self) -> None:
        """See :meth:`Watch.close`."""
        self._closed.set()
        with self._waiting:
            self._drop()


def open_watch(database: Database) -> Watch:
    """Return a watch on a database."""
    if database.path is not None:
        return SqliteWatch(database.path)
    url = database.engine.url.set(drivername="postgresql")
    return PostgresWatch(url.render_as_string(hide_password=False))
