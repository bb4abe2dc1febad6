"""The routes that send much, or for long: events, results, archives, pictures of a job."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, BinaryIO, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from steadyocr.api.jobs_common import MAX_POSITION, batches_of, own_job, problems, query, whole_number
from steadyocr.api.schemas import PageOut
from steadyocr.errors import (
    ConflictError,
    InvalidOption,
    NotFoundError,
    QueueFull,
    Unavailable,
)
from steadyocr.imaging.header import format_of
from steadyocr.jobs.archive_output import ArchiveWriter
from steadyocr.jobs.models import Event, Item
from steadyocr.jobs.result_lines import load_page, result_line
from steadyocr.jobs.store import JobStore
from steadyocr.options import parse_boolean
from steadyocr.service.batches import Batches

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

_HEARTBEAT_S: Final = 15.0
# PostgreSQL does not announce progress, so listeners look themselves; not more often than this, however much happens.
_LOOK_EVERY_S: Final = 1.0
_MIN_PAUSE_S: Final = 0.2
_EVENTS_AT_ONCE: Final = 100
_LINES_AT_ONCE: Final = 50
_CHUNK_BYTES: Final = 256 << 10
_HEAD_BYTES: Final = 64
# What a client sent goes back as a picture or as nothing that a browser would run.
_SAFE: Final = {"Content-Security-Policy": "default-src 'none'; sandbox", "X-Content-Type-Options": "nosniff"}
_ANY_FILE: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}


@router.get(
    "/{job_id}/events",
    summary="What happens to a job, as server-sent events",
    responses={
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
        204: {"description": "it has ended, and all events have been sent; do not connect again"},
        **problems(404, 422),
    },
    openapi_extra={
        "parameters": [
            {
                "name": "Last-Event-ID",
                "in": "header",
                "description": "number of the last event that was seen; the stream goes on after it",
                "schema": {"type": "integer"},
            }
        ]
    },
)
async def events(request: Request, job_id: str) -> Response:
    """Send each change until the job has ended. Very old events of a long job are dropped, so numbers may skip."""
    text = request.headers.get("last-event-id", "0")
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise InvalidOption("Last-Event-ID must be the number of an event", option="Last-Event-ID")
    batches, after = batches_of(request), int(text)
    job = await own_job(request, job_id)
    if job.finished_at is not None and after >= job.last_event:
        return Response(status_code=204)
    # A number that no event has yet would hide the end from whoever sent it, and keep their place for ever.
    after = min(after, job.last_event)
    if batches.listeners >= batches.settings.jobs.max_listeners:
        raise QueueFull("too many event streams are open; ask for the job's state instead", retry_after_s=10.0)
    stream = _events(batches, job_id, after)
    return StreamingResponse(stream, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _events(batches: Batches, job_id: str, after: int) -> AsyncIterator[str]:
    batches.listeners += 1
    try:
        loop = asyncio.get_running_loop()
        yield "retry: 2000\n\n"
        sent_at, finished = loop.time(), False
        while not batches.stopping.is_set():
            seen = batches.changes
            found = await _look(batches, job_id, after)
            if found is None or (finished and not found):
                return
            for event in found:
                yield _as_text(event)
            if found:
                after, finished, sent_at = found[-1].id, bool(found[-1].data["finished"]), loop.time()
                if len(found) == _EVENTS_AT_ONCE or finished:
                    continue
            if loop.time() - sent_at >= _HEARTBEAT_S:
                sent_at = loop.time()
                yield ": still here\n\n"
            await asyncio.sleep(_MIN_PAUSE_S)
            await batches.changed(seen, _LOOK_EVERY_S)
    finally:
        batches.listeners -= 1


async def _look(batches: Batches, job_id: str, after: int) -> list[Event] | None:
    """Return new events; none while the store is away, ``None`` when the job is gone."""
    try:
        return await batches.call(JobStore.events, job_id, after=after, limit=_EVENTS_AT_ONCE)
    except NotFoundError:
        return None
    except Unavailable:
        return []


def _as_text(event: Event) -> str:
    data = json.dumps({"at": event.at, **event.data}, separators=(",", ":"))
    return f"id: {event.id}\nevent: {event.kind}\ndata: {data}\n\n"


@router.get(
    "/{job_id}/results",
    summary="What has been read, as JSON lines",
    responses={
        200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}},
        **problems(404, 422),
    },
    openapi_extra={
        "parameters": [
            query("after", "integer", "position of the last line that was seen"),
            query("limit", "integer", "lines at most; all there are by default"),
        ]
    },
)
async def results(request: Request, job_id: str) -> Response:
    """Send what has ended, in order, up to the first unfinished item; ask again with the last position for more."""
    after = whole_number(request, "after", -1, -1, MAX_POSITION)
    limit = whole_number(request, "limit", MAX_POSITION, 1, MAX_POSITION)
    await own_job(request, job_id)
    batches = batches_of(request)
    # Before the answer begins: after that, an error can only cut it off.
    first = await _lines(batches, job_id, after, min(limit, _LINES_AT_ONCE))
    return StreamingResponse(_results(batches, job_id, first, limit), media_type="application/x-ndjson")


async def _results(batches: Batches, job_id: str, lines: list[dict[str, Any]], limit: int) -> AsyncIterator[bytes]:
    while lines:
        yield await asyncio.to_thread(_dump_lines, lines)
        limit -= len(lines)
        if not limit:
            return
        lines = await _lines(batches, job_id, lines[-1]["position"], min(limit, _LINES_AT_ONCE))


def _dump_lines(lines: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(line, ensure_ascii=False).encode(errors="backslashreplace") + b"\n" for line in lines)


async def _lines(batches: Batches, job_id: str, after: int, limit: int) -> list[dict[str, Any]]:
    items = await batches.call(JobStore.results, job_id, after=after, limit=limit)
    blobs = batches.blobs
    return await asyncio.to_thread(lambda: [result_line(item, blobs) for item in items])


@router.get(
    "/{job_id}/archive.zip",
    summary="All results of a job as one archive",
    responses={200: {"content": {"application/zip": _ANY_FILE}}, **problems(404, 409, 422)},
    openapi_extra={"parameters": [query("overlays", "boolean", "put the overlay pictures in as well")]},
)
async def archive(request: Request, job_id: str) -> Response:
    """Send results.jsonl, lines.csv and a text file for each picture; up to the first unfinished item."""
    overlays = parse_boolean(request.query_params.get("overlays", False), "overlays")
    job = await own_job(request, job_id)
    if overlays and not job.options.get("overlay"):
        raise ConflictError("this job was made without overlay pictures; make it with overlay=true")
    batches = batches_of(request)
    writer = ArchiveWriter(
        batches.jobs.store, batches.blobs, job, overlays=overlays, keep_on=lambda: not batches.stopping.is_set()
    )
    headers = {"Content-Disposition": f'attachment; filename="job-{job.id[:12]}.zip"'}
    return StreamingResponse(writer.chunks(), media_type="application/zip", headers=headers)


@router.get(
    "/{job_id}/items/{position}/result",
    summary="What was read of one item",
    response_model=PageOut,
    responses=problems(404, 409),
)
async def item_result(request: Request, job_id: str, position: str) -> Response:
    """Send the page, as /v1/ocr would have."""
    item, batches = await _own_item(request, job_id, position), batches_of(request)
    page = await asyncio.to_thread(load_page, item, batches.blobs)
    if page is None:
        raise ConflictError(f"there is no result; the item is {item.state.value}", state=item.state.value)
    return JSONResponse({**page, "request_id": f"job-{job_id}-{position}"})


@router.get(
    "/{job_id}/items/{position}/image",
    summary="The picture of one item, as it was sent",
    responses={200: {"content": {"image/*": _ANY_FILE}}, **problems(404)},
)
async def item_image(request: Request, job_id: str, position: str) -> Response:
    """Send the picture back."""
    item = await _own_item(request, job_id, position)
    if item.input_ref is None:
        raise NotFoundError("this item was refused when it came; nothing was kept of it")
    return await _file(batches_of(request), item.input_ref, media_type=None)


@router.get(
    "/{job_id}/items/{position}/overlay.png",
    summary="The picture of one item with its lines drawn in",
    responses={200: {"content": {"image/png": _ANY_FILE}}, **problems(404)},
)
async def item_overlay(request: Request, job_id: str, position: str) -> Response:
    """Send the overlay picture of a job that was made with overlay=true."""
    item = await _own_item(request, job_id, position)
    if item.overlay_ref is None:
        raise NotFoundError("there is no overlay picture; jobs made with overlay=true have them once they are read")
    return await _file(batches_of(request), item.overlay_ref, media_type="image/png")


async def _own_item(request: Request, job_id: str, position: str) -> Item:
    if not (position.isascii() and position.isdigit() and len(position) < 10):
        raise NotFoundError("the job has no item at this position")
    await own_job(request, job_id)
    return await batches_of(request).call(JobStore.item, job_id, int(position))


async def _file(batches: Batches, key: str, media_type: str | None) -> Response:
    stream = await asyncio.to_thread(batches.blobs.open, key)
    try:
        kind = media_type or await asyncio.to_thread(_picture_type, stream)
    except BaseException:
        stream.close()
        raise
    return StreamingResponse(_chunks(stream), media_type=kind, headers=_SAFE)


def _picture_type(stream: BinaryIO) -> str:
    """Say what a picture is by its first bytes; what is none is not shown by a browser."""
    head = stream.read(_HEAD_BYTES)
    stream.seek(0)
    kind = format_of(head)
    return f"image/{kind}" if kind else "application/octet-stream"


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    with stream:
        while chunk := stream.read(_CHUNK_BYTES):
            yield chunk
