"""Gives the installed service to the tests beside it."""

from __future__ import annotations

from systemd_service import installed, service  # noqa: F401 - fixtures
