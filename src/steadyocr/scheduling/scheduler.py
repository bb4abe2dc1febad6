"""Admission in front, engine slots behind: every accepted item ends in exactly one answer or one typed error.

Each slot is one task that owns one engine process: it starts it, feeds it, notices its death, replaces it.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from steadyocr.errors import (
    Cancelled,
    DeadlineExceeded,
    Draining,
    EngineDied,
    ModelError,
    NotReady,
    SteadyOCRError,
)
from steadyocr.scheduling.admission import AdmissionQueue
from steadyocr.scheduling.config import EngineConfig
from steadyocr.scheduling.engine import EngineProcess, EngineState
from steadyocr.scheduling.items import Reply, WorkItem
from steadyocr.telemetry.loops import Loops

_log = logging.getLogger("steadyocr.scheduler")

# An item that has seen this many engines die is not tried again.
_MAX_ATTEMPTS = 2
_BACKOFF_FIRST_S = 0.2
_BACKOFF_MAX_S = 30.0
# With no engine up, new work still waits this long for the replacement; a start takes about two seconds.
_REPLACEMENT_GRACE_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerConfig:
    """How many engines and how patient.

    Attributes:
        engines: Engine processes.
        queue_size: Items that may wait; one more is refused.
        start_timeout_s: An engine not ready after this is given up, in seconds.
        item_limit_s: An engine that works on one item for longer hangs and is killed, in seconds.
        kill_grace_s: An engine may finish an item this long after its deadline, in seconds: a client with a hasty
            deadline must not be able to kill engines at will.
        first_starts: Attempts to get the first engine up before the service gives up.
    """

    engine: EngineConfig
    engines: int = 1
    queue_size: int = 64
    start_timeout_s: float = 60.0
    item_limit_s: float = 60.0
    kill_grace_s: float = 5.0
    first_starts: int = 3


class Slot:
    """One place for an engine, and its history.

    Attributes:
        restarts: How many engines have died here.
        last_death: How the last one ended.
    """

    def __init__(self, index: int) -> None:
        self.index = index
        self.engine: EngineProcess | None = None
        self.starts = 0
        self.restarts = 0
        self.last_death: str | None = None
        self.consecutive_failures = 0

    @property
    def ready(self) -> bool:
        """Whether its engine can take work, or is working; busy is not dead."""
        return self.engine is not None and self.engine.state in (EngineState.READY, EngineState.BUSY)

    def describe(self) -> dict[str, Any]:
        """Return plain values for the info route."""
        engine = self.engine
        return {
            "slot": self.index,
            "state": engine.state.value if engine else EngineState.DEAD.value,
            "pid": engine.pid if engine else None,
            "rss_bytes": engine.rss_bytes if engine else 0,
            "peak_rss_bytes": engine.peak_rss_bytes if engine else 0,
            "items": engine.items if engine else 0,
            "stage": engine.stage if engine else None,
            "model_loads": self.starts,
            "restarts": self.restarts,
            "last_death": self.last_death,
        }


class Scheduler:
    """Owns the queue and the engines. Belongs to one event loop."""

    def __init__(
        self,
        config: SchedulerConfig,
        loops: Loops,
        engine_factory: Callable[[EngineConfig], EngineProcess] = EngineProcess,
    ) -> None:
        self.config = config
        self.queue = AdmissionQueue(config.queue_size)
        self.queue.servers = config.engines
        self.slots = [Slot(index) for index in range(config.engines)]
        self.completed = 0
        self.last_success_at: float | None = None
        self._loops = loops
        self._new_engine = engine_factory
        self._draining = False
        self._outstanding: set[WorkItem] = set()
        self._nothing_outstanding = asyncio.Event()
        self._nothing_outstanding.set()
        self._first_ready: asyncio.Future[None] | None = None
        self._served_at = -math.inf

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
            self._loops.start(f"engine-slot-{slot.index}", self._run_slot(slot))
        await self._first_ready

    def refuse_early(self) -> None:
        """Refuse what :meth:`submit` would refuse anyway.

        Raises:
            Draining: The service is stopping.
            NotReady: No engine is up.
            QueueFull: Too many wait already.
        """
        if self._draining:
            raise Draining("the service is shutting down", retry_after_s=5.0)
        if not self.ready:
            raise NotReady("no engine is ready yet", retry_after_s=2.0)
        self.queue.refuse_when_full()

    async def submit(self, item: WorkItem) -> Reply:
        """Queue an item and wait for its outcome.

        Raises:
            QueueFull: Too many wait already.
            Draining: The service is stopping.
            NotReady: No engine is up.
            DeadlineExceeded: Its deadline passed while it waited or ran.
            EngineDied: Engines died with it in hand, more than once.
            SteadyOCRError: The engine's own typed answer.
        """
        self.refuse_early()
        self.queue.put(item)
        self._outstanding.add(item)
        self._nothing_outstanding.clear()
        try:
            async with asyncio.timeout_at(item.deadline):
                return await item.outcome
        except TimeoutError as error:
            raise DeadlineExceeded("the time allowed for this picture ran out") from error
        finally:
            self._outstanding.discard(item)
            if not self._outstanding:
                self._nothing_outstanding.set()

    async def drain(self, timeout_s: float) -> bool:
        """Refuse new work and wait until accepted work is done; returns whether all of it was."""
        self._draining = True
        try:
            async with asyncio.timeout(timeout_s):
                await self._nothing_outstanding.wait()
        except TimeoutError:
            return False
        return True

    async def stop(self) -> None:
        """End the engines and settle whatever is left. The loops themselves are stopped by their owner."""
        self._draining = True
        for item in self._outstanding:
            item.fail(Cancelled("the service stopped before this picture was read"))
        engines = [slot.engine for slot in self.slots if slot.engine is not None]
        await asyncio.gather(*(engine.stop() for engine in engines))

    async def _run_slot(self, slot: Slot) -> None:
        while True:
            engine = self._new_engine(self.config.engine)
            slot.engine = engine
            try:
                await engine.start(self.config.start_timeout_s)
                slot.starts += 1
                self._report_ready(slot)
                await self._feed(slot, engine)
            except SteadyOCRError as error:
                slot.last_death = error.message
                self._report_failed_start(slot, error)
            finally:
                await engine.kill()
            slot.restarts += 1
            slot.consecutive_failures += 1
            _log.error(
                "An engine ended and is replaced",
                extra={"slot": slot.index, "reason": slot.last_death, "exit_code": engine.exit_code},
            )
            if slot.consecutive_failures > 1:
                backoff = _BACKOFF_FIRST_S * 2 ** min(slot.consecutive_failures, 16)
                await asyncio.sleep(min(backoff, _BACKOFF_MAX_S))

    def _report_ready(self, slot: Slot) -> None:
        facts = slot.engine.ready if slot.engine else {}
        _log.info(
            "An engine is ready",
            extra={"slot": slot.index, "engine_pid": facts.get("pid"), "start_ms": facts.get("start_ms")},
        )
        if self._first_ready is not None and not self._first_ready.done():
            self._first_ready.set_result(None)

    def _report_failed_start(self, slot: Slot, error: SteadyOCRError) -> None:
        if self._first_ready is None or self._first_ready.done():
            return
        # A wrong model stays wrong; a death while starting may be bad luck, so it gets a few tries.
        if isinstance(error, ModelError) or slot.consecutive_failures + 1 >= self.config.first_starts:
            self._first_ready.set_exception(error)

    async def _feed(self, slot: Slot, engine: EngineProcess) -> None:
        """Give an engine work until it ends.

        Raises:
            EngineDied: How it ended.
        """
        exited = asyncio.create_task(engine.exited(), name=f"engine-{slot.index}-exit")
        try:
            while engine.state is EngineState.READY:
                item = await self._next_item(exited)
                if item is None:
                    break
                await self._work(slot, engine, item)
        finally:
            exited.cancel()
            self._served_at = asyncio.get_running_loop().time()
        raise EngineDied(f"the engine ended while idle (exit code {engine.exit_code})")

    async def _next_item(self, exited: asyncio.Task[None]) -> WorkItem | None:
        """Wait for work or for the engine's end, which gives ``None``."""
        waiting = asyncio.create_task(self.queue.get(), name="queue-get")
        try:
            await asyncio.wait({waiting, exited}, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done() and not exited.done():
                return waiting.result()
            if waiting.done():
                self.queue.put_back(waiting.result())
            return None
        finally:
            waiting.cancel()

    async def _work(self, slot: Slot, engine: EngineProcess, item: WorkItem) -> None:
        """Run one item; on the engine's death it is retried once elsewhere, then failed.

        Raises:
            EngineDied: The engine ended or had to be killed.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        kill_at = min(started + self.config.item_limit_s, max(item.deadline, started) + self.config.kill_grace_s)
        try:
            async with asyncio.timeout_at(kill_at):
                await engine.run(item)
        except TimeoutError as error:
            item.fail(DeadlineExceeded("the time allowed for this picture ran out while it was read"))
            raise EngineDied(f"killed: over its time limit in stage {engine.stage}") from error
        except EngineDied as error:
            self._retry_or_fail(item, error)
            raise
        slot.consecutive_failures = 0
        self.queue.record_service(loop.time() - started)
        self.completed += 1
        # A golden run proves nothing by itself (its verdict does), and neither does an engine that only gives errors.
        if item.kind == "run" and item.answered:
            self.last_success_at = loop.time()

    def _retry_or_fail(self, item: WorkItem, error: EngineDied) -> None:
        item.attempts += 1
        if item.attempts >= _MAX_ATTEMPTS:
            item.fail(
                EngineDied("engines ended twice with this picture in hand; it is not tried again", retry_after_s=5.0)
            )
        elif not item.abandoned:
            _log.warning(
                "An engine died with an item in hand; the item is retried",
                extra={"item": item.id, "request_id": item.request_id, "reason": error.message},
            )
            self.queue.put_back(item)
