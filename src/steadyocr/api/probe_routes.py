"""The routes that say how the service is. Load balancers ask the probes by HEAD too."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse

from steadyocr.options import OPTION_SPECS
from steadyocr.page_formats import PAGE_FORMATS
from steadyocr.service import Service

router = APIRouter(tags=["service"])


@router.head("/livez", include_in_schema=False)
@router.get("/livez", summary="Whether the front process runs its loop")
async def livez() -> PlainTextResponse:
    """Liveness: restart the service when this fails."""
    return PlainTextResponse("ok\n")


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", summary="Whether pictures are taken now", responses={503: {"description": "not now"}})
async def readyz(request: Request) -> PlainTextResponse:
    """Readiness: send no traffic while this fails. Costs nothing."""
    reason = _service(request).unready_reason()
    return PlainTextResponse(f"{reason or 'ok'}\n", 503 if reason else 200)


@router.head("/healthz", include_in_schema=False)
@router.get(
    "/healthz", summary="Whether pictures are answered rightly", responses={503: {"description": "they are not"}}
)
async def healthz(request: Request) -> JSONResponse:
    """The deep check: rests on real traffic, else reads a known picture and compares."""
    service = _service(request)
    health = await service.check_health()
    body = {
        "status": "ok" if health.ok else "error",
        "model_loaded": bool(service.models()),
        "gpu_ok": service.gpu_ok(),
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
        "reason": health.reason,
        "source": health.source,
        "models": service.models(),
    }
    return JSONResponse(body, 200 if health.ok else 503)


@router.get("/v1/info", summary="Version, models, engines, queue, effective settings")
async def info(request: Request) -> dict[str, Any]:
    """Everything an operator asks first; no secrets."""
    return _service(request).info()


@router.get("/v1/options", summary="The options of a request, for programs that build a form")
async def options(request: Request) -> dict[str, Any]:
    """Names, types, ranges, meanings and the serving model's defaults."""
    defaults = _service(request).option_defaults()
    return {
        "options": [
            {**dataclasses.asdict(spec), "default": defaults.get(spec.name, spec.default)} for spec in OPTION_SPECS
        ],
        "formats": list(PAGE_FORMATS),
    }


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service
