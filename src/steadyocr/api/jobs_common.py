"""What all routes about jobs share: whose jobs are seen, how a query is read, what is documented."""

from __future__ import annotations

import re
from collections.abc import Collection
from enum import StrEnum
from typing import Any, Final, TypeVar

from fastapi import Request

from steadyocr.api.ocr_routes import owner_of
from steadyocr.api.schemas import ProblemOut
from steadyocr.errors import InvalidOption
from steadyocr.jobs.control import job_not_found
from steadyocr.jobs.models import Job, JobPlace
from steadyocr.jobs.store import JobStore
from steadyocr.service import Service
from steadyocr.service.batches import Batches

S = TypeVar("S", bound=StrEnum)

MAX_PAGE: Final = 1000
# What a database holds as an integer.
MAX_POSITION: Final = (1 << 31) - 1

# Digits as everybody writes them, and no more than a number that means something.
_NUMBER: Final = re.compile(r"-?[0-9]{1,18}")
_JOB_ID: Final = re.compile(r"[0-9a-f]{32}")
_PLACE: Final = re.compile(rf"([0-9]{{1,12}}(?:\.[0-9]{{1,12}})?):({_JOB_ID.pattern})")


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Document the errors of a route; 401, 403 and 503 can come from each."""
    return {status: {"model": ProblemOut} for status in sorted({*statuses, 401, 403, 503})}


def query(name: str, kind: str, description: str) -> dict[str, Any]:
    """Document a query parameter. They are read by hand, so that their errors are ours."""
    return {"name": name, "in": "query", "description": description, "schema": {"type": kind}}


def batches_of(request: Request) -> Batches:
    """Return the service's part for jobs."""
    service: Service = request.app.state.service
    return service.batches


async def own_job(request: Request, job_id: str) -> Job:
    """Return a job of the caller's. Another key's job is not there.

    Raises:
        JobNotFound: There is no such job.
        Unavailable: The store cannot be used now.
    """
    # Not every database takes every text.
    job = await batches_of(request).call(JobStore.job, job_id) if _JOB_ID.fullmatch(job_id) else None
    if job is None or job.tenant != owner_of(request):
        raise job_not_found()
    return job


def place_name(place: JobPlace) -> str:
    """Return a job's place as the list's ``next`` tells it. Its id alone would lead nowhere once the job is gone."""
    return f"{place.created_at}:{place.id}"


def place_asked_for(request: Request) -> JobPlace | None:
    """Read the place that the list is to go on from; ``None`` is its beginning.

    Raises:
        InvalidOption: It is none.
    """
    text = request.query_params.get("before", "")
    if not text:
        return None
    match = _PLACE.fullmatch(text)
    if match is None:
        raise InvalidOption("before must be the 'next' of another page", option="before")
    return JobPlace(float(match[1]), match[2])


def whole_number(request: Request, name: str, default: int, low: int, high: int) -> int:
    """Read a number of the query.

    Raises:
        InvalidOption: It is none, or out of range.
    """
    text = request.query_params.get(name, str(default))
    if not _NUMBER.fullmatch(text):
        raise InvalidOption(f"{name} must be a whole number", option=name)
    number = int(text)
    if not low <= number <= high:
        raise InvalidOption(f"{name} must lie between {low} and {high}", option=name)
    return number


def states(request: Request, kind: type[S]) -> Collection[S] | None:
    """Read the states that are asked for, ``state=a,b``; ``None`` asks for all.

    Raises:
        InvalidOption: There is no such state.
    """
    text = request.query_params.get("state", "")
    try:
        return [kind(name.strip()) for name in text.split(",")] if text else None
    except ValueError as error:
        raise InvalidOption(f"unknown state; known: {', '.join(kind)}", option="state") from error
