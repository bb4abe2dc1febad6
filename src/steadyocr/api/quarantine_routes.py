"""The routes by which an operator sees and releases condemned pictures."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from steadyocr.service import Service

router = APIRouter(prefix="/v1/quarantine", tags=["quarantine"])


@router.get("", summary="Pictures that have ended engines, by content hash, oldest first")
async def listing(request: Request) -> dict[str, Any]:
    """What is known of each: sizes, cause of death, stage, predicted memory. Never the picture."""
    service: Service = request.app.state.service
    return {"items": service.scheduler.quarantine.entries()}


@router.delete("/{sha256}", summary="Release a picture", status_code=204, responses={404: {"description": "not there"}})
async def release(request: Request, sha256: str) -> Response:
    """Let the picture in again."""
    service: Service = request.app.state.service
    service.scheduler.quarantine.release(sha256)
    return Response(status_code=204)
