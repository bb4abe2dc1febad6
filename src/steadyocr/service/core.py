"""The composition root: builds the parts, owns them, starts, drains and stops them."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from dataclasses import dataclass
from typing import Any

from steadyocr import __version__
from steadyocr.errors import NotReady, QueueFull, SteadyOCRError
from steadyocr.imaging.header import ImageLimits, check_limits, check_size, probe
from steadyocr.scheduling.items import Priority, Reply, WorkItem
from steadyocr.scheduling.scheduler import Scheduler
from steadyocr.settings import Settings
from steadyocr.telemetry.loops import Loops
from steadyocr.types import OcrOptions

_log = logging.getLogger("steadyocr.service")

# A picture answered this recently proves more than another golden run would.
_FRESH_S = 10.0
_GOLDEN_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class Health:
    """Outcome of the deep check.

    Attributes:
        ok: Whether the service answers pictures rightly.
        reason: Why not; empty when ok.
        source: What the verdict rests on: ``traffic`` (a picture was just answered), ``golden`` (the golden picture
            was read for this check), ``queue`` (busy, and busy is not dead), ``state``.
    """

    ok: bool
    reason: str
    source: str


class Service:
    """Everything below the HTTP surface, with one way in: :meth:`read`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.limits = ImageLimits(
            max_bytes=settings.limits.max_bytes,
            max_pixels=settings.limits.max_pixels,
            max_side_ratio=settings.limits.max_side_ratio,
        )
        self.started_at = time.time()
        self._loops = Loops()
        self._scheduler: Scheduler | None = None
        self._health_lock = asyncio.Lock()
        self._last_health: tuple[float, Health] | None = None

    @property
    def scheduler(self) -> Scheduler:
        """The scheduler, once started."""
        if self._scheduler is None:
            raise RuntimeError("the service is not started")
        return self._scheduler

    async def start(self) -> None:
        """Start the engines and wait until the first one is ready.

        Raises:
            SteadyOCRError: Why no engine can be had.
        """
        self._scheduler = Scheduler(self.settings.scheduler_config(), self._loops)
        try:
            await self._scheduler.start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Drain within the bound, then end everything. Safe to call twice."""
        if self._scheduler is None:
            return
        drained = await self._scheduler.drain(self.settings.server.drain_timeout_s)
        if not drained:
            _log.warning("Stopped with work unfinished", extra={"waiting": len(self._scheduler.queue)})
        await self._loops.stop()
        await self._scheduler.stop()

    async def read(
        self,
        data: bytes,
        options: OcrOptions,
        *,
        timeout_s: float | None = None,
        priority: Priority = Priority.INTERACTIVE,
        client: str = "",
        request_id: str | None = None,
    ) -> Reply:
        """Read one picture. The one way in, for every entrance.

        Args:
            data: The encoded picture.
            options: What to do with it.
            timeout_s: Seconds until nobody waits any more; the configured default when ``None``.
            priority: Who goes first.
            client: Who sent it, for fairness; an opaque name.
            request_id: For the logs.

        Raises:
            InputError: The header says at once that the picture cannot be read here.
            SteadyOCRError: See :meth:`Scheduler.submit`.
        """
        check_size(len(data), self.limits)
        header = probe(data)
        check_limits(header, self.limits)
        quarantine = self.scheduler.quarantine
        if len(quarantine):
            quarantine.check(hashlib.sha256(data).hexdigest())
        allowed = min(timeout_s or self.settings.queue.timeout_s, self.settings.queue.max_timeout_s)
        deadline = asyncio.get_running_loop().time() + allowed
        item = WorkItem(data, options, deadline, priority=priority, client=client, header=header, request_id=request_id)
        return await self.scheduler.submit(item)

    def unready_reason(self) -> str:
        """Why new pictures cannot be served now; empty when they can. Costs nothing."""
        if self._loops.dead:
            return "a loop died: " + ", ".join(sorted(self._loops.dead))
        if self._scheduler is None:
            return "not started"
        if self._scheduler.draining:
            return "shutting down"
        return "" if self._scheduler.ready else "no engine is ready"

    def refuse_early(self, client: str = "") -> None:
        """Refuse new work that is sure to be refused, before its body is read.

        Raises:
            Unavailable: Draining, not ready or full; the error says when a retry is worth while.
        """
        if self._scheduler is None:
            raise NotReady("the service is starting", retry_after_s=2.0)
        self._scheduler.refuse_early(client)

    async def check_health(self) -> Health:
        """Prove that pictures are answered rightly: by traffic if there is any, else by reading the golden picture.

        Concurrent and repeated calls share one golden run, so the check cannot be used to load the service.
        """
        reason = self.unready_reason()
        if reason:
            return Health(False, reason, "state")
        last = self.scheduler.last_success_at
        now = asyncio.get_running_loop().time()
        if last is not None and now - last < _FRESH_S:
            return Health(True, "", "traffic")
        async with self._health_lock:
            now = asyncio.get_running_loop().time()
            if self._last_health is None or now - self._last_health[0] >= _FRESH_S:
                self._last_health = (now, await self._read_golden())
            return self._last_health[1]

    async def _read_golden(self) -> Health:
        deadline = asyncio.get_running_loop().time() + _GOLDEN_TIMEOUT_S
        try:
            reply = await self.scheduler.submit(WorkItem(b"", OcrOptions(), deadline, kind="golden"))
        except QueueFull:
            return Health(True, "", "queue")
        except SteadyOCRError as error:
            return Health(False, error.message, "golden")
        golden = reply.message["golden"]
        return Health(bool(golden["ok"]), str(golden["problem"]), "golden")

    def models(self) -> dict[str, Any]:
        """The models that serve, by part; empty before an engine was ready."""
        facts = self._scheduler.engine_facts() if self._scheduler else {}
        models: dict[str, Any] = facts.get("models", {})
        return models

    def option_defaults(self) -> dict[str, Any]:
        """The serving detector's own defaults; empty before an engine was ready."""
        facts = self._scheduler.engine_facts() if self._scheduler else {}
        defaults: dict[str, Any] = facts.get("defaults", {})
        return defaults

    def info(self) -> dict[str, Any]:
        """Version, models, engines, queue and effective settings without secrets, as plain values."""
        return {
            "version": __version__,
            "started_at": self.started_at,
            "models": self.models(),
            "defaults": self.option_defaults(),
            "engines": [slot.describe() for slot in self.scheduler.slots],
            "queue": {
                "waiting": len(self.scheduler.queue),
                "max_size": self.scheduler.queue.max_size,
                "completed": self.scheduler.completed,
            },
            "memory": self._memory_facts(),
            "quarantined": len(self.scheduler.quarantine),
            "settings": self.settings.model_dump(mode="json"),
        }

    def _memory_facts(self) -> dict[str, Any]:
        scheduler = self.scheduler
        return {
            "pressure": scheduler.ladder.level.name.lower(),
            "budget_bytes": scheduler.governor.budget_bytes,
            "available_bytes": round(scheduler.governor.available_bytes),
            "reserved_bytes": scheduler.governor.reserved_bytes,
            "fit": scheduler.contract.fit.to_wire(),
            "predicted_within_20_percent": scheduler.contract.within_20_percent,
            "degraded": scheduler.degraded,
        }
