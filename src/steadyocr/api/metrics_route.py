"""``GET /metrics`` for Prometheus."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request, Response

from steadyocr.service.metrics import ServiceMetrics

router = APIRouter(tags=["probes"])

PATH: Final = "/metrics"


@router.get(PATH, summary="Metrics for Prometheus", response_class=Response)
async def metrics(request: Request) -> Response:
    """Everything that the service counts, as Prometheus text or OpenMetrics.

    Needs an API key where keys are on, since it tells how much the service is used; ``metrics.open`` lets it go
    without one.
    """
    measured: ServiceMetrics = request.app.state.metrics
    body, content_type = measured.render(request.headers.get("accept", ""))
    return Response(body, media_type=content_type)
