"""The deep check: proof that pictures are answered rightly, at a price that cannot be abused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from steadyocr.errors import DeadlineExceeded, MemoryPressure, QueueFull, RateLimited, SteadyOCRError
from steadyocr.scheduling.items import WorkItem
from steadyocr.scheduling.pressure import PressureLevel
from steadyocr.scheduling.retirement import golden_bound_s
from steadyocr.scheduling.scheduler import Scheduler
from steadyocr.service.progress import gets_on
from steadyocr.telemetry.events import Events
from steadyocr.types import OcrOptions

# A picture answered this recently proves more than another golden run would.
_FRESH_S = 10.0
# In all, with the wait for an engine: busy is not dead.
_GOLDEN_TIMEOUT_S = 15.0
# With work waiting and none in hand for so long, nothing will come: a replacement starts within seconds.
_STANDSTILL_S = 10.0
_LOOK_EVERY_S = 0.1


@dataclass(frozen=True, slots=True)
class Health:
    """Outcome of the deep check.

    Attributes:
        ok: Whether the service answers pictures rightly.
        reason: Why not; empty when ok.
        source: What the verdict rests on: ``traffic`` (a picture was just answered), ``golden`` (the golden picture
            was read for this check), ``busy`` (there was no place for it: whether other work gets on), ``pressure``
            (memory is short, so nothing is read now, and the engines stand ready), ``state``.
    """

    ok: bool
    reason: str
    source: str


class HealthCheck:
    """Passive while real pictures are answered, one shared golden run otherwise.

    Args:
        unready_reason: Why new pictures cannot be served now; empty when they can.
        scheduler: What does the work; asked for only when ready.
        events: Where a verdict of a golden run is told.
    """

    def __init__(self, unready_reason: Callable[[], str], scheduler: Callable[[], Scheduler], events: Events) -> None:
        self._unready_reason = unready_reason
        self._scheduler = scheduler
        self._events = events
        self._lock = asyncio.Lock()
        self._last: tuple[float, Health] | None = None
        self._golden_is_wrong = False
        self._told_ok = True

    async def check(self, fresh_s: float = _FRESH_S) -> Health:
        """Prove that pictures are answered rightly: by traffic if there is any, else by reading the golden picture.

        Concurrent and repeated calls share one golden run, so the check cannot be used to load the service.

        Args:
            fresh_s: A proof is accepted when it is no older than this, in seconds.
        """
        reason = self._unready_reason()
        if reason:
            return Health(False, reason, "state")
        last = self._scheduler().last_success_at
        now = asyncio.get_running_loop().time()
        if last is not None and now - last < fresh_s:
            # Traffic does not show a misreading; that the engine which misread has been replaced does.
            engines = [slot.engine for slot in self._scheduler().slots if slot.engine is not None]
            self._golden_is_wrong &= any(engine.misreads for engine in engines)
            health = Health(True, "", "traffic")
            if not self._told_ok and not self._golden_is_wrong:
                # Whoever was told that it is ill may have no other occasion to hear that it is well.
                self._tell(health)
            return health
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if self._last is None or now - self._last[0] >= fresh_s:
                health = await self._read_golden()
                # From its end: those who have waited for a slow one share it.
                self._last = (asyncio.get_running_loop().time(), health)
                if health.source == "golden":
                    self._golden_is_wrong = not health.ok
                self._tell(health)
            return self._last[1]

    def _tell(self, health: Health) -> None:
        self._told_ok = health.ok
        self._events.emit("golden_checked", ok=health.ok, problem=health.reason, source=health.source)

    def gpu_ok(self) -> bool | None:
        """Whether the accelerator does its work; ``None`` without one, or where nothing can be said about it.

        An engine that is told to use a card serves only after it has read the golden picture rightly with it.
        """
        scheduler = self._scheduler()
        if scheduler.config.slot.engine.device == "cpu":
            return None
        if not scheduler.engine_facts() or self._golden_is_wrong:
            return False
        held = any(slot.engine is not None and slot.engine.device_bytes for slot in scheduler.slots)
        return True if held else None

    async def _read_golden(self) -> Health:
        scheduler, loop = self._scheduler(), asyncio.get_running_loop()
        bound_s = min(golden_bound_s(scheduler.engine_facts()), _GOLDEN_TIMEOUT_S)
        item = WorkItem(b"", OcrOptions(), loop.time() + _GOLDEN_TIMEOUT_S, kind="golden")
        completed = scheduler.completed
        try:
            reply = await scheduler.submit(item)
        except (QueueFull, RateLimited, DeadlineExceeded) as error:
            began = item.course.started_at
            if began is not None and loop.time() - began >= bound_s:
                return Health(False, error.message, "golden")
            return await self._judge_the_busy(scheduler, completed)
        except MemoryPressure as error:
            if scheduler.ladder.level is not PressureLevel.FULL and not self._unready_reason():
                # Somebody else's hunger, perhaps. Who restarts us for it makes nothing better.
                return Health(True, "", "pressure")
            return Health(False, error.message, "golden")
        except SteadyOCRError as error:
            return Health(False, error.message, "golden")
        golden = reply.message["golden"]
        took_s = golden["duration_ms"] / 1000
        if golden["ok"] and took_s > bound_s:
            problem = f"reading the golden picture took {took_s:.1f} s; {bound_s:.1f} s is the bound learnt at start"
            return Health(False, problem, "golden")
        return Health(bool(golden["ok"]), str(golden["problem"]), "golden")

    async def _judge_the_busy(self, scheduler: Scheduler, completed: int) -> Health:
        """Busy is not dead, as long as something gets on: if not this moment, between two pictures, then soon."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + _STANDSTILL_S
        while not gets_on(scheduler, completed):
            if loop.time() >= give_up_at:
                return Health(False, "pictures wait, and no engine gets on with any", "busy")
            await asyncio.sleep(_LOOK_EVERY_S)
        return Health(True, "", "busy")
