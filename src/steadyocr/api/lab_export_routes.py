"""The routes of exports."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse

from steadyocr.api.bodies import read_json_object
from steadyocr.api.lab_routes import lab_of
from steadyocr.api.lab_views import export_view
from steadyocr.api.schemas import ProblemOut
from steadyocr.service.lab_exports import FORMATS, MAX_SIDE, MIN_SIDE, file_of
from steadyocr.service.lab_records import Record

router = APIRouter(prefix="/v1/lab/exports", tags=["lab"])

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": ProblemOut} for status in (404, 409, 422, 500, 503, 507)
}
_SIDE: Final = {"type": "integer", "minimum": MIN_SIDE, "maximum": MAX_SIDE}
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["model"],
                    "properties": {
                        "model": {"type": "string", "description": "a model's name or a run's id"},
                        "format": {"type": "string", "enum": list(FORMATS), "default": FORMATS[0]},
                        "height": _SIDE,
                        "width": _SIDE,
                        "int8": {"type": "boolean", "default": False},
                        "dataset": {"type": "string", "description": "pictures for int8; rendered ones by default"},
                    },
                }
            }
        }
    }
}


@router.post("", summary="Start an export", status_code=202, responses=_PROBLEMS, openapi_extra=_BODY)
async def start(request: Request) -> JSONResponse:
    """Start one; one at a time."""
    return _accepted(request, lab_of(request).start_export(await read_json_object(request)))


@router.get("", summary="All exports, newest first")
def listing(request: Request) -> dict[str, Any]:
    """List them."""
    lab = lab_of(request)
    return {"exports": [export_view(lab, record) for record in lab.exports.newest_first()]}


@router.get("/{export_id}", summary="One export: state, size, parity", responses=_PROBLEMS)
def one(request: Request, export_id: str) -> dict[str, Any]:
    """Show how it stands."""
    lab = lab_of(request)
    return export_view(lab, lab.exports.get(export_id))


@router.post("/{export_id}/cancel", summary="Stop it", status_code=202, responses=_PROBLEMS)
async def cancel(request: Request, export_id: str) -> JSONResponse:
    """Ask it to end."""
    lab = lab_of(request)
    return _accepted(request, lab.cancel(lab.exports, export_id))


@router.get("/{export_id}/file", summary="What came out", response_class=FileResponse, responses=_PROBLEMS)
async def download(request: Request, export_id: str) -> FileResponse:
    """Send the file."""
    lab = lab_of(request)
    record = lab.exports.get(export_id)
    path = file_of(record, lab.exports.folder(record))
    return FileResponse(path, media_type="application/octet-stream", filename=path.name)


def _accepted(request: Request, record: Record) -> JSONResponse:
    location = f"{request.scope.get('root_path', '')}/v1/lab/exports/{record.id}"
    return JSONResponse(export_view(lab_of(request), record), 202, {"Location": location})
