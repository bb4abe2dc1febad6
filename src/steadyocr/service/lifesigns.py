"""Signs of life for the service manager: its watchdog is fed by work that gets on, never by a mere timer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from steadyocr.scheduling.scheduler import Scheduler
from steadyocr.service.core import Service
from steadyocr.telemetry.notify import Notifier

# Four proofs fit into the watchdog's patience, so that one that comes late does no harm.
_PROOFS_PER_WATCHDOG = 4
_STATUS_PERIOD_S = 15.0
# While models load: ask for so much time, so often. A start that never ends is ended by the slots' own limits.
_START_EXTENSION_S = 20.0
_START_PERIOD_S = 5.0


class LifeSigns:
    """Tells a service manager how a service is.

    Args:
        service: What is told about.
        notifier: Who is told.
    """

    def __init__(self, service: Service, notifier: Notifier) -> None:
        self._service = service
        self._notifier = notifier
        self._period_s = _STATUS_PERIOD_S
        if notifier.watchdog_s is not None:
            self._period_s = min(_STATUS_PERIOD_S, notifier.watchdog_s / _PROOFS_PER_WATCHDOG)

    @contextlib.asynccontextmanager
    async def starting(self) -> AsyncIterator[None]:
        """Ask for patience for as long as the models load."""
        self._notifier.status("loading models")
        asking = asyncio.create_task(self._ask_for_patience(), name="start-patience")
        try:
            yield
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def run(self) -> None:
        """Say how things are for ever; feed the watchdog only on proof that the service works."""
        while True:
            await asyncio.sleep(self._period_s)
            if self._notifier.watchdog_s is not None and await self._proved():
                self._notifier.alive()
            self._notifier.status(self.status())

    def status(self) -> str:
        """One line for a person."""
        reason = self._service.unready_reason()
        if reason:
            return f"not ready: {reason}"
        scheduler: Scheduler = self._service.scheduler
        up = sum(slot.ready for slot in scheduler.slots)
        restarts = sum(slot.restarts for slot in scheduler.slots)
        return (
            f"ready: {up} of {len(scheduler.slots)} engines up, {restarts} restarts, {len(scheduler.queue)} waiting, "
            f"{scheduler.completed} done, memory {scheduler.ladder.level.name.lower()}"
        )

    async def _proved(self) -> bool:
        """Whether a picture was answered rightly since the last look: somebody's, else the golden one, read for this.

        With no place for the golden one, work that gets on counts; and while memory is short, that engines stand ready.
        """
        return (await self._service.check_health(fresh_s=self._period_s)).ok

    async def _ask_for_patience(self) -> None:
        while True:
            self._notifier.extend_timeout(_START_EXTENSION_S)
            await asyncio.sleep(_START_PERIOD_S)
