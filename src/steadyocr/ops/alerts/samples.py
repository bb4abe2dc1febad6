"""What is not told on the bus and has to be looked at: idle memory, and whether the job store can be used."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from steadyocr.errors import Draining, NotReady
from steadyocr.ops.alerts.clock import Clock
from steadyocr.ops.alerts.memory_slope import MEMORY_SAMPLE
from steadyocr.runtime.memory import rss_bytes
from steadyocr.scheduling.engine import EngineState
from steadyocr.service import Service
from steadyocr.telemetry.events import Event

JOB_STORE_SAMPLE: Final = "job_store_sample"
_MEMORY_PERIOD_S: Final = 20.0


class Samples:
    """Looks at a service. Costs nothing: no file is read for it but our own memory's, and no store is asked.

    Args:
        service: What is looked at.
        clock: Of the process.
    """

    def __init__(self, service: Service, clock: Clock) -> None:
        self._service = service
        self._clock = clock
        self._next_memory_at = clock.monotonic()

    def __call__(self) -> Iterator[Event]:
        """Return what is to be told to the rules now; to be called about once a second."""
        if not self._service.started:
            return
        yield from self._job_store()
        if self._clock.monotonic() >= self._next_memory_at:
            self._next_memory_at = self._clock.monotonic() + _MEMORY_PERIOD_S
            yield from self._memory()

    def _job_store(self) -> Iterator[Event]:
        trouble = self._service.batches.trouble
        # One that is not open yet, or not any more, is no trouble.
        if not isinstance(trouble, NotReady | Draining):
            code = trouble.code if trouble else ""
            yield Event(JOB_STORE_SAMPLE, self._clock.wall(), {"ok": trouble is None, "code": code})

    def _memory(self) -> Iterator[Event]:
        yield self._memory_of("front", os.getpid(), rss_bytes())
        for slot in self._service.scheduler.slots:
            engine = slot.engine
            if engine is not None and engine.pid is not None and engine.state is EngineState.READY:
                yield self._memory_of(f"engine {slot.index}", engine.pid, engine.rss_bytes)

    def _memory_of(self, who: str, pid: int, rss: int) -> Event:
        return Event(MEMORY_SAMPLE, self._clock.wall(), {"who": who, "pid": pid, "rss_bytes": rss})
