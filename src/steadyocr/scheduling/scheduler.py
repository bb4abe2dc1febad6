"""Admission in front, engine slots behind: every accepted item ends in exactly one answer or one typed error."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steadyocr.errors import (
    Cancelled,
    DeadlineExceeded,
    Draining,
    InternalError,
    MemoryPressure,
    ModelError,
    NotReady,
    SteadyOCRError,
)
from steadyocr.runtime.memory import rss_bytes
from steadyocr.scheduling.admission import AdmissionQueue, Crew
from steadyocr.scheduling.aftermath import Aftermath
from steadyocr.scheduling.calibrator import Calibrator
from steadyocr.scheduling.config import EngineConfig
from steadyocr.scheduling.deaths import Death
from steadyocr.scheduling.device_watch import DeviceWatch
from steadyocr.scheduling.engine import EngineProcess, EngineState
from steadyocr.scheduling.governor import MemoryGovernor, NotWanted, detect_budget_bytes
from steadyocr.scheduling.items import Reply, WorkItem
from steadyocr.scheduling.memory_contract import MemoryContract
from steadyocr.scheduling.pressure import (
    LadderParams,
    MemorySignals,
    PressureLadder,
    PressureLevel,
    read_signals,
    with_own_share,
)
from steadyocr.scheduling.quarantine import Quarantine
from steadyocr.scheduling.replacement import replace_engines
from steadyocr.scheduling.reports import Reports
from steadyocr.scheduling.slot import Slot, SlotConfig
from steadyocr.telemetry.events import Events
from steadyocr.telemetry.loops import Loops

_log = logging.getLogger("steadyocr.scheduler")

_PRESSURE_PERIOD_S = 1.0
# With no engine up, new work still waits this long for the replacement; a start takes about two seconds.
_REPLACEMENT_GRACE_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerConfig:
    """How many engines, how long a queue, how much memory.

    Attributes:
        slot: How each engine is treated.
        engines: Engine processes.
        queue_size: Items that may wait; one more is refused.
        max_per_client: Of one client; one more is refused. 0 is no such bound.
        first_starts: Attempts to get the first engine up before the service gives up.
        budget_bytes: Memory of the whole service; 0 takes what cgroup, limits and machine allow.
        device_memory_share: Of an accelerator's memory, that all engines together may take, from 0 to 1.
        calibrate: Measure what pictures cost, when that is not known for this machine.
        ladder: When quality is taken away under memory pressure.
        quarantine_file: Where condemned pictures are remembered; ``None`` forgets them on restart.
    """

    slot: SlotConfig
    engines: int = 1
    queue_size: int = 64
    max_per_client: int = 0
    first_starts: int = 3
    budget_bytes: int = 0
    device_memory_share: float = 0.9
    calibrate: bool = False
    ladder: LadderParams = field(default_factory=LadderParams)
    quarantine_file: Path | None = None


class Scheduler:
    """Owns the queue and the slots. Belongs to one event loop."""

    def __init__(
        self,
        config: SchedulerConfig,
        loops: Loops,
        engine_factory: Callable[[EngineConfig], EngineProcess] = EngineProcess,
        signals: Callable[[], MemorySignals] | None = None,
        events: Events | None = None,
    ) -> None:
        self.config = config
        self.queue = AdmissionQueue(config.queue_size, config.max_per_client, self._crew, self._held_back)
        self.quarantine = Quarantine(config.quarantine_file)
        self.ladder = PressureLadder(config.ladder)
        self.governor = MemoryGovernor(config.budget_bytes or detect_budget_bytes(), config.engines)
        self.contract = MemoryContract(self.governor)
        self.device = DeviceWatch(config.slot.engine.device, config.device_memory_share, self.governor)
        self.reports = Reports(events or Events(), self.contract)
        self.slots = [Slot(index, config.slot, self, engine_factory) for index in range(config.engines)]
        self.completed = 0
        self.degraded = 0
        self.last_success_at: float | None = None
        self._loops = loops
        self._signals = signals or self._read_signals
        self._draining = False
        self._changing = asyncio.Lock()
        self._change: asyncio.Timeout | None = None
        self._taken: set[WorkItem] = set()
        self._outstanding: set[WorkItem] = set()
        self.aftermath = Aftermath(self.queue, self.quarantine, self.contract, self.reports, self._outstanding)
        self._nothing_outstanding = asyncio.Event()
        self._nothing_outstanding.set()
        self._calibrator = Calibrator(self.submit, self.contract, self._may_measure)
        self._first_ready: asyncio.Future[None] | None = None
        self._served_at = -math.inf

    @property
    def outgrown(self) -> bool:
        """Whether all has been refused for minutes, for what the service itself holds."""
        return self.ladder.outgrown(asyncio.get_running_loop().time())

    @property
    def ready(self) -> bool:
        """Whether new work is taken: an engine serves, or one was lost just now and its replacement is starting."""
        if self._draining or self._first_ready is None or not self._first_ready.done():
            return False
        now = asyncio.get_running_loop().time()
        if any(slot.ready for slot in self.slots):
            self._served_at = now
        return now - self._served_at < _REPLACEMENT_GRACE_S

    @property
    def draining(self) -> bool:
        """Whether new work is refused because the service is stopping."""
        return self._draining

    def engine_facts(self) -> dict[str, Any]:
        """What the engines said about models and defaults when they became ready; empty before."""
        for slot in self.slots:
            if slot.engine is not None and slot.engine.ready:
                return slot.engine.ready
        return {}

    async def start(self) -> None:
        """Start the slots and wait until the first engine is ready.

        Raises:
            SteadyOCRError: Why no engine can be had: a model is missing or damaged, or engines die while starting.
        """
        self._first_ready = asyncio.get_running_loop().create_future()
        for slot in self.slots:
            running = self._loops.start(f"engine-slot-{slot.index}", slot.run())
            running.add_done_callback(self._slot_ended)
        self._loops.start("memory-pressure", self._watch_pressure())
        await self._first_ready
        if self.config.calibrate:
            self._loops.start("memory-calibration", self._calibrator.run())

    def _slot_ended(self, running: asyncio.Task[None]) -> None:
        """Give the start up when the loop of a slot dies in it: no engine may ever come, and somebody waits."""
        if not running.cancelled() and self._first_ready is not None and not self._first_ready.done():
            self._first_ready.set_exception(
                InternalError("an engine's loop died while starting; the log has the trace")
            )

    def refuse_early(self, client: str = "") -> None:
        """Refuse what :meth:`submit` would refuse anyway.

        Raises:
            Draining: The service is stopping.
            NotReady: No engine is up.
            MemoryPressure: Memory is so short that new work is shed.
            QueueFull: Too many wait already.
            RateLimited: Too many of this client wait already.
        """
        with self.reports.refusals(self.queue):
            self._refuse(client)

    def _refuse(self, client: str) -> None:
        if self._draining:
            raise Draining("the service is shutting down", retry_after_s=5.0)
        if not self.ready:
            raise NotReady("no engine is ready yet", retry_after_s=2.0)
        if self.ladder.level is PressureLevel.SHED:
            raise MemoryPressure(
                "memory is short; new work is refused for now", retry_after_s=self.ladder.params.calm_s
            )
        self.queue.refuse_when_full(client)

    async def submit(self, item: WorkItem) -> Reply:
        """Queue an item and wait for its outcome.

        Raises:
            DeadlineExceeded: Its deadline passed while it waited or ran.
            EngineDied: Engines died with it in hand.
            Quarantined: It has ended engines, alone.
            SteadyOCRError: See :meth:`refuse_early`, or the engine's own typed answer.
        """
        if item.kind == "run":
            with self.reports.refusals(self.queue):
                self._accept(item)
        else:
            self._accept(item)
        self._outstanding.add(item)
        self._nothing_outstanding.clear()
        try:
            async with asyncio.timeout_at(item.deadline):
                reply = await item.outcome
        except TimeoutError as error:
            began = item.course.started_at is not None
            raise DeadlineExceeded("the time allowed for this picture ran out", began=began) from error
        finally:
            self._outstanding.discard(item)
            self.queue.discard(item)
            if item.course.settled_at is None:
                item.course.settled_at = asyncio.get_running_loop().time()
            self.reports.item_left(item)
            if not self._outstanding:
                self._nothing_outstanding.set()
        # A golden run proves nothing by itself (its verdict does), and neither does an engine that only gives errors.
        # Said here and not by the slot, which has its house-keeping to do before it is done with an item.
        if item.kind == "run":
            self.last_success_at = asyncio.get_running_loop().time()
        return reply

    def _accept(self, item: WorkItem) -> None:
        self._refuse(item.client)
        self.queue.put(item)

    async def change_engines(self, engine: EngineConfig) -> None:
        """Tell the engines something else (another model, say) without a moment without any.

        Raises:
            SteadyOCRError: Why not; everything stays as it was.
        """
        async with self._changing:
            if self._draining:
                raise Draining("the service is shutting down", retry_after_s=5.0)
            try:
                async with asyncio.timeout(None) as self._change:
                    await replace_engines(self.slots, engine, self.config.slot.engine, self.room_for_standby)
            except TimeoutError as error:
                raise Draining("the service is shutting down", retry_after_s=5.0) from error
            finally:
                self._change = None
            self.config = dataclasses.replace(self.config, slot=dataclasses.replace(self.config.slot, engine=engine))

    def refuse_new(self) -> None:
        """Take nothing new from now on, and give up a change of engines. Safe to call twice."""
        if self._draining:
            return
        self._draining = True
        if self._change is not None:
            self._change.reschedule(asyncio.get_running_loop().time())

    async def drain(self, timeout_s: float) -> bool:
        """Refuse new work and wait until accepted work is done; returns whether all of it was."""
        self.refuse_new()
        try:
            async with asyncio.timeout(timeout_s):
                await self._nothing_outstanding.wait()
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """End the engines and settle whatever is left. The loops themselves are stopped by their owner."""
        self.refuse_new()
        for item in self._outstanding:
            item.fail(Cancelled("the service stopped before this picture was read"))
        await asyncio.gather(*(slot.stop() for slot in self.slots))
        self.device.close()

    # What the slots ask of their owner.

    async def next_item(self) -> WorkItem:
        """See :class:`~steadyocr.scheduling.slot_owner.SlotOwner`."""
        return await self.queue.get()

    def take_back(self, item: WorkItem) -> None:
        """See :class:`~steadyocr.scheduling.slot_owner.SlotOwner`."""
        self.queue.put_back(item)

    async def work(self, item: WorkItem, run: Callable[[], Awaitable[int]], gone: asyncio.Future[None]) -> None:
        """See :class:`~steadyocr.scheduling.slot_owner.SlotOwner`."""
        loop = asyncio.get_running_loop()
        self._taken.add(item)
        try:
            self.aftermath.before_work(item)
            plan = self.contract.plan(item, self.ladder.side_limit, self.engine_facts())
            async with asyncio.timeout_at(item.deadline) as waiting:
                share = self.governor.reserve(
                    plan.extra_bytes, plan.device_extra_bytes, alone=item.cautious, called_off=(item.outcome, gone)
                )
                async with share:
                    waiting.reschedule(None)
                    if item.abandoned:
                        return
                    item.cap = plan.cap
                    started = item.course.started_at = loop.time()
                    item.course.in_hand = True
                    item.course.keep_scratch = self._scratch_may_stay()
                    self.contract.record(item, await run())
        except NotWanted:
            if not item.abandoned:
                self.take_back(item)
            return
        except MemoryPressure as error:
            item.fail(error)
            return
        except TimeoutError:
            began = item.course.started_at is not None
            item.fail(DeadlineExceeded("the time allowed ran out while the picture waited for memory", began=began))
            return
        finally:
            self._taken.discard(item)
            item.course.in_hand = False
            self.reports.item_left(item)
        self._finished(item, loop.time() - started)

    def _finished(self, item: WorkItem, took_s: float) -> None:
        """Keep the books on an item that an engine has got through with."""
        if item.short_of_memory and not item.abandoned:
            extra = {"item": item.id, "request_id": item.request_id}
            _log.warning("An engine had not enough memory for an item; it is retried one step smaller", extra=extra)
            self.reports.ran_short(item)
            self.queue.put_back(item)
            return
        self.aftermath.after_work(item)
        if item.kind == "run" and item.answered:
            # A slider's work takes a hundredth of a picture's, the golden one is small, and what cannot be read is
            # refused at once; they say nothing here.
            self.queue.record_service(took_s)
        self.completed += 1
        self.degraded += item.cap is not None

    def _crew(self) -> Crew:
        """Who works now: the engines that are up, and no more of them than memory lets work side by side."""
        servers = sum(slot.ready for slot in self.slots)
        if self.governor.one_at_a_time:
            servers = 1
        elif self.governor.waiting:
            servers = min(servers, self.governor.in_hand)
        # An engine that has answered only tidies up.
        return Crew(max(1, servers), sum(not item.answered and not item.brief for item in self._taken))

    def _held_back(self, item: WorkItem) -> bool:
        """Whether an item for which memory was short would only run into the same wall; it waits in the queue."""
        return item.short_of_memory and self.ladder.level is PressureLevel.SHED

    def _may_measure(self) -> bool:
        """Whether nobody waits for an engine, and none is about to give way to one with another model."""
        return not len(self.queue) and not self._changing.locked()

    def _scratch_may_stay(self) -> bool:
        """Whether engines may keep scratch memory: the next item uses it again at once, and there is room."""
        scratch_bytes = self.config.slot.engine.scratch_bytes
        if not scratch_bytes or not len(self.queue) or self.ladder.level is not PressureLevel.FULL:
            return False
        return self.governor.headroom_bytes >= scratch_bytes * self.config.engines

    def after_death(self, item: WorkItem, death: Death) -> None:
        """See :class:`~steadyocr.scheduling.slot_owner.SlotOwner`."""
        self.aftermath.after_death(item, death)

    def slot_ready(self, slot: Slot) -> None:
        """See :class:`~steadyocr.scheduling.slot_owner.SlotOwner`."""
        facts = slot.engine.ready if slot.engine else {}
        if self.contract.learn(facts, slot.index):
            self._calibrator.start_over()
        extra = {"slot": slot.index, "engine_pid": facts.get("pid"), "start_ms": facts.get("start_ms")}
        _log.info("An engine is ready", extra=extra)
        if facts.get("golden", {}).get("yardstick") == "self":
            _log.warning(
                "A model of the user's own misreads the golden picture; its own first reading is the yardstick now",
                extra={"slot": slot.index},
            )
        if self._first_ready is not None and not self._first_ready.done():
            self._first_ready.set_result(None)

    def slot_failed(self, slot: Slot, error: SteadyOCRError) -> None:
        """See :class:`~steadyocr.scheduling.slot_owner.SlotOwner`."""
        self.reports.engine_died(slot)
        if slot.engine is not None and slot.engine.ready:
            self._served_at = asyncio.get_running_loop().time()
        if self._first_ready is None or self._first_ready.done():
            return
        # A wrong model stays wrong; a death while starting may be bad luck, so it gets a few tries.
        if isinstance(error, ModelError) or slot.consecutive_failures + 1 >= self.config.first_starts:
            self._first_ready.set_exception(error)

    def slot_pauses(self, slot: Slot) -> None:
        """See :class:`~steadyocr.scheduling.slot_owner.SlotOwner`. New work may wait for the next engine."""
        del slot
        self._served_at = asyncio.get_running_loop().time()

    def engine_state(self, slot: Slot, engine: EngineProcess, before: EngineState, after: EngineState) -> None:
        """See :class:`~steadyocr.scheduling.slot_owner.SlotOwner`."""
        self.reports.engine_state(slot.index, engine, before, after)

    def headroom_bytes(self) -> float:
        """See :class:`~steadyocr.scheduling.slot_owner.SlotOwner`."""
        return self.governor.headroom_bytes

    def room_for_standby(self) -> bool:
        """See :class:`~steadyocr.scheduling.slot_owner.SlotOwner`."""
        return self.governor.headroom_bytes >= self.governor.engine_base_bytes

    def may_pause(self, slot: Slot) -> bool:
        """See :class:`~steadyocr.scheduling.slot_owner.SlotOwner`. One after the other, so that the rest serve."""
        return not any(other.paused for other in self.slots if other is not slot)

    def expect_standby(self, slot: Slot) -> None:
        """See :class:`~steadyocr.scheduling.slot_owner.SlotOwner`."""
        self.governor.expect_standby(slot.index)

    def standby_gone(self, slot: Slot) -> None:
        """See :class:`~steadyocr.scheduling.slot_owner.SlotOwner`."""
        self.governor.standby_gone(slot.index)

    def _read_signals(self) -> MemorySignals:
        """Read the system, and what we hold ourselves: a budget of our own is nothing that the system knows of."""
        pids = [slot.engine.pid for slot in self.slots if slot.engine is not None]
        held_bytes = rss_bytes() + sum(rss_bytes(pid) for pid in pids if pid is not None)
        return with_own_share(read_signals(), self.governor.budget_bytes, held_bytes)

    async def _watch_pressure(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            before = self.ladder.level
            held_bytes = sum(slot.engine.device_bytes for slot in self.slots if slot.engine is not None)
            signals = self.device.read(self._signals(), held_bytes)
            level = self.ladder.update(signals, loop.time())
            if level is not before:
                self.governor.one_at_a_time = level >= PressureLevel.ONE_AT_A_TIME
                self.governor.wake()
                self.queue.wake()
                extra = {"before": before.name, "after": level.name, "used": round(signals.used, 3)}
                _log.warning("The memory pressure level changed", extra=extra)
                self.reports.pressure_changed(before, level, signals.used)
            await asyncio.sleep(_PRESSURE_PERIOD_S)
