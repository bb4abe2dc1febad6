"""The routes of kept probability maps: the page's sliders and its heat map."""

from __future__ import annotations

import math
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from steadyocr.api.bodies import read_json_object
from steadyocr.api.ocr_routes import client_of, client_timeout, unless_disconnected
from steadyocr.api.schemas import Point, ProblemOut
from steadyocr.errors import InvalidOption
from steadyocr.options import parse_options
from steadyocr.service import Service

router = APIRouter(prefix="/v1/maps", tags=["maps"])

_KNOBS: Final = ("bin_threshold", "box_threshold", "unclip_ratio", "recognise")
_PROBLEMS: dict[int | str, dict[str, Any]] = {status: {"model": ProblemOut} for status in (404, 422, 503, 504)}


class MapLineOut(BaseModel):
    """One text line; without a text until it was read."""

    id: int
    quad: tuple[Point, Point, Point, Point]
    score: float
    text: str | None
    text_score: float | None


class MapLinesOut(BaseModel):
    """Lines found in a kept map."""

    lines: list[MapLineOut]
    timings_ms: dict[str, float]
    options: dict[str, float]


@router.post(
    "/{map_id}/lines",
    summary="Find the lines again with other thresholds, without running the network",
    response_model=MapLinesOut,
    responses=_PROBLEMS,
    openapi_extra={
        "requestBody": {
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "properties": {
                            **{name: {"type": "number"} for name in _KNOBS[:3]},
                            "recognise": {"type": "boolean", "default": False},
                        },
                    }
                }
            }
        }
    },
)
async def lines(request: Request, map_id: str) -> JSONResponse:
    """Knobs in, lines out; texts of lines read before are kept, new lines are read when asked for."""
    service: Service = request.app.state.service
    values = await read_json_object(request)
    for name in values:
        if name not in _KNOBS:
            raise InvalidOption(f"unknown option {name[:40]!r}; known: {', '.join(_KNOBS)}", option=name[:40])
    options = parse_options(values, recognise=False)
    client = client_of(request)
    service.refuse_early(client)
    work = service.page.maps.lines(
        map_id,
        options,
        client=client,
        request_id=request.state.request_id,
        timeout_s=client_timeout(request) or math.inf,
    )
    return JSONResponse(await unless_disconnected(request, work))


@router.get(
    "/{map_id}/heat.png",
    summary="The probability map as a grayscale picture, at the network's scale",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}}, 404: {"model": ProblemOut}},
)
async def heat(request: Request, map_id: str) -> Response:
    """Picture in, probability out."""
    service: Service = request.app.state.service
    return Response(await service.page.maps.picture_of(map_id), media_type="image/png")
