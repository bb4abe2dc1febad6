"""The routes of the history: pages that their sender asked to be kept."""

from __future__ import annotations

import re
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from steadyocr.api.jobs_common import whole_number
from steadyocr.api.ocr_routes import owner_of
from steadyocr.api.schemas import ProblemOut
from steadyocr.service import Service
from steadyocr.service.shelf import Entry

router = APIRouter(prefix="/v1/history", tags=["history"])

_MISSING: dict[int | str, dict[str, Any]] = {404: {"model": ProblemOut}}
_MAX_LIMIT = 1000
_FORMAT = re.compile(r"[a-z]{1,8}")
# What is sent back is what was sent in, by whomever: it is shown as a picture or not at all.
_PICTURE_HEADERS = {"Content-Security-Policy": "default-src 'none'; sandbox", "Content-Disposition": "inline"}


class EntryOut(BaseModel):
    """One kept page, in short. Addresses are relative to the service's root."""

    id: str
    at: float
    width: int
    height: int
    lines: int
    ms: float
    first_line: str
    thumb_url: str | None


class HistoryOut(BaseModel):
    """The newest entries, newest first."""

    enabled: bool
    keep_s: float = Field(description="seconds after which an entry is deleted")
    shared: bool = Field(description="no keys are on, so everybody who reaches the service has one history together")
    entries: list[EntryOut]


@router.get(
    "",
    summary="Kept pages, newest first",
    response_model=HistoryOut,
    openapi_extra={"parameters": [{"name": "limit", "in": "query", "schema": {"type": "integer", "default": 50}}]},
)
async def listing(request: Request) -> dict[str, Any]:
    """List the caller's own entries."""
    limit = whole_number(request, "limit", 50, 1, _MAX_LIMIT)
    service: Service = request.app.state.service
    history = service.page.history
    owner = owner_of(request)
    entries = await history.entries(owner, limit)
    return {
        "enabled": history.enabled,
        "keep_s": history.keep_s,
        "shared": not owner,
        "entries": [_in_short(entry) for entry in entries],
    }


@router.delete("", summary="Forget all of the caller's entries", status_code=204)
async def delete_all(request: Request) -> Response:
    """Delete pages and pictures."""
    service: Service = request.app.state.service
    await service.page.history.delete_all(owner_of(request))
    return Response(status_code=204)


@router.get("/{entry_id}", summary="One kept page", responses=_MISSING)
async def page(request: Request, entry_id: str) -> JSONResponse:
    """Return the page as it was answered, and where its picture is."""
    service: Service = request.app.state.service
    entry, kept = await service.page.history.page(entry_id, owner_of(request))
    return JSONResponse(
        {**kept, **_in_short(entry), "lines": kept["lines"], "image_url": f"v1/history/{entry.id}/image"}
    )


@router.get("/{entry_id}/image", summary="Its picture", response_class=Response, responses=_MISSING)
async def image(request: Request, entry_id: str) -> Response:
    """Return the picture as it was sent."""
    service: Service = request.app.state.service
    entry, data = await service.page.history.picture(entry_id, owner_of(request))
    kind = str(entry.facts.get("format", ""))
    media_type = f"image/{kind}" if _FORMAT.fullmatch(kind) else "application/octet-stream"
    return Response(data, media_type=media_type, headers=_PICTURE_HEADERS)


@router.get("/{entry_id}/thumb", summary="Its thumbnail", response_class=Response, responses=_MISSING)
async def thumb(request: Request, entry_id: str) -> Response:
    """Return a small JPEG."""
    service: Service = request.app.state.service
    data = await service.page.history.thumbnail(entry_id, owner_of(request))
    return Response(data, media_type="image/jpeg", headers=_PICTURE_HEADERS)


@router.delete("/{entry_id}", summary="Forget it", status_code=204, responses=_MISSING)
async def delete(request: Request, entry_id: str) -> Response:
    """Delete page and picture."""
    service: Service = request.app.state.service
    await service.page.history.delete(entry_id, owner_of(request))
    return Response(status_code=204)


def _in_short(entry: Entry) -> dict[str, Any]:
    facts = entry.facts
    return {
        "id": entry.id,
        "at": entry.at,
        **{name: facts[name] for name in ("width", "height", "lines", "ms")},
        # Entries of an earlier version have none.
        "first_line": facts.get("first_line", ""),
        "thumb_url": f"v1/history/{entry.id}/thumb" if facts["thumbnail"] else None,
    }
