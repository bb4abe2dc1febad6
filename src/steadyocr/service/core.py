"""The composition root: builds the parts, owns them, starts, drains and stops them."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import logging
import time
from collections.abc import Mapping
from typing import Any

from steadyocr import __version__
from steadyocr.errors import DeadlineExceeded, NotReady, QueueFull, SteadyOCRError
from steadyocr.imaging.header import ImageHeader, check_limits, check_size, probe
from steadyocr.runtime.manifest import find_model
from steadyocr.scheduling.items import Priority, Reply, WorkItem
from steadyocr.scheduling.scheduler import Scheduler
from steadyocr.service.batches import Batches
from steadyocr.service.body_budget import BodyBudget
from steadyocr.service.companions import Companion
from steadyocr.service.health import HealthCheck
from steadyocr.service.page import PageBackend
from steadyocr.service.watch import Watch
from steadyocr.settings import Settings
from steadyocr.telemetry.events import Events
from steadyocr.telemetry.loops import Loops
from steadyocr.types import OcrOptions

_log = logging.getLogger("steadyocr.service")

_DISK_FLOOR_BYTES = 1 << 30


class Service:
    """Everything below the HTTP surface, with one way in: :meth:`read`.

    Attributes:
        events: What happens here is told here; see :mod:`steadyocr.telemetry.events`.
        watch: Tells of readiness and of the disk.
        batches: Batch jobs.
        page: What stands behind the web page.
        bodies: Where the bytes are counted that requests hold.
        check_health: The deep check; see :meth:`steadyocr.service.health.HealthCheck.check`.

    Args:
        settings: The whole tree.
        with_jobs: Whether batch jobs are taken in and worked off here. Without, what concerns them is refused.
        with_page: Whether what the page keeps is looked after here: by the one service whose data folder it is.
    """

    def __init__(self, settings: Settings, *, with_jobs: bool = False, with_page: bool = False) -> None:
        self.settings = settings
        self.limits = settings.image_limits()
        self.batches = Batches(settings, self._read_for_job)
        self.page = PageBackend(
            settings, lambda item: self.scheduler.submit(item), lambda: self.bodies.share(), self.change_detector
        )
        self._with_jobs = with_jobs
        self._with_page = with_page
        self.started_at = time.time()
        self.events = Events()
        # Not below what makes jobs refused: somebody is to be told before, or at least then.
        floor_bytes = max(_DISK_FLOOR_BYTES, settings.jobs.min_free_bytes)
        self.watch = Watch(self.events, self.unready_reason, settings.data_dir, floor_bytes=floor_bytes)
        self._loops = Loops(self.events)
        self._scheduler: Scheduler | None = None
        self._companions: list[Companion] = []
        self.bodies = BodyBudget(settings.body_budget_bytes(), self._expected_wait_s, self._note_full)
        self._health = HealthCheck(self.unready_reason, lambda: self.scheduler, self.events)
        self.check_health = self._health.check

    @property
    def scheduler(self) -> Scheduler:
        """The scheduler, once started."""
        if self._scheduler is None:
            raise RuntimeError("the service is not started")
        return self._scheduler

    @property
    def started(self) -> bool:
        """Whether the engines have been asked to start."""
        return self._scheduler is not None

    def attach(self, companion: Companion) -> None:
        """Let something live beside this service. Call it before :meth:`start`."""
        self._companions.append(companion)

    async def start(self) -> None:
        """Start the engines and wait until the first one is ready.

        Raises:
            SteadyOCRError: Why no engine can be had.
        """
        self._scheduler = Scheduler(self.settings.scheduler_config(), self._loops, events=self.events)
        for companion in self._companions:
            companion.start(self._loops)
        self._loops.start("watch", self.watch.run())
        try:
            if self._with_jobs:
                await self.batches.start(self._loops)
            if self._with_page:
                self._loops.start("page", self.page.run())
            await self._scheduler.start()
        except BaseException:
            await self.stop()
            raise
        self.batches.work()

    async def stop(self) -> None:
        """Drain within the bound, then end everything. Safe to call twice."""
        if self._scheduler is None:
            return
        self.events.emit("drain_started")
        # At once: to put jobs back may take long where their store is away.
        self._scheduler.refuse_new()
        # Beside the drain: a run that is stopped may take a while to write its checkpoint.
        laboratory = asyncio.create_task(self.page.stop(), name="page-stop")
        # Jobs first: what they have in hand goes back to their queue, so that only people are waited for.
        await self.batches.drain()
        drained = await self._scheduler.drain(self.settings.server.drain_timeout_s)
        if not drained:
            _log.warning("Stopped with work unfinished", extra={"waiting": len(self._scheduler.queue)})
        self.events.emit("drain_ended", clean=drained)
        await laboratory
        await self._loops.stop()
        await self._scheduler.stop()
        for companion in self._companions:
            await companion.stop()
        await self.batches.close()

    async def read(
        self,
        data: bytes,
        options: OcrOptions,
        *,
        timeout_s: float | None = None,
        priority: Priority = Priority.INTERACTIVE,
        client: str = "",
        request_id: str | None = None,
        extras: Mapping[str, bool] | None = None,
    ) -> Reply:
        """Read one picture. The one way in, for every entrance.

        Args:
            data: The encoded picture.
            options: What to do with it.
            timeout_s: Seconds until nobody waits any more; the configured default when ``None``. None left is fine:
                the time may have been spent on the way here.
            priority: Who goes first.
            client: Who sent it, for fairness; an opaque name.
            request_id: For the logs.
            extras: What the engine shall return beside the page, see :class:`steadyocr.pipeline.extras.Extras`.

        Raises:
            InputError: The header says at once that the picture cannot be read here.
            DeadlineExceeded: There is no time left.
            SteadyOCRError: See :meth:`Scheduler.submit`.
        """
        try:
            if timeout_s is not None and timeout_s <= 0:
                raise DeadlineExceeded("the time allowed had run out before the picture could be read")
            header = self._inspect(data)
        except SteadyOCRError as error:
            self.events.emit("item_refused", code=error.code)
            raise
        if options.max_side is None and self.settings.models.max_side:
            options = dataclasses.replace(options, max_side=self.settings.models.max_side)
        wanted = self.settings.queue.timeout_s if timeout_s is None else timeout_s
        allowed = min(wanted, self.settings.queue.max_timeout_s)
        deadline = asyncio.get_running_loop().time() + allowed
        item = WorkItem(data, options, deadline, priority=priority, client=client, header=header, request_id=request_id)
        if extras is not None:
            item.extra["extras"] = dict(extras)
        return await self.scheduler.submit(item)

    async def _read_for_job(
        self, data: bytes, options: OcrOptions, *, priority: Priority, client: str, request_id: str | None
    ) -> Reply:
        """Read a picture of a job. Nobody waits at the door, so it may take the longest time that is allowed."""
        timeout_s = self.settings.queue.max_timeout_s
        return await self.read(
            data, options, timeout_s=timeout_s, priority=priority, client=client, request_id=request_id
        )

    @property
    def detector(self) -> str:
        """Name of the detector that serves, which may be another than that of the start."""
        return self._scheduler.config.slot.engine.detector if self._scheduler else self.settings.models.detector

    async def change_detector(self, name: str) -> None:
        """Serve with another detector from now on; pictures go on being answered meanwhile.

        Raises:
            ModelMissing: There is no such model.
            SteadyOCRError: It does not prove itself; everything stays as it was. Where memory has no room for two
                engines at a time, the old one leaves first.
        """
        find_model(name, self.settings.data_dir / "models")
        engine = self.scheduler.config.slot.engine
        await self.scheduler.change_engines(dataclasses.replace(engine, detector=name))

    def _inspect(self, data: bytes) -> ImageHeader:
        """Refuse what can be refused without decoding; return what the picture says about itself."""
        check_size(len(data), self.limits)
        header = probe(data)
        check_limits(header, self.limits)
        quarantine = self.scheduler.quarantine
        if quarantine.may_hold(len(data)):
            quarantine.check(hashlib.sha256(data).hexdigest())
        return header

    def unready_reason(self) -> str:
        """Why new pictures cannot be served now; empty when they can. Costs nothing."""
        if self._loops.dead:
            return "a loop died: " + ", ".join(sorted(self._loops.dead))
        if self._scheduler is None:
            return "not started"
        if self._scheduler.draining:
            return "shutting down"
        if not self._scheduler.ready:
            return "no engine is ready"
        return "the service itself holds nearly all memory that it may have" if self._scheduler.outgrown else ""

    def refuse_early(self, client: str = "") -> None:
        """Refuse new work that is sure to be refused, before its body is read.

        Raises:
            Unavailable: Draining, not ready or full; the error says when a retry is worth while.
        """
        if self._scheduler is None:
            self.events.emit("item_refused", code=NotReady.code)
            raise NotReady("the service is starting", retry_after_s=2.0)
        self._scheduler.refuse_early(client)

    def branch_loops(self) -> Loops:
        """Return loops for another owner, whose death takes this service's readiness as well."""
        return self._loops.branch()

    def _expected_wait_s(self) -> float:
        return self._scheduler.queue.expected_wait_s() if self._scheduler else 1.0

    def _note_full(self) -> None:
        self.events.emit("item_refused", code=QueueFull.code)
        if self._scheduler is not None:
            queue = self._scheduler.queue
            self.events.emit("queue_full", waiting=len(queue), max_size=queue.max_size)

    def gpu_ok(self) -> bool | None:
        """Whether the accelerator works; ``None`` without one, or where nothing can be said about it."""
        return self._health.gpu_ok() if self._scheduler else None

    def models(self) -> dict[str, Any]:
        """The models that serve, by part; empty before an engine was ready."""
        facts = self._scheduler.engine_facts() if self._scheduler else {}
        models: dict[str, Any] = facts.get("models", {})
        return models

    def option_defaults(self) -> dict[str, Any]:
        """The serving detector's own defaults, as the settings change them; empty before an engine was ready."""
        facts = self._scheduler.engine_facts() if self._scheduler else {}
        defaults: dict[str, Any] = facts.get("defaults", {})
        side = self.settings.models.max_side
        return {**defaults, "max_side": side} if defaults and side else defaults

    def info(self) -> dict[str, Any]:
        """Version, models, engines, queue and effective settings without secrets, as plain values."""
        models = self.settings.models.model_copy(update={"detector": self.detector})
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
            "bodies": {"held_bytes": self.bodies.held_bytes, "budget_bytes": self.bodies.budget_bytes},
            "memory": self._memory_facts(),
            "quarantined": len(self.scheduler.quarantine),
            "jobs": self.batches.describe(),
            "settings": self.settings.model_copy(update={"models": models}).model_dump(mode="json"),
        }

    def _memory_facts(self) -> dict[str, Any]:
        scheduler = self.scheduler
        return {
            "pressure": scheduler.ladder.level.name.lower(),
            "budget_bytes": scheduler.governor.budget_bytes,
            "available_bytes": round(scheduler.governor.available_bytes),
            "reserved_bytes": scheduler.governor.reserved_bytes,
            "fit": scheduler.contract.fit.to_wire(),
            "headroom_bytes": round(scheduler.governor.headroom_bytes),
            "predicted_within_20_percent": scheduler.contract.within_20_percent,
            "predictions": dataclasses.asdict(scheduler.contract.book),
            "device_used": scheduler.device.used,
            "degraded": scheduler.degraded,
        }
