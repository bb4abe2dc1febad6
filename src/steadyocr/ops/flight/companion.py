"""The flight recorder beside a running service: looks at memory, writes records, listens to SIGUSR2."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from steadyocr.ops.files import write_whole
from steadyocr.ops.flight.memory_watch import MemoryWatch
from steadyocr.ops.flight.recorder import Record, Recorder
from steadyocr.ops.flight.request import front_file, start_ticks
from steadyocr.ops.flight.store import FlightStore
from steadyocr.runtime.memory import rss_bytes
from steadyocr.scheduling.engine import EngineState
from steadyocr.service import Service
from steadyocr.settings import Settings
from steadyocr.telemetry.loops import Loops

_log = logging.getLogger("steadyocr.flight")

_LOOK_PERIOD_S: Final = 0.2
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
        self._memory = MemoryWatch()
        self._unwritten: deque[Record] = deque(maxlen=_MAX_UNWRITTEN)
        self._something = asyncio.Event()
        self._unsubscribe: Callable[[], None] = lambda: None
        self._recorder: Recorder | None = None

    def start(self, loops: Loops) -> None:
        """See :class:`~steadyocr.service.companions.Companion`."""
        self._recorder = Recorder(self._memory, self._keep, self._situation, self._store.next_number())
        self._unsubscribe = self._service.events.subscribe(self._recorder.observe)
        loops.start("flight-memory", self._look_for_ever())
        loops.start("flight-writer", self._write_for_ever())
        with contextlib.suppress(ValueError, RuntimeError):  # not in a main thread: then nobody can signal it
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, self._on_request)
        self._announce()

    async def stop(self) -> None:
        """See :class:`~steadyocr.service.companions.Companion`."""
        self._unsubscribe()
        await asyncio.to_thread(self._write)
        front_file(self._store.folder).unlink(missing_ok=True)

    def _announce(self) -> None:
        """Write down which process is to be signalled, so that nobody else ever is."""
        pid = os.getpid()
        try:
            write_whole(front_file(self._store.folder), json.dumps({"pid": pid, "start_ticks": start_ticks(pid)}))
        except OSError:
            _log.exception("The flight folder cannot be written to")

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

    async def _look_for_ever(self) -> None:
        while True:
            engines = (slot.engine for slot in self._service.scheduler.slots)
            busy = [engine.pid for engine in engines if engine is not None and engine.state is EngineState.BUSY]
            self._memory.look(pid for pid in busy if pid is not None)
            await asyncio.sleep(_LOOK_PERIOD_S)

    async def _write_for_ever(self) -> None:
        while True:
            await self._something.wait()
            self._something.clear()
            await asyncio.to_thread(self._write)

    def _write(self) -> None:
        while self._unwritten:
            record = self._unwritten.popleft()
            self._store.save(record.number, record.label, record.body)
