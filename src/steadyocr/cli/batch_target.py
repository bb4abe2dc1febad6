"""Who works a batch off: this process over the job store of this machine, or a server, all the same to the command."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from steadyocr.cli.batch_files import Source
from steadyocr.jobs.result_lines import result_line
from steadyocr.jobs.store import JobStore
from steadyocr.service import Service
from steadyocr.service.intake import JobRequest
from steadyocr.types import OcrOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How far a job is.

    Attributes:
        eta_s: Seconds until it has ended; ``None`` when that is not known.
    """

    state: str
    finished: bool
    total: int
    ended: int
    done: int
    eta_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of one item.

    Attributes:
        kind: ``expand`` for an archive, whose pictures have answers of their own.
        page: What was read; ``None`` unless it is done.
        error: Why it was not, as code and message.
        overlay: Where its overlay picture is, in the target's own terms.
    """

    position: int
    name: str
    state: str
    kind: str
    page: Mapping[str, Any] | None
    error: tuple[str, str] | None
    overlay: str | None


class Target(Protocol):
    """Takes jobs and gives answers."""

    async def submit(self, sources: Sequence[Source], options: OcrOptions, key: str) -> str:
        """Make a job of these files, or find the one that was made of them before; returns its id.

        Raises:
            SteadyOCRError: It is refused.
        """

    async def standing(self, job_id: str) -> Standing:
        """Return how far a job is.

        Raises:
            JobNotFound: There is no such job.
        """

    async def answers(self, job_id: str, after: int, limit: int) -> list[Answer]:
        """Return what has ended, by position, up to the first unfinished item."""

    async def overlay(self, job_id: str, answer: Answer) -> bytes:
        """Return an answer's overlay picture."""


class LocalTarget:
    """This process, with engines of its own, over the store that a server of this data folder uses too."""

    def __init__(self, service: Service) -> None:
        self._batches = service.batches

    async def submit(self, sources: Sequence[Source], options: OcrOptions, key: str) -> str:
        """See :meth:`Target.submit`."""
        async with self._batches.intake() as intake:
            for source in sources:
                await intake.add_path(source.path, source.name)
            job = await intake.submit(JobRequest(options=options, idempotency_key=key))
        return job.id

    async def standing(self, job_id: str) -> Standing:
        """See :meth:`Target.standing`."""
        progress = await self._batches.call(JobStore.progress, job_id)
        job = progress.job
        return Standing(
            state=job.state.value,
            finished=job.finished_at is not None,
            total=job.total,
            ended=job.ended,
            done=job.done,
            eta_s=self._batches.outlook(progress).eta_s,
        )

    async def answers(self, job_id: str, after: int, limit: int) -> list[Answer]:
        """See :meth:`Target.answers`."""
        items = await self._batches.call(JobStore.results, job_id, after=after, limit=limit)
        blobs = self._batches.blobs
        return [answer_of(await asyncio.to_thread(result_line, item, blobs)) for item in items]

    async def overlay(self, job_id: str, answer: Answer) -> bytes:
        """See :meth:`Target.overlay`."""
        (item,) = await self._batches.call(JobStore.items, job_id, after=answer.position - 1, limit=1)
        return await asyncio.to_thread(self._load, item.overlay_ref or "")

    def _load(self, key: str) -> bytes:
        with self._batches.blobs.open(key) as stream:
            return stream.read()


def answer_of(line: Mapping[str, Any]) -> Answer:
    """Return what a line of a job's results says."""
    error = line["error"]
    return Answer(
        position=line["position"],
        name=line["name"],
        state=line["state"],
        kind=line["kind"],
        page=line["page"],
        error=None if error is None else (str(error["code"]), str(error["message"])),
        overlay=line["overlay"],
    )
