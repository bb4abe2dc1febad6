"""The database under the store: how it is opened, how a transaction runs, and what is tried again."""

from __future__ import annotations

import functools
import logging
import math
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, func, make_url, select, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from steadyocr.errors import ConfigError
from steadyocr.jobs.clock import Clock, Leap, LeapWatch, boottime, machine_clock
from steadyocr.jobs.config import StoreConfig
from steadyocr.jobs.db_errors import understand, without_values
from steadyocr.jobs.filesystems import refuse_network_file_system
from steadyocr.jobs.migrations import MIGRATIONS, Migration, migrate

_log = logging.getLogger("steadyocr.jobs")

T = TypeVar("T")

CHANNEL: Final = "steadyocr_jobs"
_BUSY_TIMEOUT_S: Final = 30.0
# Pauses between the tries of one transaction, in seconds; longer outages are the caller's to wait out.
_PAUSES_S: Final = (0.02, 0.1, 0.4)
_WRITE: Final = "steadyocr_write"


@dataclass(frozen=True, slots=True)
class Tx:
    """A running transaction.

    Attributes:
        now: Its time, by the store's clock.
        repeated: It ran before and nobody knows whether that commit went through.
        steady_s: For how long the store's clock has not been set, as far as this process knows.
        leaps: When it was set ahead, likewise.
    """

    connection: Connection
    now: float
    config: StoreConfig
    repeated: bool
    steady_s: float = math.inf
    leaps: tuple[Leap, ...] = ()

    @property
    def postgres(self) -> bool:
        """Whether it runs on PostgreSQL."""
        return self.connection.dialect.name == "postgresql"

    def announce_work(self) -> None:
        """Wake whoever waits for items, on commit. SQLite's watchers see every commit anyway."""
        if self.postgres:
            self.connection.execute(text(f"NOTIFY {CHANNEL}"))


class Database:
    """An open, migrated database. Usable from several threads."""

    def __init__(
        self,
        engine: Engine,
        config: StoreConfig,
        clock: Clock | None,
        sleep: Callable[[float], object] | None = None,
        steady: Clock | None = None,
    ) -> None:
        self.engine = engine
        self.config = config
        self._clock = clock
        self._closing = threading.Event()
        self._sleep = sleep or self._closing.wait
        self._leaps = LeapWatch(steady)
        self._writer = engine.execution_options(**{_WRITE: True})

    @property
    def path(self) -> Path | None:
        """The file, when it is one."""
        return Path(self.engine.url.database or "") if self.engine.dialect.name == "sqlite" else None

    def read(self, work: Callable[[Tx], T]) -> T:
        """Run a transaction that changes nothing."""
        return self._run(self.engine, work)

    def write(self, work: Callable[[Tx], T]) -> T:
        """Run a transaction that changes something; on SQLite it has the write lock from its start.

        Args:
            work: May run several times, each time in a new transaction. When a commit's answer was lost it runs
                again after a success, so it must recognise its own deeds; :attr:`Tx.repeated` says when to look.

        Raises:
            Unavailable: The database cannot be reached, or not now.
            InsufficientStorage: Its disk is full. Nothing was changed.
            InternalError: It refused a statement. This is never tried again.
        """
        return self._run(self._writer, work)

    def stop_retrying(self) -> None:
        """Give up at the first failure from now on: who closes a silent database need not wait for every try."""
        self._closing.set()

    def close(self) -> None:
        """Close all connections. Safe to call twice."""
        self.stop_retrying()
        self.engine.dispose()

    def _run(self, engine: Engine, work: Callable[[Tx], T]) -> T:
        for tries, pause in enumerate((*_PAUSES_S, None)):
            try:
                with engine.begin() as connection:
                    seen = self._leaps.look(functools.partial(self._now, connection))
                    return work(Tx(connection, seen.now, self.config, tries > 0, seen.steady_s, seen.leaps))
            except SQLAlchemyError as error:
                without_values(error)
                fault = understand(error)
                if fault.elsewhere:
                    self.engine.dispose()
                if not (fault.transient and self._wait_to_retry(pause)):
                    _log.warning(
                        "The job store failed", extra={"code": fault.error.code, "tries": tries + 1}, exc_info=error
                    )
                    raise fault.error from error
        raise AssertionError("the last try returns or raises")

    def _wait_to_retry(self, pause_s: float | None) -> bool:
        """Wait before another try; returns whether there shall be one."""
        if pause_s is None or self._closing.is_set():
            return False
        self._sleep(pause_s)
        return not self._closing.is_set()

    def _now(self, connection: Connection) -> float:
        if self._clock is not None:
            return self._clock()
        return float(connection.execute(select(func.extract("epoch", func.clock_timestamp()))).scalar_one())


