"""The batch route of the original service: same path, same form, same answer, on top of durable jobs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from steadyocr.api.jobs_common import batches_of, problems, query
from steadyocr.api.jobs_routes import SUBMIT_DOCUMENTATION, take_job
from steadyocr.api.jobs_schemas import AcceptedOut
from steadyocr.api.ocr_routes import unless_disconnected
from steadyocr.errors import Cancelled, DeadlineExceeded, Draining, Unavailable
from steadyocr.jobs.models import Job
from steadyocr.jobs.result_lines import result_line
from steadyocr.jobs.store import JobStore
from steadyocr.options import parse_boolean
from steadyocr.service.batches import Batches

router = APIRouter(tags=["jobs"])

_LOOK_EVERY_S: Final = 1.0
_LINES_AT_ONCE: Final = 50
# The original's names of fields, and ours.
_RENAMED: Final = {"threshold": "bin_threshold"}


class _NotDoneYet(DeadlineExceeded):
    """A batch without an idempotency key takes too long. Sent again, it would be another batch."""

    retryable = False


class _DoneLater(Draining):
    """A batch without an idempotency key is done after the next start. Sent again, it would be another batch."""

    retryable = False


class _Fields:
    """Takes the original's fields apart: what a job is told, and whether to wait for it."""

    def __init__(self, query: Mapping[str, str]) -> None:
        self.wait = parse_boolean(query.get("wait", False), "wait")

    def __call__(self, given: dict[str, Any]) -> dict[str, Any]:
        fields = {_RENAMED.get(name, name): value for name, value in given.items()}
        self.wait = parse_boolean(fields.pop("wait", False), "wait")
        return fields


@router.post(
    "/batch",
    summary="Read many pictures, as the original service did",
    status_code=202,
    response_model=AcceptedOut,
    responses={
        200: {"description": "with wait=true: status and results, one for each picture in the order they were sent"},
        **problems(400, 408, 409, 413, 422, 504, 507),
    },
    openapi_extra={
        **SUBMIT_DOCUMENTATION,
        "parameters": [
            *SUBMIT_DOCUMENTATION["parameters"],
            query(
                "wait",
                "boolean",
                "answer when all pictures are read, in the original shape; may be a form field as well",
            ),
            query("threshold", "number", "the original name of bin_threshold; may be a form field as well"),
        ],
    },
)
async def batch(request: Request) -> Response:
    """Answer at once with the job's id, or wait for its end."""
    fields = _Fields(request.query_params)
    job = await take_job(request, fields)
    if not fields.wait:
        root = request.scope.get("root_path", "")
        address = f"{root}/v1/jobs/{job.id}"
        accepted = {
            "status": "accepted",
            "job_id": job.id,
            "total": job.total,
            "status_url": address,
            "results_url": f"{address}/results",
        }
        return JSONResponse(accepted, 202, {"Location": address})
    batches = batches_of(request)
    keyed = "idempotency-key" in request.headers
    try:
        ended = await unless_disconnected(request, _end_of(batches, job.id, keyed=keyed))
    except Cancelled:
        # Without a key nobody else knows of this job. With one, it is what the repeated request will ask for.
        if not keyed:
            await batches.cancel(job.id)
        raise
    return StreamingResponse(_answer(batches, ended), media_type="application/json")


async def _end_of(batches: Batches, job_id: str, *, keyed: bool) -> Job:
    """Wait until a job has ended.

    Raises:
        DeadlineExceeded: It takes longer than any request may; the job goes on.
        Draining: The service is stopping; the job goes on after its start.
    """
    try:
        async with asyncio.timeout(batches.settings.queue.max_timeout_s):
            while not batches.stopping.is_set():
                seen = batches.changes
                try:
                    job = await batches.call(JobStore.job, job_id)
                except Unavailable:
                    await asyncio.sleep(_LOOK_EVERY_S)
                    continue
                if job.finished_at is not None:
                    return job
                await batches.changed(seen, _LOOK_EVERY_S)
    except TimeoutError as error:
        late = DeadlineExceeded if keyed else _NotDoneYet
        raise late("the batch is not done yet; it goes on, ask for its job", job_id=job_id) from error
    later = Draining if keyed else _DoneLater
    raise later("the service is shutting down; the batch goes on later", retry_after_s=5.0, job_id=job_id)


async def _answer(batches: Batches, job: Job) -> AsyncIterator[bytes]:
    """Write the answer bit by bit: the results of a large batch should not stand in memory."""
    status = "success" if job.done == job.total else "partial"
    yield f'{{"status":"{status}","job_id":"{job.id}","results":['.encode()
    between, after = b"", -1
    while results := await _results(batches, job.id, after):
        for position, result in results:
            after = position
            if result is not None:
                yield between + json.dumps(result).encode()
                between = b","
    yield b"]}"


async def _results(batches: Batches, job_id: str, after: int) -> list[tuple[int, dict[str, Any] | None]]:
    items = await batches.call(JobStore.results, job_id, after=after, limit=_LINES_AT_ONCE)
    blobs = batches.blobs

    def load() -> list[tuple[int, dict[str, Any] | None]]:
        return [(item.position, _original(result_line(item, blobs))) for item in items]

    return await asyncio.to_thread(load)


def _original(line: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a result in the original shape; ``None`` for an archive that became pictures.

    ``boxes``, ``texts`` and ``scores`` always have the same length.
    """
    page = line["page"]
    if page is None and line["error"] is None and line["kind"] == "expand":
        return None
    lines = page["lines"] if page else []
    result = {
        "file": line["name"],
        "success": page is not None,
        "boxes": [[round(value) for point in entry["quad"] for value in point] for entry in lines],
        "texts": [[entry["text"]] for entry in lines],
        "scores": [round(entry["score"], 4) for entry in lines],
        "inference_time": round(sum(page.get("timings_ms", {}).values()) / 1000, 3) if page else 0.0,
    }
    return result if page else {**result, "error": line["error"] or {"code": line["state"]}}
