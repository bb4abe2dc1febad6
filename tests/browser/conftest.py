"""Gives the browser's fixtures to the tests beside it."""

from __future__ import annotations

from browser_support import (  # noqa: F401 - fixtures
    axe,
    browser,
    open_page,
    outside,
    playwright,
    profiles,
    running_job,
    server,
    watched,
)
