"""Jobs as ``steadyocr jobs`` handles them: those of this machine's store, or a server's, as the same plain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Protocol, Self

import typer
from rich.table import Table

from steadyocr.cli.remote import Remote
from steadyocr.cli.tables import print_table, uncut
from steadyocr.errors import InvalidOption
from steadyocr.jobs.models import ENDED, Item, ItemState, Job, JobState
from steadyocr.jobs.object_blobs import open_blobs
from steadyocr.jobs.sql_store import open_job_store
from steadyocr.jobs.sweep import sweep_orphans
from steadyocr.settings import Settings

_FAILED: Final = (ItemState.FAILED, ItemState.DEAD)
_SHOWN: Final = 100
_PAGE: Final = 100

Values = Mapping[str, Any]


class Desk(AbstractContextManager["Desk"], Protocol):
    """What is done with jobs. A job is the values that the HTTP routes give."""

    def newest(self, limit: int, state: str | None) -> list[Values]:
        """Return jobs, newest first."""

    def show(self, job_id: str) -> Values:
        """Return a job.

        Raises:
            JobNotFound: There is no such job.
        """

    def failures(self, job_id: str) -> list[Values]:
        """Return the first items that failed."""

    def cancel(self, job_id: str) -> Values:
        """Cancel a job."""

    def retry(self, job_id: str) -> Values:
        """Run failed items again."""

    def prune(self, older_than_s: float) -> int:
        """Delete jobs that ended longer ago than this; returns how many."""


class LocalDesk(Desk):
    """The store of this machine, or whichever one the settings name."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store = open_job_store(settings.jobs.database_url(settings.data_dir), settings.jobs.store_config())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._store.close()

    def newest(self, limit: int, state: str | None) -> list[Values]:
        """See :meth:`Desk.newest`."""
        if state is not None and state not in list(JobState):
            raise InvalidOption(f"unknown state; known: {', '.join(JobState)}")
        states = None if state is None else [JobState(state)]
        return [_job_values(job) for job in self._store.jobs(states=states, limit=limit)]

    def show(self, job_id: str) -> Values:
        """See :meth:`Desk.show`."""
        return _job_values(self._store.job(job_id))

    def failures(self, job_id: str) -> list[Values]:
        """See :meth:`Desk.failures`."""
        return [_item_values(item) for item in self._store.items(job_id, limit=_SHOWN, states=_FAILED)]

    def cancel(self, job_id: str) -> Values:
        """See :meth:`Desk.cancel`."""
        return _job_values(self._store.cancel(job_id))

    def retry(self, job_id: str) -> Values:
        """See :meth:`Desk.retry`."""
        return _job_values(self._store.retry(job_id))

    def prune(self, older_than_s: float) -> int:
        """See :meth:`Desk.prune`."""
        deleted = self._store.prune(older_than_s, by_hand=True)
        jobs, data_dir = self._settings.jobs, self._settings.data_dir
        blobs = open_blobs(jobs.blobs_url(data_dir), spool=data_dir / "jobs" / "spool", options=jobs.s3_options())
        sweep_orphans(self._store, blobs, jobs.retention_config().orphan_age_s)
        return deleted


class RemoteDesk(Desk):
    """A server's jobs."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Hold nothing, so let go of nothing."""

    def newest(self, limit: int, state: str | None) -> list[Values]:
        """See :meth:`Desk.newest`."""
        jobs: list[Values] = self._remote.json("GET", "/v1/jobs", limit=limit, state=state)["jobs"]
        return jobs

    def show(self, job_id: str) -> Values:
        """See :meth:`Desk.show`."""
        job: Values = self._remote.json("GET", f"/v1/jobs/{job_id}")
        return job

    def failures(self, job_id: str) -> list[Values]:
        """See :meth:`Desk.failures`."""
        found: list[Values] = []
        for state in _FAILED:
            found += self._remote.json("GET", f"/v1/jobs/{job_id}/items", state=state.value, limit=_SHOWN)["items"]
        return sorted(found, key=lambda item: int(item["position"]))[:_SHOWN]

    def cancel(self, job_id: str) -> Values:
        """See :meth:`Desk.cancel`."""
        job: Values = self._remote.json("POST", f"/v1/jobs/{job_id}/cancel")
        return job

    def retry(self, job_id: str) -> Values:
        """See :meth:`Desk.retry`."""
        job: Values = self._remote.json("POST", f"/v1/jobs/{job_id}/retry")
        return job

    def prune(self, older_than_s: float) -> int:
        """See :meth:`Desk.prune`."""
        now = datetime.now().astimezone().timestamp()
        old = [job["id"] for job in self._all() if job["finished_at"] and job["finished_at"] <= now - older_than_s]
        for job_id in old:
            self._remote.content("DELETE", f"/v1/jobs/{job_id}")
        return len(old)

    def _all(self) -> Iterable[Values]:
        before = None
        while True:
            page = self._remote.json("GET", "/v1/jobs", limit=_PAGE, before=before)
            yield from page["jobs"]
            before = page["next"]
            if before is None:
                return


def _job_values(job: Job) -> Values:
    counters = {state.value: getattr(job, state.value) for state in ENDED}
    names = ("id", "state", "priority", "total", "created_at", "started_at", "finished_at", "stored_bytes")
    return {name: getattr(job, name) for name in names} | counters


def _item_values(item: Item) -> Values:
    return {"position": item.position, "name": item.name, "state": item.state.value, "error": item.error}


def print_jobs(jobs: Iterable[Values]) -> None:
    """Print a table of jobs."""
    table = Table(uncut("job"), "state", "made", "items", "done", "failed", "dead", "waiting", box=None, pad_edge=False)
    for job in jobs:
        counts = [job[name] for name in ("total", "done", "failed", "dead")]
        waiting = job["total"] - sum(job[state.value] for state in ENDED)
        table.add_row(job["id"], job["state"], _when(job["created_at"]), *map(str, counts), str(waiting))
    print_table(table)


def print_job(job: Values, failures: Iterable[Values]) -> None:
    """Print how a job stands and what of it failed."""
    for name, value in job.items():
        shown = _when(value) if name.endswith("_at") else value
        if not isinstance(value, dict | list):
            typer.echo(f"{name:<14}{'' if shown is None else shown}")
    for item in failures:
        error = item["error"] or {}
        said = error.get("message") or error.get("detail") or ""
        typer.echo(f"{item['position']:>6}  {item['name']}: {said} [{error.get('code', item['state'])}]")


def _when(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")
