"""What the serve command lets live beside the service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from steadyocr.ops.alerts.attach import attach_alerts
from steadyocr.ops.flight.companion import FlightRecorder
from steadyocr.service import Service
from steadyocr.service.companions import Companion

# The recorder first: what alerts point to should lie there when they arrive.
COMPANIONS: Final[tuple[Callable[[Service], Companion], ...]] = (FlightRecorder, attach_alerts)
