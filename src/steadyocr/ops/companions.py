"""What the serve command lets live beside the service."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from steadyocr.ops.alerts.attach import attach_alerts
from steadyocr.ops.flight.companion import FlightRecorder
from steadyocr.service import Service
from steadyocr.service.companions import Companion
from steadyocr.telemetry.loops import Loops

_log = logging.getLogger("steadyocr.service")


class Guarded:
    """A companion whose faults are logged and stay its own: it is not what the service is for.

    Args:
        companion: The one that may fail.
    """

    def __init__(self, companion: Companion) -> None:
        self._companion = companion

    def start(self, loops: Loops) -> None:
        """See :class:`~steadyocr.service.companions.Companion`."""
        try:
            self._companion.start(loops)
        except Exception:  # noqa: BLE001 - whatever it is, pictures are read without it
            _log.exception("The service runs without a companion", extra={"companion": self._name})

    async def stop(self) -> None:
        """See :class:`~steadyocr.service.companions.Companion`."""
        try:
            await self._companion.stop()
        except Exception:  # noqa: BLE001 - the others are still to be stopped
            _log.exception("A companion did not stop in order", extra={"companion": self._name})

    @property
    def _name(self) -> str:
        return type(self._companion).__name__


def _guarded(make: Callable[[Service], Companion]) -> Callable[[Service], Companion]:
    # Making one is not guarded: channels that cannot be used must be told to whoever starts the service.
    return lambda service: Guarded(make(service))


# The recorder first: what alerts point to should lie there when they arrive.
COMPANIONS: Final[tuple[Callable[[Service], Companion], ...]] = (_guarded(FlightRecorder), _guarded(attach_alerts))
