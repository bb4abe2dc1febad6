"""Rows to values and back."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import RowMapping

from steadyocr.jobs.models import Event, Item, ItemState, Job, JobState, Lease


def dump(value: object) -> str:
    """Write a JSON value. Every value counts: an empty result is a result.

    Raises:
        ValueError: It holds what JSON cannot, such as not-a-number.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        # Half a character (a lone surrogate) can be written down only as its number.
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text


def _load(text: str | None) -> Any:  # noqa: ANN401 - any JSON value
    return None if text is None else json.loads(text)


def to_job(row: RowMapping) -> Job:
    """Make a job of a row of the job table."""
    return Job(
        id=row["id"],
        tenant=row["tenant"],
        state=JobState(row["state"]),
        priority=row["priority"],
        options=_load(row["options"]),
        meta=_load(row["meta"]),
        created_at=row["created_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        deadline=row["deadline"],
        total=row["total"],
        done=row["done"],
        failed=row["failed"],
        dead=row["dead"],
        cancelled=row["cancelled"],
        expired=row["expired"],
        stored_bytes=row["stored_bytes"],
        last_event=row["last_event"],
    )


def to_item(row: RowMapping) -> Item:
    """Make an item of a row of the item table; a row read without its result has none."""
    return Item(
        id=row["id"],
        job_id=row["job_id"],
        position=row["position"],
        parent=row["parent"],
        kind=row["kind"],
        name=row["name"],
        input_ref=row["input_ref"],
        size_bytes=row["size_bytes"],
        state=ItemState(row["state"]),
        attempts=row["attempts"],
        losses=row["losses"],
        run_at=row["run_at"],
        owner=row["owner"],
        lease_until=row["lease_until"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        result=_load(row.get("result")),
        result_ref=row["result_ref"],
        overlay_ref=row["overlay_ref"],
        error=_load(row["error"]),
        lines=row.get("lines"),
    )


def to_lease(row: RowMapping, job: Job) -> Lease:
    """Make a lease of a leased row of the item table."""
    return Lease(
        item_id=row["id"],
        token=row["token"],
        job_id=row["job_id"],
        position=row["position"],
        kind=row["kind"],
        name=row["name"],
        input_ref=row["input_ref"],
        size_bytes=row["size_bytes"],
        options=job.options,
        attempts=row["attempts"],
        losses=row["losses"],
        deadline=job.deadline,
        lease_until=row["lease_until"],
    )


def to_event(row: RowMapping) -> Event:
    """Make an event of a row of the event table."""
    return Event(id=row["id"], at=row["at"], kind=row["kind"], data=_load(row["data"]))
