"""The application: routes, error handlers, the gate in front."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from steadyocr import __version__
from steadyocr.api import (
    batch_route,
    jobs_routes,
    jobs_streams,
    metrics_route,
    ocr_routes,
    probe_routes,
    quarantine_routes,
)
from steadyocr.api.errors import problem, problem_of
from steadyocr.api.event_stream import Streams
from steadyocr.api.incoming_body import BodyRules
from steadyocr.api.middleware import RequestGate
from steadyocr.api.page_routers import PAGE_ROUTERS
from steadyocr.api.strangers import StrangerRules
from steadyocr.errors import SteadyOCRError
from steadyocr.service import Service
from steadyocr.service.metrics import ServiceMetrics
from steadyocr.settings import Settings

# What a form adds to a file at most; more is refused by its parser.
_PART_BYTES = 8192
_CODES = {404: "not_found", 405: "method_not_allowed"}


Mounting = Callable[[FastAPI, Service], Collection[str]]


def create_app(
    service: Service,
    *,
    extra_routers: Sequence[APIRouter] = (),
    open_paths: Collection[str] = (),
    open_prefixes: Collection[str] = (),
    mounts: Sequence[Mounting] = (),
) -> FastAPI:
    """Build the application over a service. Starting and stopping the service is its owner's business.

    Args:
        service: What answers.
        extra_routers: Of surfaces that this layer does not know, such as the web page. They come last.
        open_paths: Exact paths of theirs that hold no secret and need no API key.
        open_prefixes: Likewise, for all paths below these.
        mounts: Mount whole applications; each returns the path prefixes whose visitors it checks itself.
    """
    settings = service.settings
    app = FastAPI(
        title="steadyocr",
        version=__version__,
        root_path=settings.server.root_path,
        # The interactive pages load scripts from elsewhere; the document itself stays.
        docs_url=None,
        redoc_url=None,
        # Behind a proxy that strips a prefix the redirect would lead out of it.
        redirect_slashes=False,
    )
    app.state.service = service
    measured = ServiceMetrics(service)
    service.attach(measured)
    app.state.metrics = measured
    if settings.metrics.open:
        open_paths = {*open_paths, metrics_route.PATH}
    app.include_router(probe_routes.router)
    app.include_router(metrics_route.router)
    app.include_router(ocr_routes.router)
    app.include_router(quarantine_routes.router)
    app.include_router(jobs_routes.router)
    app.include_router(jobs_streams.router)
    app.include_router(batch_route.router)
    app.state.lab_streams = Streams(settings.lab.max_listeners)
    for router in PAGE_ROUTERS:
        app.include_router(router)
    for router in extra_routers:
        app.include_router(router)
    mounted = frozenset[str]().union(*(mount(app, service) for mount in mounts))
    add_error_handlers(app)
    app.add_middleware(
        RequestGate,
        api_keys=[key.get_secret_value() for key in settings.auth.api_keys],
        bodies=BodyRules(
            max_image_bytes=settings.limits.max_bytes,
            limits=_body_limits(settings),
            streamed_prefixes=[f"{prefix}/" for prefix in mounted],
            stall_s=settings.server.upload_stall_s,
            longest_s=settings.queue.max_timeout_s,
        ),
        budget=service.bodies,
        open_paths=open_paths,
        open_prefixes=mounted.union(open_prefixes),
        # Who opens the door to everybody has something in front that checks who comes, under whatever name.
        strangers=StrangerRules(None if settings.server.insecure else settings.server.allowed_hosts),
        on_answer=measured.recorder.request,
    )
    return app


def _body_limits(settings: Settings) -> dict[str, int]:
    """Return what bodies may be where they are something else than one picture: files, and a form around each."""
    jobs = settings.jobs
    upload = jobs.max_upload_bytes + jobs.max_files * _PART_BYTES
    return {"/v1/jobs": upload, "/batch": upload}


def add_error_handlers(app: FastAPI) -> None:
    """Turn errors into answers, ours and those of the framework."""
    app.add_exception_handler(SteadyOCRError, _on_our_error)
    app.add_exception_handler(HTTPException, _on_http_error)


async def _on_our_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, SteadyOCRError)  # noqa: S101 - registered for this class only
    return problem_of(error)


async def _on_http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class only
    code = _CODES.get(error.status_code, "invalid_request")
    answer = problem(error.status_code, code, str(error.detail))
    answer.headers.update(error.headers or {})  # the methods that are allowed, say
    return answer
