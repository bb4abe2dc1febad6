"""The routes by which jobs come in, are looked at and are steered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from steadyocr.api.bodies import read_json_object
from steadyocr.api.jobs_common import (
    MAX_PAGE,
    MAX_POSITION,
    batches_of,
    own_job,
    place_asked_for,
    place_name,
    problems,
    query,
    states,
    whole_number,
)
from steadyocr.api.jobs_fields import job_request
from steadyocr.api.jobs_schemas import ItemsOut, JobOut, JobsOut
from steadyocr.api.jobs_upload import FIELDS_BYTES, FILES_FIELD, take_files
from steadyocr.api.jobs_views import item_view, job_view
from steadyocr.api.ocr_routes import OPTION_SCHEMAS, owner_of
from steadyocr.errors import InvalidOption
from steadyocr.jobs.models import ItemState, Job, JobState
from steadyocr.jobs.store import RETRYABLE, JobStore

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

_RETRYABLE_STATES: Final = (*RETRYABLE, ItemState.CANCELLED, ItemState.EXPIRED)
# Boundary, name and type of a file in a form.
_BYTES_AROUND_FILE: Final = 1 << 10
_JOB_SCHEMAS: dict[str, Any] = {
    "priority": {"type": "integer", "minimum": -100, "maximum": 100, "default": 0, "description": "higher goes first"},
    "deadline_s": {
        "type": "number",
        "description": "seconds after which what has not ended is given up, what is being read included",
    },
    "overlay": {"type": "boolean", "default": False, "description": "keep overlay pictures as well"},
    "callback_url": {
        "type": "string",
        "description": "a public address that is told by a signed POST when the job has ended",
    },
    "meta": {"type": "string", "description": "a JSON object, given back as it is"},
}
SUBMIT_DOCUMENTATION: dict[str, Any] = {
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "description": "a repeated request with the same key and content gives the job of the first one",
            "schema": {"type": "string", "maxLength": 255},
        }
    ],
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FILES_FIELD],
                    "properties": {
                        FILES_FIELD: {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "description": "pictures, or zip archives of pictures",
                        },
                        **_JOB_SCHEMAS,
                        **OPTION_SCHEMAS,
                    },
                }
            },
            "application/zip": {"schema": {"type": "string", "format": "binary"}},
        },
    },
}


@router.post(
    "",
    summary="Take many pictures as one job",
    status_code=202,
    response_model=JobOut,
    responses=problems(400, 408, 409, 413, 422, 504, 507),
    openapi_extra=SUBMIT_DOCUMENTATION,
)
async def submit(request: Request) -> Response:
    """Answer as soon as everything is stored; what is wrong with single pictures is said in their items."""
    job = await take_job(request)
    root = request.scope.get("root_path", "")
    return JSONResponse(job_view(job), 202, {"Location": f"{root}/v1/jobs/{job.id}"})


async def take_job(request: Request, adapt: Callable[[dict[str, Any]], dict[str, Any]] = dict) -> Job:
    """Take a request's files in and make a job of them.

    Args:
        request: What came.
        adapt: Makes the fields of a job of what came as fields.

    Raises:
        SteadyOCRError: It is refused.
    """
    async with batches_of(request).intake() as intake:
        await _refuse_hopeless(request)
        fields = adapt(await take_files(request, intake))
        wanted = job_request(fields, request.headers, owner_of(request), batches_of(request))
        return await intake.submit(wanted)


async def _refuse_hopeless(request: Request) -> None:
    """Refuse a job that says itself that it will not fit, before anything of it is read.

    Raises:
        InsufficientStorage: It is larger than the room there is.
    """
    batches = batches_of(request)
    announced = request.headers.get("content-length", "")
    # What a form may have around its files is not kept.
    around = FIELDS_BYTES + batches.settings.jobs.max_files * _BYTES_AROUND_FILE
    least = int(announced) - around if announced.isdecimal() else 0
    if least <= 0:
        return
    key = request.headers.get("idempotency-key")
    lack = await batches.call(JobStore.lack_of_room, least, tenant=owner_of(request), idempotency_key=key)
    if lack is not None:
        raise lack


@router.get(
    "",
    summary="Jobs, newest first",
    response_model=JobsOut,
    responses=problems(422),
    openapi_extra={
        "parameters": [
            query("limit", "integer", "jobs on a page"),
            query("before", "string", "the page before's `next`; good even when that page's jobs are gone"),
            query("state", "string", "only jobs in these states, separated by commas"),
        ]
    },
)
async def listing(request: Request) -> dict[str, Any]:
    """List the caller's jobs."""
    limit = whole_number(request, "limit", 50, 1, MAX_PAGE)
    wanted = states(request, JobState)
    before = place_asked_for(request)
    jobs = await batches_of(request).call(
        JobStore.jobs, tenant=owner_of(request), states=wanted, before=before, limit=limit + 1
    )
    shown = jobs[:limit]
    return {
        "jobs": [job_view(job) for job in shown],
        "next": place_name(shown[-1].place) if len(jobs) > limit else None,
    }


