"""The flight recorder beside a running service: looks at memory, writes records, listens to SIGUSR2."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from steadyocr.ops.flight.front import FrontFile, Predecessor
from steadyocr.ops.flight.memory_watch import MemoryWatch
from steadyocr.ops.flight.recorder import Record, Recorder
from steadyocr.ops.flight.store import FlightStore
from steadyocr.ops.repeating import repeat
from steadyocr.runtime.memory import rss_bytes
from steadyocr.scheduling.engine import EngineState
from steadyocr.service import Service
from steadyocr.settings import Settings
from steadyocr.telemetry.loops import Loops

_log = logging.getLogger("steadyocr.flight")

_LOOK_PERIOD_S: Final = 0.2
# How the service is gets written down so often, for the case that it is killed.
_FRONT_PERIOD_S: Final = 15.0
_FRONT_EVENTS: Final = 16
_FAULT: Final = "A part of the flight recorder failed"
# Records that wait to be written; beyond it the oldest are forgotten, while the disk hangs.
_MAX_UNWRITTEN: Final = 32


def flight_store(settings: Settings) -> FlightStore:
    """Return where the records of a service lie."""
    return FlightStore(settings.data_dir / "flight")


class FlightRecorder:
    """Runs beside a service; nothing that goes wrong here reaches it."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._store = flight_store(service.settings)
        self._front = FrontFile(self._store.folder)
        self._memory = MemoryWatch()
        self._unwritten: deque[Record] = deque(maxlen=_MAX_UNWRITTEN)
        self._something = asyncio.Event()
        self._unsubscribe: Callable[[], None] = lambda: None
        self._recorder: Recorder | None = None
        self._predecessor: Predecessor | None = None

    def start(self, loops: Loops) -> None:
        """See :class:`~steadyocr.service.companions.Companion`."""
        self._recorder = Recorder(self._memory, self._keep, self._situation, self._store.next_number())
        self._unsubscribe = self._service.events.subscribe(self._recorder.observe)
        self._predecessor = self._front.predecessor()
        loops.start("flight-memory", repeat(self._look, _LOOK_PERIOD_S, _log, _FAULT))
        loops.start("flight-writer", repeat(self._write_what_comes, 0, _log, _FAULT))
        loops.start("flight-front", repeat(partial(self._tell_of_front, self._recorder), 0, _log, _FAULT))
        with contextlib.suppress(ValueError, RuntimeError):  # not in a main thread: then nobody can signal it
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, self._on_request)
        # At once: whoever is killed while it loads its models is to be found as well.
        self._announce(self._recorder.situation(), [])

    async def stop(self) -> None:
        """See :class:`~steadyocr.service.companions.Companion`."""
        self._unsubscribe()
        await asyncio.to_thread(self._write)
        try:
            await asyncio.to_thread(self._front.remove)
        except OSError:
            _log.exception("The flight folder cannot be written to; the next start takes this end for a kill")

    def _announce(self, situation: dict[str, Any], events: list[dict[str, Any]]) -> None:
        """Write down which process is to be signalled, so that nobody else ever is, and how it is."""
        try:
            self._front.write(situation, events)
        except OSError:
            _log.exception("The flight folder cannot be written to")

    async def _tell_of_front(self, recorder: Recorder) -> None:
        # In a loop and not at the start: by now everybody who is attached to the service listens.
        predecessor, self._predecessor = self._predecessor, None
        if predecessor is not None:
            self._tell_of(recorder, predecessor)
        await asyncio.sleep(_FRONT_PERIOD_S)
        await asyncio.to_thread(self._announce, recorder.situation(), recorder.last_events(_FRONT_EVENTS))

    def _tell_of(self, recorder: Recorder, predecessor: Predecessor) -> None:
        known = predecessor.situation
        _log.warning(
            "The last service ended without a word",
            extra={"dead_pid": predecessor.pid, "reason": predecessor.reason, "uptime_s": predecessor.uptime_s},
        )
        self._service.events.emit(
            "service_died",
            pid=predecessor.pid,
            reason=predecessor.reason,
            uptime_s=predecessor.uptime_s,
            rss_bytes=known.get("front_rss_bytes"),
            waiting=known.get("waiting"),
        )
        recorder.service_died(predecessor)

    def _on_request(self) -> None:
        if self._recorder is not None:
            self._recorder.write("requested", "somebody asked for it")

    def _keep(self, record: Record) -> None:
        if record not in self._unwritten:
            self._unwritten.append(record)
        self._something.set()

    def _situation(self) -> dict[str, Any]:
        scheduler = self._service.scheduler
        return {
            "front_rss_bytes": rss_bytes(),
            "waiting": len(scheduler.queue),
            "budget_bytes": scheduler.governor.budget_bytes,
            "reserved_bytes": scheduler.governor.reserved_bytes,
            "unready": self._service.unready_reason(),
            "engines": [
                {"slot": slot.index, "state": slot.engine.state.value, "rss_bytes": slot.engine.rss_bytes}
                for slot in scheduler.slots
                if slot.engine is not None
            ],
        }

    async def _look(self) -> None:
        engines = (slot.engine for slot in self._service.scheduler.slots if slot.engine is not None)
        busy = (engine.pid for engine in engines if engine.state is EngineState.BUSY)
        self._memory.look(pid for pid in busy if pid is not None)

    async def _write_what_comes(self) -> None:
        await self._something.wait()
        self._something.clear()
        try:
            await asyncio.to_thread(self._write)
        finally:
            # After a fault, what is left must not wait for the next record.
            if self._unwritten:
                self._something.set()

    def _write(self) -> None:
        while self._unwritten:
            record = self._unwritten.popleft()
            self._store.save(record.number, record.label, record.body)
