"""Numbered, forward-only changes of the database. A migration that has been released is never edited.

All that are missing are applied in one transaction, by one process at a time; a database from a newer version is
refused. The statements are written out, so that a change of :mod:`steadyocr.jobs.schema` cannot change the past; a
test compares the outcome with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, inspect, text

from steadyocr.errors import ConfigError

# Any constant will do, as long as nothing else in the same database takes it.
_ADVISORY_LOCK: Final = 0x57EAD0C7


@dataclass(frozen=True, slots=True)
class Migration:
    """One step.

    Attributes:
        version: Counts from 1 without gaps.
        statements: In order. ``{auto_id}`` stands for the column type of a number that the database gives.
    """

    version: int
    name: str
    statements: tuple[str, ...]


_FIRST: Final = Migration(
    1,
    "first",
    (
        """CREATE TABLE job (
            id TEXT NOT NULL PRIMARY KEY,
            tenant TEXT NOT NULL,
            idempotency_key TEXT,
            request_hash TEXT,
            state TEXT NOT NULL,
            priority INTEGER NOT NULL,
            options TEXT NOT NULL,
            meta TEXT NOT NULL,
            created_at DOUBLE PRECISION NOT NULL,
            started_at DOUBLE PRECISION,
            finished_at DOUBLE PRECISION,
            deadline DOUBLE PRECISION,
            total INTEGER NOT NULL,
            done INTEGER NOT NULL,
            failed INTEGER NOT NULL,
            dead INTEGER NOT NULL,
            cancelled INTEGER NOT NULL,
            expired INTEGER NOT NULL,
            stored_bytes BIGINT NOT NULL,
            last_event INTEGER NOT NULL,
            UNIQUE (tenant, idempotency_key),
            CHECK (done + failed + dead + cancelled + expired <= total)
        )""",
        "CREATE INDEX job_created ON job (created_at, id)",
        "CREATE INDEX job_finished ON job (finished_at)",
        "CREATE INDEX job_deadline ON job (deadline) WHERE deadline IS NOT NULL AND finished_at IS NULL",
        """CREATE TABLE item (
            id {auto_id},
            job_id TEXT NOT NULL REFERENCES job (id) ON DELETE CASCADE,
            position INTEGER NOT NULL,
            parent INTEGER,
            kind TEXT NOT NULL,
            name TEXT NOT NULL,
            input_ref TEXT,
            size_bytes BIGINT NOT NULL,
            state TEXT NOT NULL,
            priority INTEGER NOT NULL,
            rank BIGINT NOT NULL,
            run_at DOUBLE PRECISION NOT NULL,
            attempts INTEGER NOT NULL,
            losses INTEGER NOT NULL,
            token TEXT,
            owner TEXT,
            lease_until DOUBLE PRECISION,
            begun_at DOUBLE PRECISION,
            started_at DOUBLE PRECISION,
            finished_at DOUBLE PRECISION,
            result TEXT,
            result_ref TEXT,
            overlay_ref TEXT,
            error TEXT,
            UNIQUE (job_id, position)
        )""",
        "CREATE INDEX item_queued ON item (priority DESC, rank, id, run_at) WHERE state = 'queued'",
        "CREATE INDEX item_leased ON item (lease_until) WHERE state = 'leased'",
        "CREATE INDEX item_input_ref ON item (input_ref) WHERE input_ref IS NOT NULL",
        "CREATE INDEX item_result_ref ON item (result_ref) WHERE result_ref IS NOT NULL",
        "CREATE INDEX item_overlay_ref ON item (overlay_ref) WHERE overlay_ref IS NOT NULL",
        """CREATE TABLE event (
            job_id TEXT NOT NULL REFERENCES job (id) ON DELETE CASCADE,
            id INTEGER NOT NULL,
            at DOUBLE PRECISION NOT NULL,
            kind TEXT NOT NULL,
            data TEXT NOT NULL,
            PRIMARY KEY (job_id, id)
        )""",
        "CREATE TABLE fact (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL)",
    ),
)

_WEBHOOKS: Final = Migration(
    2,
    "webhooks",
    (
        """CREATE TABLE webhook (
            job_id TEXT NOT NULL PRIMARY KEY REFERENCES job (id) ON DELETE CASCADE,
            url TEXT NOT NULL,
            state TEXT NOT NULL,
            round INTEGER NOT NULL,
            attempts INTEGER NOT NULL,
            token TEXT,
            next_at DOUBLE PRECISION,
            delivered_at DOUBLE PRECISION,
            status INTEGER,
            problem TEXT
        )""",
        "CREATE INDEX webhook_due ON webhook (next_at) WHERE state = 'due'",
    ),
)

_WRITTEN_AT: Final = Migration(3, "webhook written_at", ("ALTER TABLE webhook ADD COLUMN written_at DOUBLE PRECISION",))

MIGRATIONS: Final[tuple[Migration, ...]] = (_FIRST, _WEBHOOKS, _WRITTEN_AT)


def migrate(connection: Connection, migrations: Sequence[Migration] = MIGRATIONS) -> int:
    """Bring a database up to date within the running write transaction; returns the version it has then.

    Raises:
        ConfigError: The database was written by a newer version.
    """
    postgres = connection.dialect.name == "postgresql"
    if postgres:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
    current = _version(connection)
    newest = migrations[-1].version
    if current > newest:
        raise ConfigError(
            f"the job database has schema version {current}, this program knows {newest}; run the newer version"
        )
    auto_id = "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY" if postgres else "INTEGER NOT NULL PRIMARY KEY"
    for step in migrations:
        if step.version <= current:
            continue
        for statement in step.statements:
            connection.exec_driver_sql(statement.replace("{auto_id}", auto_id))
        connection.execute(
            text("INSERT INTO schema_version (version, name) VALUES (:version, :name)"),
            {"version": step.version, "name": step.name},
        )
    return newest


def _version(connection: Connection) -> int:
    if not inspect(connection).has_table("schema_version"):
        connection.exec_driver_sql(
            "CREATE TABLE schema_version (version INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL)"
        )
    return int(connection.execute(text("SELECT coalesce(max(version), 0) FROM schema_version")).scalar_one())
