"""Webhooks in the database: they become due in the very transaction that ends their job, and stay so until told."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, RowMapping, func, insert, not_, or_, select, update

from steadyocr.jobs.database import Tx
from steadyocr.jobs.models import Job
from steadyocr.jobs.records import to_job
from steadyocr.jobs.schema import job, webhook, webhook_is_due
from steadyocr.jobs.webhook_models import Delivery, DeliveryOutcome, Webhook, WebhookState

# A transaction has the time at which it began, and may see what a later one wrote; none stands still for longer.
WRITTEN_AHEAD_S: Final = 15.0
_AFRESH: Final = {"attempts": 0, "token": None, "status": None, "problem": None, "delivered_at": None}


def add(tx: Tx, created: Job, url: str) -> None:
    """Note whom to tell about a new job. One that enters with nothing left to do has ended already."""
    ended = created.finished_at is not None
    state = WebhookState.DUE if ended else WebhookState.WAITING
    values = {"job_id": created.id, "url": url, "state": state.value, "round": int(ended)}
    times = {"next_at": tx.now if ended else None, "written_at": tx.now}
    tx.connection.execute(insert(webhook).values(values | _AFRESH | times))


def note_change(tx: Tx, before: Job, after: Job) -> None:
    """Make a job's webhook due when the job has ended, and let it wait again when the job was opened again."""
    was_open, is_open = before.finished_at is None, after.finished_at is None
    if was_open == is_open:
        return
    values: dict[str, Any] = {"state": WebhookState.WAITING.value, "next_at": None}
    if not is_open:
        values = {"state": WebhookState.DUE.value, "next_at": tx.now, "round": webhook.c.round + 1}
    tx.connection.execute(
        update(webhook).where(webhook.c.job_id == after.id).values(values | _AFRESH | {"written_at": tx.now})
    )


def claim(tx: Tx, token: str, limit: int, lease_s: float, except_to: Collection[str] = ()) -> list[Delivery]:
    """Take the deliveries that are due, at most `limit`; each comes up again after the lease unless it is settled.

    Those to the receivers `except_to` stay (see :func:`~steadyocr.jobs.webhook_models.receiver_of`).
    """
    rows = _held_under(tx, token) if tx.repeated else []
    rows = rows or _take(tx, token, limit, lease_s, except_to)
    if not rows:
        return []
    found = tx.connection.execute(select(job).where(job.c.id.in_([row["job_id"] for row in rows]))).mappings()
    jobs = {row["id"]: to_job(row) for row in found}
    return [_to_delivery(row, jobs[row["job_id"]]) for row in rows if row["job_id"] in jobs]


def _held_under(tx: Tx, token: str) -> Sequence[RowMapping]:
    return tx.connection.execute(select(webhook).where(webhook_is_due, webhook.c.token == token)).mappings().all()


def _take(tx: Tx, token: str, limit: int, lease_s: float, except_to: Collection[str]) -> Sequence[RowMapping]:
    next_ones = (
        select(webhook.c.job_id)
        .where(webhook_is_due, _has_come(tx), *(not_(_goes_to(receiver)) for receiver in except_to))
        .order_by(webhook.c.next_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("next_ones")
    )
    taken = (
        update(webhook)
        .where(webhook.c.job_id.in_(select(next_ones.c.job_id)))
        .values(token=token, attempts=webhook.c.attempts + 1, next_at=tx.now + lease_s, written_at=tx.now)
        .returning(webhook)
    )
    return tx.connection.execute(taken).mappings().all()


def _has_come(tx: Tx) -> ColumnElement[bool]:
    """Whether the time for a try has come, or was written down in the future.

    The clock was set back since, and waiting would last for as long as it went back. The receiver may be told twice.
    """
    return or_(webhook.c.next_at <= tx.now, webhook.c.written_at > tx.now + WRITTEN_AHEAD_S)


def _goes_to(receiver: str) -> ColumnElement[bool]:
    """Whether :func:`receiver_of` a URL is this one. From the URL as it is stored, so it holds for old rows too."""
    ends = [""] if receiver.endswith("]") else ["", "."]
    return or_(*(_is_at(f"{scheme}://{receiver}{end}") for scheme in ("http", "https") for end in ends))


def _is_at(beginning: str) -> ColumnElement[bool]:
    # Not by LIKE: what is a pattern there may stand in a URL.
    url = func.lower(webhook.c.url)
    following = func.substr(url, len(beginning) + 1, 1)
    return (func.substr(url, 1, len(beginning)) == beginning) & following.in_(("", ":", "/", "?", "#"))


def _to_delivery(row: RowMapping, ended: Job) -> Delivery:
    return Delivery(
        id=f"{ended.id}-{row['round']}", job=ended, url=row["url"], token=row["token"], attempts=row["attempts"]
    )


def settle(tx: Tx, delivery: Delivery, outcome: DeliveryOutcome) -> bool:
    """Write down how a try went; returns whether it was still this one's to say."""
    again = outcome.retry_in_s is not None and not outcome.delivered
    values: dict[str, Any] = {"status": outcome.status, "problem": outcome.problem, "written_at": tx.now}
    if again:
        values["next_at"] = tx.now + (outcome.retry_in_s or 0.0)
    else:
        state = WebhookState.DELIVERED if outcome.delivered else WebhookState.FAILED
        values |= {"state": state.value, "next_at": None, "delivered_at": tx.now if outcome.delivered else None}
    mine = (webhook.c.job_id == delivery.job.id) & (webhook.c.token == delivery.token)
    return tx.connection.execute(update(webhook).where(mine, webhook_is_due).values(values)).rowcount == 1


def get(tx: Tx, job_id: str) -> Webhook | None:
    """Return a job's webhook; ``None`` when it has none."""
    row = tx.connection.execute(select(webhook).where(webhook.c.job_id == job_id)).mappings().one_or_none()
    if row is None:
        return None
    return Webhook(
        job_id=row["job_id"],
        url=row["url"],
        state=WebhookState(row["state"]),
        round=row["round"],
        attempts=row["attempts"],
        next_at=row["next_at"],
        delivered_at=row["delivered_at"],
        status=row["status"],
        problem=row["problem"],
    )
