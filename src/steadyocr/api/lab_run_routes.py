"""The routes of fine-tuning runs."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from steadyocr.api.bodies import read_json_object
from steadyocr.api.event_stream import Streams
from steadyocr.api.lab_routes import lab_of
from steadyocr.api.lab_views import is_over, run_in_short, run_view
from steadyocr.api.schemas import ProblemOut
from steadyocr.errors import InvalidOption
from steadyocr.service.lab_records import Record
from steadyocr.service.lab_runs import RANGES

router = APIRouter(prefix="/v1/lab/runs", tags=["lab"])

_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": ProblemOut} for status in (404, 409, 422, 500, 503, 507)
}
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["dataset"],
                    "properties": {
                        "dataset": {"type": "string"},
                        "base_model": {"type": "string"},
                        **{
                            name: {
                                "type": "integer" if rule.whole else "number",
                                "default": rule.default,
                                "minimum": rule.minimum,
                                "maximum": rule.maximum,
                            }
                            for name, rule in RANGES.items()
                        },
                    },
                }
            }
        }
    }
}


@router.post("", summary="Start fine-tuning", status_code=202, responses=_PROBLEMS, openapi_extra=_BODY)
async def start(request: Request) -> JSONResponse:
    """Start a run; one at a time."""
    lab = lab_of(request)
    return _accepted(request, lab.start_run(await read_json_object(request)))


@router.get("", summary="All runs, newest first")
async def listing(request: Request) -> dict[str, Any]:
    """List states, without curves and logs."""
    lab = lab_of(request)
    return {"runs": [run_in_short(lab, record) for record in lab.runs.newest_first()]}


@router.get("/{run_id}", summary="One run: state, progress, curve, log", responses=_PROBLEMS)
def one(request: Request, run_id: str) -> dict[str, Any]:
    """Show how it stands."""
    lab = lab_of(request)
    return run_view(lab, lab.runs.get(run_id))


@router.get("/{run_id}/events", summary="The same as a stream of events", responses=_PROBLEMS)
async def events(request: Request, run_id: str) -> Response:
    """Send the view whenever it has changed, until the run is over."""
    lab = lab_of(request)
    lab.runs.get(run_id)
    streams: Streams = request.app.state.lab_streams

    def look() -> tuple[dict[str, Any], bool]:
        record = lab.runs.get(run_id)
        over = is_over(record)
        return run_view(lab, record), over

    return streams.respond(request, look)


@router.post("/{run_id}/cancel", summary="Stop it; its last checkpoint is kept", status_code=202, responses=_PROBLEMS)
async def cancel(request: Request, run_id: str) -> JSONResponse:
    """Ask it to end."""
    lab = lab_of(request)
    return _accepted(request, lab.cancel(lab.runs, run_id))


@router.post("/{run_id}/resume", summary="Go on from its last checkpoint", status_code=202, responses=_PROBLEMS)
async def resume(request: Request, run_id: str) -> JSONResponse:
    """Go on."""
    return _accepted(request, lab_of(request).resume_run(run_id))


@router.post("/{run_id}/use", summary="Make its weights the serving detector", status_code=202, responses=_PROBLEMS)
async def use(request: Request, run_id: str) -> JSONResponse:
    """Import, prove and swap in the background; the run's ``use`` says how it went."""
    values = await read_json_object(request)
    name = values.pop("name", None)
    if values or not (name is None or isinstance(name, str)):
        raise InvalidOption("only a name, a text, may be given", option="name")
    return _accepted(request, lab_of(request).use_run(run_id, name))


@router.post("/{run_id}/back", summary="Serve with the detector before it", status_code=202, responses=_PROBLEMS)
async def back(request: Request, run_id: str) -> JSONResponse:
    """Swap back in the background; the run's ``use`` says how it went."""
    return _accepted(request, lab_of(request).go_back(run_id))


def _accepted(request: Request, record: Record) -> JSONResponse:
    location = f"{request.scope.get('root_path', '')}/v1/lab/runs/{record.id}"
    return JSONResponse(run_in_short(lab_of(request), record), 202, {"Location": location})
