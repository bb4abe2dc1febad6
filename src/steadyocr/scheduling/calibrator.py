"""Measures what pictures cost in memory, through the same way in as everybody, when nobody else wants the engines."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from steadyocr.errors import (
    Cancelled,
    DeadlineExceeded,
    Draining,
    MemoryPressure,
    NotReady,
    QueueFull,
    RateLimited,
    SteadyOCRError,
)
from steadyocr.scheduling.items import Priority, Reply, WorkItem
from steadyocr.scheduling.memory_contract import MemoryContract
from steadyocr.types import OcrOptions

_log = logging.getLogger("steadyocr.calibrator")

_STEP_S = 60.0
_LOOK_EVERY_S = 1.0
_FIRST_PAUSE_S = 5.0
_LONGEST_PAUSE_S = 600.0
# Of those that say that it cannot be done here, not that it cannot be done now.
_MAX_FAILURES = 3
# The service is busy, or too short of something; later may be better.
_LATER = (QueueFull, RateLimited, NotReady, MemoryPressure, DeadlineExceeded)


class Calibrator:
    """Measures once for each model, step by step; what was measured before a pause is kept.

    Args:
        submit: The way in.
        contract: Told the fitted model.
        idle: Whether nobody waits for an engine, and all engines have the same model.
    """

    def __init__(
        self,
        submit: Callable[[WorkItem], Awaitable[Reply]],
        contract: MemoryContract,
        idle: Callable[[], bool],
    ) -> None:
        self._submit = submit
        self._contract = contract
        self._idle = idle
        self._samples: list[dict[str, Any]] = []
        self._steps = 1
        self._other_model = asyncio.Event()

    async def run(self) -> None:
        """Measure what is not known, and rest until there is another model.

        It never ends: a loop that does counts as dead, and a service without a measurement serves well.
        """
        while True:
            self._other_model.clear()
            try:
                await self._measure()
            except Exception:  # noqa: BLE001 - whatever is wrong here, pictures are read as before
                _log.exception("Memory could not be measured; a cautious guess stays")
            await self._other_model.wait()

    def start_over(self) -> None:
        """Forget what was measured: it was another model."""
        self._samples, self._steps = [], 1
        self._other_model.set()

    async def _measure(self) -> None:
        failures, pause_s = 0, _FIRST_PAUSE_S
        while not self._contract.fit.samples:
            try:
                await self._go_on()
            except (Draining, Cancelled):
                return
            except _LATER as error:
                _log.info("Memory is measured later: the service is busy", extra={"reason": error.message})
            except SteadyOCRError as error:
                failures += 1
                if failures >= _MAX_FAILURES:
                    _log.warning(
                        "Memory could not be measured; a cautious guess stays", extra={"reason": error.message}
                    )
                    return
            else:
                return
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _go_on(self) -> None:
        samples = self._samples
        while len(samples) < self._steps:
            while not self._idle():  # noqa: ASYNC110 - it never is for long, and nothing hangs on the moment
                await asyncio.sleep(_LOOK_EVERY_S)
            reply = await self._ask("calibrate", step=len(samples))
            if samples is not self._samples:
                return
            samples.append(reply["sample"])
            self._steps = reply["steps"]
        fit = (await self._ask("fit", samples=samples))["memory_fit"]
        # Of engines that are gone by now it says nothing.
        if samples is self._samples:
            self._contract.learn_fit(fit)
            _log.info("Memory is measured", extra={"fit": self._contract.fit.to_wire()})

    async def _ask(self, kind: Literal["calibrate", "fit"], **extra: object) -> dict[str, Any]:
        """One small item at a time and at batch priority, so that nobody waits for it."""
        deadline = asyncio.get_running_loop().time() + _STEP_S
        item = WorkItem(b"", OcrOptions(), deadline, kind=kind, priority=Priority.BATCH, client=__name__, extra=extra)
        return (await self._submit(item)).message
