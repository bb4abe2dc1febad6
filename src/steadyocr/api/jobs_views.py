"""Jobs and items as clients see them."""

from __future__ import annotations

from typing import Any

from steadyocr.jobs.eta import Outlook
from steadyocr.jobs.models import ENDED, Item, Job
from steadyocr.jobs.result_lines import error_view


def job_view(job: Job, *, running: int | None = None, outlook: Outlook | None = None) -> dict[str, Any]:
    """Return a job as plain values; without an outlook, as in a list, nobody knows its place in the queue."""
    return {
        "id": job.id,
        "state": job.state.value,
        "priority": job.priority,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "deadline": job.deadline,
        "total": job.total,
        **{state.value: getattr(job, state.value) for state in ENDED},
        "running": running,
        "position": outlook.position if outlook else None,
        "eta_s": outlook.eta_s if outlook else None,
        "options": dict(job.options),
        "meta": dict(job.meta),
        "stored_bytes": job.stored_bytes,
    }


def item_view(item: Item) -> dict[str, Any]:
    """Return an item without its result as plain values."""
    overlay = f"v1/jobs/{item.job_id}/items/{item.position}/overlay.png" if item.overlay_ref else None
    return {
        "position": item.position,
        "parent": item.parent,
        "name": item.name,
        "kind": item.kind,
        "state": item.state.value,
        "size_bytes": item.size_bytes,
        "attempts": item.attempts,
        "started_at": item.started_at,
        "finished_at": item.finished_at,
        "lines": item.lines,
        "error": error_view(item.error),
        "overlay": overlay,
    }
