"""The routes of the laboratory: whether there is one, and its data sets."""

from __future__ import annotations

import dataclasses
from typing import Any

from fastapi import APIRouter, Request

from steadyocr.api.ocr_routes import unless_disconnected
from steadyocr.api.schemas import ProblemOut
from steadyocr.service import Service
from steadyocr.service.lab import Lab
from steadyocr.service.lab_exports import FORMATS, MAX_SIDE, MIN_SIDE, STRIDE
from steadyocr.service.lab_runs import RANGES, base_models

router = APIRouter(prefix="/v1/lab", tags=["lab"])


def lab_of(request: Request) -> Lab:
    """Return the laboratory behind a request."""
    service: Service = request.app.state.service
    return service.page.lab


@router.get("", summary="Whether fine-tuning and export can be done here, with defaults and ranges")
async def facts(request: Request) -> dict[str, Any]:
    """Answer for the page's forms."""
    lab = lab_of(request)
    reason = lab.unavailable_reason()
    return {
        "available": not reason,
        "reason": reason,
        "defaults": {name: dataclasses.asdict(rule) for name, rule in RANGES.items()},
        "base_models": list(base_models(lab.user_models)),
        "base_model": lab.default_base(),
        # For the operator who has yet to put something there; /v1/info says as much.
        "datasets_dir": str(lab.datasets.root),
        "exports": {"formats": FORMATS, "minimum": MIN_SIDE, "maximum": MAX_SIDE, "step": STRIDE},
    }


@router.get("/datasets", summary="Names of the data sets that an operator has put in place")
async def datasets(request: Request) -> dict[str, Any]:
    """List names; what is in them, see the report."""
    return {"datasets": [{"name": name} for name in lab_of(request).datasets.names()]}


@router.get(
    "/datasets/{name}/report",
    summary="Everything that is wrong with a data set",
    responses={status: {"model": ProblemOut} for status in (404, 409, 422, 503, 504)},
)
async def report(request: Request, name: str) -> dict[str, Any]:
    """Check it, picture by picture, for as long as somebody waits for that."""
    return {"name": name, **await unless_disconnected(request, lab_of(request).report(name))}
