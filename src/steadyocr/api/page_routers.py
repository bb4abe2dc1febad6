"""The routers behind the web page, in one list."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter

from steadyocr.api import history_routes, lab_export_routes, lab_routes, lab_run_routes, map_routes

PAGE_ROUTERS: Final[tuple[APIRouter, ...]] = (
    map_routes.router,
    history_routes.router,
    lab_routes.router,
    lab_run_routes.router,
    lab_export_routes.router,
)
