"""The tables as the statements of today see them. What is in a database file is made by the migrations alone."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ColumnElement,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    literal_column,
)

from steadyocr.jobs.models import ItemState

metadata: Final = MetaData()

job: Final = Table(
    "job",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("idempotency_key", Text),
    Column("request_hash", Text),
    Column("state", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("options", Text, nullable=False),
    Column("meta", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("deadline", Double),
    Column("total", Integer, nullable=False),
    Column("done", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("dead", Integer, nullable=False),
    Column("cancelled", Integer, nullable=False),
    Column("expired", Integer, nullable=False),
    Column("stored_bytes", BigInteger, nullable=False),
    Column("last_event", Integer, nullable=False),
    UniqueConstraint("tenant", "idempotency_key"),
    # The last defence: an item counted twice stops the transaction that would show it.
    CheckConstraint("done + failed + dead + cancelled + expired <= total"),
    Index("job_created", "created_at", "id"),
    Index("job_finished", "finished_at"),
)

item: Final = Table(
    "item",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=True),
    Column("job_id", Text, ForeignKey("job.id", ondelete="CASCADE"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("parent", Integer),
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("input_ref", Text),
    Column("size_bytes", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("rank", BigInteger, nullable=False),
    Column("run_at", Double, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("losses", Integer, nullable=False),
    Column("token", Text),
    Column("owner", Text),
    Column("lease_until", Double),
    Column("begun_at", Double),
    Column("started_at", Double),
    Column("finished_at", Double),
    Column("result", Text),
    Column("result_ref", Text),
    Column("overlay_ref", Text),
    Column("error", Text),
    UniqueConstraint("job_id", "position"),
)

event: Final = Table(
    "event",
    metadata,
    Column("job_id", Text, ForeignKey("job.id", ondelete="CASCADE"), primary_key=True),
    Column("id", Integer, primary_key=True),
    Column("at", Double, nullable=False),
    Column("kind", Text, nullable=False),
    Column("data", Text, nullable=False),
)

webhook: Final = Table(
    "webhook",
    metadata,
    Column("job_id", Text, ForeignKey("job.id", ondelete="CASCADE"), primary_key=True),
    Column("url", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("round", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("token", Text),
    Column("next_at", Double),
    Column("delivered_at", Double),
    Column("status", Integer),
    Column("problem", Text),
    # When `next_at` was written.
    Column("written_at", Double),
)

fact: Final = Table(
    "fact",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)


def is_state(state: ItemState) -> ColumnElement[bool]:
    """Compare an item's state with a constant written into the statement, which the partial indexes ask for."""
    return item.c.state == literal_column(f"'{state.value}'")


_due = job.c.deadline.is_not(None) & job.c.finished_at.is_(None)
Index("job_deadline", job.c.deadline, sqlite_where=_due, postgresql_where=_due)
_queued = is_state(ItemState.QUEUED)
_leased = is_state(ItemState.LEASED)
Index(
    "item_queued",
    item.c.priority.desc(),
    item.c.rank,
    item.c.id,
    item.c.run_at,
    sqlite_where=_queued,
    postgresql_where=_queued,
)
Index("item_leased", item.c.lease_until, sqlite_where=_leased, postgresql_where=_leased)
webhook_is_due: Final = webhook.c.state == literal_column("'due'")
Index("webhook_due", webhook.c.next_at, sqlite_where=webhook_is_due, postgresql_where=webhook_is_due)
for _name in ("input_ref", "result_ref", "overlay_ref"):
    _present = item.c[_name].is_not(None)
    Index(f"item_{_name}", item.c[_name], sqlite_where=_present, postgresql_where=_present)
