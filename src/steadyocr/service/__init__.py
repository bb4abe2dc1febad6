"""The composition root: builds the parts, owns them, starts, drains and stops them."""

from steadyocr.service.core import Health, Service

__all__ = ["Health", "Service"]