@router.get("/{job_id}", summary="How a job stands", response_model=JobOut, responses=problems(404))
async def show(request: Request, job_id: str) -> dict[str, Any]:
    """State, counters, place in the queue and time to its end."""
    await own_job(request, job_id)
    return await _standing(request, job_id)


async def _standing(request: Request, job_id: str) -> dict[str, Any]:
    batches = batches_of(request)
    progress = await batches.call(JobStore.progress, job_id)
    return job_view(progress.job, running=progress.leased, outlook=batches.outlook(progress))


@router.get(
    "/{job_id}/items",
    summary="The items of a job",
    response_model=ItemsOut,
    responses=problems(404, 422),
    openapi_extra={
        "parameters": [
            query("after", "integer", "position of the last item of the page before"),
            query("offset", "integer", "items to leave out, of those that fit"),
            query("limit", "integer", "items on a page"),
            query("state", "string", "only items in these states, separated by commas"),
        ]
    },
)
async def items(request: Request, job_id: str) -> dict[str, Any]:
    """List items by position, without results."""
    after = whole_number(request, "after", -1, -1, MAX_POSITION)
    offset = whole_number(request, "offset", 0, 0, MAX_POSITION)
    limit = whole_number(request, "limit", 100, 1, MAX_PAGE)
    wanted = states(request, ItemState)
    await own_job(request, job_id)
    found = await batches_of(request).call(
        JobStore.items, job_id, after=after, offset=offset, limit=limit + 1, states=wanted
    )
    shown = found[:limit]
    return {
        "items": [item_view(item) for item in shown],
        "next": shown[-1].position if len(found) > limit else None,
    }


@router.post("/{job_id}/cancel", summary="Stop the rest of a job", response_model=JobOut, responses=problems(404))
async def cancel(request: Request, job_id: str) -> dict[str, Any]:
    """End what waits, and break off what is being read; what has been read stays."""
    await own_job(request, job_id)
    await batches_of(request).cancel(job_id)
    return await _standing(request, job_id)


@router.post(
    "/{job_id}/retry",
    summary="Run failed items again",
    response_model=JobOut,
    responses=problems(400, 404, 422),
    openapi_extra={
        "requestBody": {
            "required": False,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "properties": {
                            "states": {
                                "type": "array",
                                "items": {"type": "string", "enum": [state.value for state in _RETRYABLE_STATES]},
                                "default": [state.value for state in RETRYABLE],
                            },
                            "positions": {
                                "type": "array",
                                "items": {"type": "integer", "minimum": 0, "maximum": MAX_POSITION},
                                "maxItems": MAX_PAGE,
                            },
                        },
                    }
                }
            },
        }
    },
)
async def retry(request: Request, job_id: str) -> dict[str, Any]:
    """Run items again that failed or were given up; others when they are named."""
    body = await read_json_object(request)
    positions = _positions(body.pop("positions", None))
    # Who names items means them, whichever way they ended.
    default = RETRYABLE if positions is None else _RETRYABLE_STATES
    wanted = _retry_states(body.pop("states", [state.value for state in default]))
    if body:
        raise InvalidOption("unknown field; known: states, positions", option=next(iter(body))[:40])
    await own_job(request, job_id)
    await batches_of(request).call(JobStore.retry, job_id, wanted, positions)
    return await _standing(request, job_id)


def _positions(value: object) -> list[int] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) > MAX_PAGE or not all(_is_position(entry) for entry in value):
        raise InvalidOption(
            f"positions must be a list of at most {MAX_PAGE} whole numbers from 0 to {MAX_POSITION}", option="positions"
        )
    return value


def _is_position(value: object) -> bool:
    # true is an integer to Python.
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_POSITION


def _retry_states(value: object) -> list[ItemState]:
    known = {state.value: state for state in _RETRYABLE_STATES}
    if not isinstance(value, list) or not all(isinstance(entry, str) and entry in known for entry in value):
        raise InvalidOption(f"states must be a list of {', '.join(known)}", option="states")
    return [known[entry] for entry in value]


@router.delete("/{job_id}", summary="Forget a job and all about it", status_code=204, responses=problems(404))
async def delete(request: Request, job_id: str) -> Response:
    """Stop it if it runs, and forget its items and results at once.

    Pictures that no other job has cannot be had any more either; they leave the disk with the next sweep, once they
    are older than any upload may take.
    """
    await own_job(request, job_id)
    await batches_of(request).delete(job_id)
    return Response(status_code=204)
