"""What a working node shows of itself: how it is and what it counts. No pictures and no jobs come in here."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import PlainTextResponse

from steadyocr import __version__
from steadyocr.api import metrics_route
from steadyocr.api.app import add_error_handlers
from steadyocr.api.incoming_body import BodyRules
from steadyocr.api.middleware import RequestGate
from steadyocr.api.probe_routes import livez
from steadyocr.service import Service
from steadyocr.service.metrics import ServiceMetrics

router = APIRouter(tags=["service"])
router.get("/livez", summary="Whether the node runs its loop")(livez)


@router.get("/readyz", summary="Whether jobs are worked off now", responses={503: {"description": "not now"}})
async def readyz(request: Request) -> PlainTextResponse:
    """Readiness: an engine is ready and the job store answers. Without its store a node is of no use."""
    service: Service = request.app.state.service
    trouble = service.batches.trouble
    reason = service.unready_reason() or ("" if trouble is None else f"the job store cannot be used: {trouble.code}")
    return PlainTextResponse(f"{reason or 'ok'}\n", 503 if reason else 200)


def create_node_app(service: Service) -> FastAPI:
    """Build the application of a node over a service. Starting and stopping the service is its owner's business."""
    settings = service.settings
    app = FastAPI(title="steadyocr node", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.service = service
    measured = ServiceMetrics(service)
    service.attach(measured)
    app.state.metrics = measured
    app.include_router(router)
    app.include_router(metrics_route.router)
    add_error_handlers(app)
    app.add_middleware(
        RequestGate,
        api_keys=[key.get_secret_value() for key in settings.auth.api_keys],
        bodies=BodyRules(max_image_bytes=settings.limits.max_bytes, stall_s=settings.server.upload_stall_s),
        budget=service.bodies,
        open_paths={metrics_route.PATH} if settings.metrics.open else (),
        on_answer=measured.recorder.request,
    )
    return app
