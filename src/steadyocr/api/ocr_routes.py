"""The routes that read pictures."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from steadyocr.api.keeping import KEEPING_PARAMETERS, refuse_odd_wishes, take_wishes
from steadyocr.api.schemas import PageOut, ProblemOut
from steadyocr.api.uploads import Upload, read_upload
from steadyocr.errors import Cancelled, DeadlineExceeded, InvalidOption, InvalidRequest
from steadyocr.options import OPTION_SPECS, parse_options
from steadyocr.page_formats import MEDIA_TYPES, PAGE_FORMATS, render_page
from steadyocr.service import Service

T = TypeVar("T")

router = APIRouter(tags=["ocr"])

_BINARY = {"schema": {"type": "string", "format": "binary"}}
OPTION_SCHEMAS: dict[str, Any] = {
    spec.name: {
        "type": spec.type,
        "description": spec.description,
        **({"minimum": spec.minimum, "maximum": spec.maximum} if spec.type in ("number", "integer") else {}),
        **({"enum": list(spec.choices)} if spec.choices else {}),
    }
    for spec in OPTION_SPECS
}
_FORMAT_SCHEMA = {"type": "string", "enum": list(PAGE_FORMATS), "default": "json"}
_DOCUMENTATION: dict[str, Any] = {
    "parameters": [
        *({"name": name, "in": "query", "schema": schema} for name, schema in OPTION_SCHEMAS.items()),
        {"name": "format", "in": "query", "schema": _FORMAT_SCHEMA},
        *KEEPING_PARAMETERS,
        {
            "name": "X-Request-Timeout",
            "in": "header",
            "description": "seconds, from the arrival of the request, after which nobody waits for the answer",
            "schema": {"type": "number"},
        },
    ],
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": _BINARY["schema"], "format": _FORMAT_SCHEMA, **OPTION_SCHEMAS},
                }
            },
            "image/*": _BINARY,
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {
                        "image": {"type": "string", "description": "base64, with or without a data: prefix"},
                        "format": _FORMAT_SCHEMA,
                        **OPTION_SCHEMAS,
                    },
                }
            },
        },
    },
}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": ProblemOut} for status in (400, 401, 403, 408, 413, 415, 422, 429, 500, 503, 504)
}


@router.post(
    "/v1/ocr",
    summary="Find and read the text lines of a picture",
    response_model=PageOut,
    responses=_PROBLEMS,
    openapi_extra=_DOCUMENTATION,
)
async def ocr(request: Request) -> Response:
    """Picture in, page out."""
    return await _answer(request, recognise=True)


@router.post(
    "/v1/detect",
    summary="Find the text lines of a picture without reading them",
    response_model=PageOut,
    responses=_PROBLEMS,
    openapi_extra=_DOCUMENTATION,
)
async def detect(request: Request) -> Response:
    """Picture in, quads out."""
    return await _answer(request, recognise=False)


async def _answer(request: Request, *, recognise: bool) -> Response:
    service: Service = request.app.state.service
    # Before the body: whoever must be turned away is turned away in milliseconds.
    client = client_of(request)
    service.refuse_early(client)
    upload, timeout_s = await _upload_in_time(request)
    wishes = take_wishes(upload.options)
    kind = str(upload.options.pop("format", "json"))
    if kind not in PAGE_FORMATS:
        raise InvalidOption(f"unknown format; known: {', '.join(PAGE_FORMATS)}", option="format")
    options = parse_options(upload.options, recognise=recognise, overlay=kind == "overlay.png")
    refuse_odd_wishes(wishes, kind, options)
    request_id: str = request.state.request_id
    work = service.read(
        upload.data, options, timeout_s=timeout_s, client=client, request_id=request_id, extras=wishes.extras
    )
    reply = await unless_disconnected(request, work)
    if kind == "overlay.png":
        return Response(reply.payload, media_type=MEDIA_TYPES[kind])
    page = reply.message["page"]
    if kind == "json":
        kept = await service.page.remember(upload.data, reply, wishes, owner_of(request))
        return JSONResponse({**page, **kept, "request_id": request_id})
    return Response(render_page(page, kind), media_type=MEDIA_TYPES[kind])


async def _upload_in_time(request: Request) -> tuple[Upload, float | None]:
    """Read the picture; returns it with what is left of the client's time, in seconds.

    Raises:
        DeadlineExceeded: The client's time ran out meanwhile.
        SteadyOCRError: See :func:`read_upload`.
    """
    timeout_s = client_timeout(request)
    if timeout_s is None:
        return await read_upload(request), None
    # The client counts from when it began to send.
    deadline = request.state.arrived + timeout_s
    try:
        async with asyncio.timeout_at(deadline):
            upload = await read_upload(request)
    except TimeoutError as error:
        raise DeadlineExceeded("the time allowed ran out while the picture was sent") from error
    return upload, deadline - asyncio.get_running_loop().time()


def client_of(request: Request) -> str:
    """Name the client, for fairness: by its key where keys are on, by its address otherwise."""
    key: str | None = getattr(request.state, "key_id", None)
    return key or (request.client.host if request.client else "")


def owner_of(request: Request) -> str:
    """Name whose history a request's page belongs to; empty where no keys are on."""
    service: Service = request.app.state.service
    return service.page.owner_of(getattr(request.state, "key_id", None))


def client_timeout(request: Request) -> float | None:
    """Return how long the client waits, in seconds; ``None`` when it does not say.

    Raises:
        InvalidRequest: It says something else.
    """
    text = request.headers.get("x-request-timeout")
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise InvalidRequest("X-Request-Timeout must be a positive number of seconds")
    return seconds


async def unless_disconnected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Run the work, but give it up when the client goes away: a queued picture nobody waits for is not read."""
    working = asyncio.create_task(work, name="ocr-request")
    leaving = asyncio.create_task(_disconnected(request), name="ocr-disconnect")
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise Cancelled("the client went away")
    finally:
        working.cancel()
        leaving.cancel()
        # What is called off here has ended before anybody goes on: no task outlives its request.
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
