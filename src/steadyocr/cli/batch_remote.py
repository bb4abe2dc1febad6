"""A server that works batches off."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

from steadyocr.cli.batch_files import Source
from steadyocr.cli.batch_target import Answer, Standing, answer_of
from steadyocr.cli.remote import Form, Remote
from steadyocr.types import OcrOptions


class RemoteTarget:
    """A server, over its HTTP routes. It may be restarted meanwhile; the job goes on and so does this."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    async def submit(self, sources: Sequence[Source], options: OcrOptions, key: str) -> str:
        """See :meth:`Target.submit`."""
        given = {name: value for name, value in options.to_wire().items() if value is not None}
        headers = {"Idempotency-Key": key}
        job = await asyncio.to_thread(lambda: self._remote.upload("/v1/jobs", Form(sources), headers, **given))
        return str(job["id"])

    async def standing(self, job_id: str) -> Standing:
        """See :meth:`Target.standing`."""
        job = await asyncio.to_thread(lambda: self._remote.json("GET", f"/v1/jobs/{job_id}"))
        ended = sum(int(job[name]) for name in ("done", "failed", "dead", "cancelled", "expired"))
        return Standing(
            state=job["state"],
            finished=job["finished_at"] is not None,
            total=job["total"],
            ended=ended,
            done=job["done"],
            eta_s=job["eta_s"],
        )

    async def answers(self, job_id: str, after: int, limit: int) -> list[Answer]:
        """See :meth:`Target.answers`."""
        path = f"/v1/jobs/{job_id}/results"
        lines = await asyncio.to_thread(lambda: self._remote.content("GET", path, after=after, limit=limit))
        return [answer_of(json.loads(line)) for line in lines.splitlines() if line.strip()]

    async def overlay(self, job_id: str, answer: Answer) -> bytes:
        """See :meth:`Target.overlay`."""
        del job_id
        return await asyncio.to_thread(lambda: self._remote.content("GET", f"/{answer.overlay}"))
