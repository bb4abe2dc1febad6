"""The composition root: builds the parts, owns them, starts, drains and stops them."""

from steadyocr.service.core import Service
from steadyocr.service.health import Health

__all__ = ["Health", "Service"]
