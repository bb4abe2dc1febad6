"""The application: routes, error handlers, the gate in front."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from steadyocr import __version__
from steadyocr.api import ocr_routes, probe_routes, quarantine_routes
from steadyocr.api.errors import problem, problem_of
from steadyocr.api.middleware import RequestGate
from steadyocr.errors import SteadyOCRError
from steadyocr.service import Service

_CODES = {404: "not_found", 405: "method_not_allowed"}


def create_app(service: Service) -> FastAPI:
    """Build the application over a service. Starting and stopping the service is its owner's business."""
    settings = service.settings
    app = FastAPI(
        title="steadyocr",
        version=__version__,
        root_path=settings.server.root_path,
        # The interactive pages load scripts from elsewhere; the document itself stays.
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    app.include_router(probe_routes.router)
    app.include_router(ocr_routes.router)
    app.include_router(quarantine_routes.router)
    app.add_exception_handler(SteadyOCRError, _on_our_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_middleware(
        RequestGate,
        api_keys=[key.get_secret_value() for key in settings.auth.api_keys],
        max_image_bytes=settings.limits.max_bytes,
    )
    return app


async def _on_our_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, SteadyOCRError)  # noqa: S101 - registered for this class only
    return problem_of(error)


async def _on_http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class only
    code = _CODES.get(error.status_code, "invalid_request")
    answer = problem(error.status_code, code, str(error.detail))
    answer.headers.update(error.headers or {})  # the methods that are allowed, say
    return answer
