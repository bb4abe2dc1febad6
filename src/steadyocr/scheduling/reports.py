"""What the scheduler tells the event bus. Counts and facts only; no decision is made here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from steadyocr.errors import QueueFull, SteadyOCRError
from steadyocr.scheduling.admission import AdmissionQueue
from steadyocr.scheduling.deaths import Death, DeathCause, classify, memory_kills, signal_name
from steadyocr.scheduling.engine import EngineProcess
from steadyocr.scheduling.items import WorkItem
from steadyocr.scheduling.memory_contract import MemoryContract
from steadyocr.scheduling.pressure import PressureLevel
from steadyocr.telemetry.events import Events

if TYPE_CHECKING:
    from steadyocr.scheduling.slot import Slot


class Reports:
    """Turns what happens to items and engines into events. Each item is reported once, however it ends."""

    def __init__(self, events: Events, contract: MemoryContract) -> None:
        self._events = events
        self._contract = contract
        self._memory_kills = memory_kills()

    @contextmanager
    def refusals(self, queue: AdmissionQueue) -> Iterator[None]:
        """Report what is refused inside."""
        try:
            yield
        except SteadyOCRError as error:
            self._events.emit("item_refused", code=error.code)
            if isinstance(error, QueueFull):
                self._events.emit("queue_full", waiting=len(queue), max_size=queue.max_size)
            raise

    def ran_short(self, item: WorkItem) -> None:
        """Report that an engine had not enough memory for an item that is tried again."""
        reason = "allocator" if item.course.allocation_failed else "memory_pressure"
        self._events.emit("memory_event", where="engine", reason=reason)

    def item_left(self, item: WorkItem) -> None:
        """Report an item, once it is settled and no engine has it in hand any more."""
        course = item.course
        if course.reported or course.in_hand or not item.abandoned:
            return
        course.reported = True
        code = _code_of(item)
        if code == "memory_pressure":
            began = course.started_at is not None
            reason = "allocator" if course.allocation_failed else "memory_pressure"
            self._events.emit("memory_event", where="engine" if began else "admission", reason=reason)
        self._events.emit("item_finished", **self._course(item), code=code, ok=code == "ok", **_answer(item))

    def _course(self, item: WorkItem) -> dict[str, Any]:
        course, header = item.course, item.header
        now = asyncio.get_running_loop().time()
        began = course.started_at
        return {
            "kind": item.kind,
            "priority": item.priority.name.lower(),
            "request_id": item.request_id,
            "attempts": item.attempts,
            "slot": course.slot,
            "width": header.width if header else None,
            "height": header.height if header else None,
            "predicted_bytes": round(self._contract.predicted_peak_bytes(item)) if header else None,
            "peak_bytes": course.peak_bytes,
            "rss_bytes": course.rss_bytes,
            "wait_s": round((began if began is not None else now) - course.queued_at, 6),
            "service_s": round((course.settled_at or now) - began, 6) if began is not None else None,
        }

    def engine_died(self, slot: Slot) -> None:
        """Report that the engine of a slot ended although nobody wanted it to."""
        engine = slot.engine
        death = slot.death or self._explain(engine)
        code = death.exit_code
        cause = death.cause.value if engine is not None and engine.ready else "start_failed"
        self._events.emit(
            "engine_died",
            slot=slot.index,
            pid=engine.pid if engine else None,
            cause=cause,
            exit_code=code,
            signal=signal_name(-code) if code is not None and code < 0 else None,
            stage=death.stage,
            rss_bytes=engine.rss_bytes if engine else 0,
            peak_bytes=(engine.taken_bytes or None) if engine else None,
            uptime_s=round(time.monotonic() - slot.engine_since, 3),
            item=self._item_in_hand(slot.item) if slot.item else None,
        )
        if death.cause is DeathCause.OUT_OF_MEMORY:
            self._events.emit("memory_event", where="engine", reason="killed")
        self._memory_kills = memory_kills()

    def _explain(self, engine: EngineProcess | None) -> Death:
        """Say how an engine ended that had nothing in hand."""
        code = engine.exit_code if engine else None
        cause = classify(code, killed_by_us=False, out_of_memory=memory_kills() > self._memory_kills)
        return Death(cause, code, None)

    def _item_in_hand(self, item: WorkItem) -> dict[str, Any]:
        header, began = item.header, item.course.started_at
        return {
            "kind": item.kind,
            "width": header.width if header else None,
            "height": header.height if header else None,
            "predicted_bytes": round(self._contract.predicted_peak_bytes(item)),
            "running_s": round(asyncio.get_running_loop().time() - began, 3) if began is not None else None,
            "step": list(item.cap.steps) if item.cap else [],
            "cap": item.cap.max_side if item.cap else None,
            "attempts": item.attempts,
            "request_id": item.request_id,
        }

    def quarantined(self, item: WorkItem, sha256: str, death: Death, deaths: int) -> None:
        """Report a condemned picture and how many engines it has ended."""
        header = item.header
        self._events.emit(
            "quarantined",
            sha256=sha256,
            width=header.width if header else None,
            height=header.height if header else None,
            deaths=deaths,
            cause=death.cause.value,
        )

    def pressure_changed(self, before: PressureLevel, after: PressureLevel, used: float) -> None:
        """Report a step on the pressure ladder."""
        self._events.emit("pressure_changed", before=before.name.lower(), after=after.name.lower(), used=round(used, 3))

    def engine_state(self, slot: int, engine: EngineProcess, before: str, after: str) -> None:
        """Report a step in an engine's life."""
        self._events.emit("engine_state", slot=slot, pid=engine.pid, before=before, after=after)


def _code_of(item: WorkItem) -> str:
    """How a settled item ended: ``ok``, an error's code, or ``cancelled`` when its client went away."""
    if item.outcome.cancelled():
        settled_at = item.course.settled_at
        return "deadline_exceeded" if settled_at is not None and settled_at >= item.deadline else "cancelled"
    error = item.outcome.exception()
    if error is None:
        return "ok"
    return error.code if isinstance(error, SteadyOCRError) else "internal"


def _answer(item: WorkItem) -> dict[str, Any]:
    """What the answer says about the work: counts and times, never the text."""
    page = item.outcome.result().message.get("page", {}) if item.answered else {}
    degraded = page.get("degraded") or {}
    return {
        "lines": len(page.get("lines", ())),
        "timings_ms": dict(page.get("timings_ms", {})),
        "degraded": list(degraded.get("steps", ())),
    }