def open_database(
    url: str,
    config: StoreConfig | None = None,
    *,
    clock: Clock | None = None,
    migrations: Sequence[Migration] = MIGRATIONS,
    sleep: Callable[[float], object] | None = None,
    steady: Clock | None = None,
) -> Database:
    """Open a job database, make it if it is new, and bring it up to date.

    Args:
        url: ``sqlite:////path/to/jobs.db`` or ``postgresql://user@host/name``.
        config: How patient the store is.
        clock: For tests. By default the server's on PostgreSQL, the machine's on SQLite.
        migrations: For tests.
        sleep: For tests.
        steady: For tests: what tells that the clock was set. By default the machine's time since its start, where
            the clock is a server's.

    Raises:
        ConfigError: The URL, the file system or the schema version cannot be used.
        Unavailable: The server does not answer.
    """
    config = config or StoreConfig()
    parsed = _parse(url)
    engine = _sqlite_engine(parsed) if parsed.get_backend_name() == "sqlite" else _postgres_engine(parsed)
    database = Database(engine, config, clock or time.time, sleep)
    try:
        database.write(lambda tx: migrate(tx.connection, migrations))
        if clock is None and engine.dialect.name == "sqlite":
            clock = database.write(lambda tx: machine_clock(tx.connection))
        elif clock is None:
            steady = steady or boottime
    except BaseException:
        engine.dispose()
        raise
    return Database(engine, config, clock, sleep, steady)


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except ArgumentError as error:
        raise ConfigError("jobs.url is not a database URL; write sqlite:////path or postgresql://host/name") from error
    if backend not in ("sqlite", "postgresql"):
        raise ConfigError(f"jobs.url names {backend!r}; only sqlite and postgresql are supported")
    if backend == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise ConfigError("jobs.url must name a file: sqlite:////path/to/jobs.db")
    return parsed.set(drivername="sqlite" if backend == "sqlite" else "postgresql+psycopg")


def _sqlite_engine(url: URL) -> Engine:
    folder = Path(url.database or "").absolute().parent
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    refuse_network_file_system(folder)
    engine = create_engine(url, connect_args={"timeout": _BUSY_TIMEOUT_S}, hide_parameters=True)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: ConnectionPoolEntry) -> None:
    # Transactions are begun by _begin_sqlite, not by the driver's guess.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes later could fail half-way through; this one waits at its start.
    immediate = connection.get_execution_options().get(_WRITE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _postgres_engine(url: URL) -> Engine:
    # A node cut from its server must notice within seconds, not after the kernel's quarter of an hour; and a cut in
    # the middle of a transaction must not leave its locks with the server, where all other nodes wait for them.
    patience: dict[str, Any] = {
        "connect_timeout": 5,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 15_000,
        "options": "-c lock_timeout=10s -c statement_timeout=60s -c idle_in_transaction_session_timeout=10s",
    }
    try:
        return create_engine(
            url,
            connect_args={**patience, **url.query},
            pool_size=4,
            max_overflow=4,
            pool_timeout=10,
            hide_parameters=True,
        )
    except ImportError as error:
        raise ConfigError("PostgreSQL needs a driver: pip install 'steadyocr[postgres]'") from error
