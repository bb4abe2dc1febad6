"""What runs beside a service without the service knowing what it is: alerts, the flight recorder."""

from __future__ import annotations

from typing import Protocol

from steadyocr.telemetry.loops import Loops


class Companion(Protocol):
    """Lives as long as the service it is attached to."""

    def start(self, loops: Loops) -> None:
        """Begin, before the first engine is started. What runs for long is started through `loops`."""

    async def stop(self) -> None:
        """Finish, after the last engine has ended and the loops are stopped."""
