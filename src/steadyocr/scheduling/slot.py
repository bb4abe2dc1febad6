"""One place for an engine: starts it, feeds it, watches it, replaces it before it goes bad and after it died."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from steadyocr.errors import DeadlineExceeded, EngineDied, ModelError, SteadyOCRError
from steadyocr.scheduling.config import EngineConfig
from steadyocr.scheduling.deaths import Death, DeathCause, classify, memory_kills
from steadyocr.scheduling.engine import EngineProcess, EngineState
from steadyocr.scheduling.items import WorkItem
from steadyocr.scheduling.patience import Hung, Overdue, Patience, run_patiently

_log = logging.getLogger("steadyocr.slot")

_BACKOFF_FIRST_S = 0.2
_BACKOFF_MAX_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotConfig:
    """How patient a slot is with its engine.

    Attributes:
        engine: What an engine is told.
        start_timeout_s: An engine not ready after this is given up.
        item_limit_s: An engine that works on one item for longer hangs and is killed.
        heartbeat_s: An engine that says nothing for so long, busy or idle, hangs and is killed.
        kill_grace_s: An engine may finish an item this long after its deadline: a client with a hasty deadline must
            not be able to kill engines at will.
        retire_growth_bytes: An idle engine that holds this much more than when it became ready is replaced.
        retire_items: An engine is replaced after so many items; 0 never.
    """

    engine: EngineConfig
    start_timeout_s: float = 60.0
    item_limit_s: float = 60.0
    heartbeat_s: float = 20.0
    kill_grace_s: float = 5.0
    retire_growth_bytes: int = 256 << 20
    retire_items: int = 50_000


class SlotOwner(Protocol):
    """What a slot needs from the scheduler."""

    async def next_item(self) -> WorkItem:
        """Wait for the next item that somebody waits for."""

    def take_back(self, item: WorkItem) -> None:
        """Take an item back that was handed out but not begun."""

    async def work(self, item: WorkItem, run: Callable[[], Awaitable[int]]) -> None:
        """Run an item under the memory budget; ``run`` hands it to the engine and returns the engine's peak bytes."""

    def after_death(self, item: WorkItem, death: Death) -> None:
        """Decide about the item in whose hand an engine died."""

    def slot_ready(self, slot: Slot) -> None:
        """Take note that an engine is ready."""

    def slot_failed(self, slot: Slot, error: SteadyOCRError) -> None:
        """Take note that an engine could not be started or has ended."""

    def engine_state(self, slot: Slot, engine: EngineProcess, before: EngineState, after: EngineState) -> None:
        """Take note of a step in an engine's life."""

    def room_for_standby(self) -> bool:
        """Whether memory allows a second engine for the time of a swap."""


class Slot:
    """One place for an engine, and its history.

    Attributes:
        starts: Engines that became ready here; each loads its models once.
        restarts: Engines that died here.
        retirements: Engines that were replaced before they went bad.
        last_death: How the last one ended, in words.
        death: How the present one ended, where its slot knows.
        item: What the present one has in hand, or had when it died.
        engine_since: When the present one was started, on the monotonic clock.
    """

    def __init__(
        self,
        index: int,
        config: SlotConfig,
        owner: SlotOwner,
        new_engine: Callable[[EngineConfig], EngineProcess],
    ) -> None:
        self.index = index
        self.engine: EngineProcess | None = None
        self.starts = 0
        self.restarts = 0
        self.retirements = 0
        self.last_death: str | None = None
        self.death: Death | None = None
        self.item: WorkItem | None = None
        self.engine_since = time.monotonic()
        self.consecutive_failures = 0
        self._config = config
        self._owner = owner
        self._new_engine = new_engine
        self._standby: asyncio.Task[EngineProcess | None] | None = None
        self._nudge = asyncio.Event()
        self._engine_ready = asyncio.Event()

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
            "device_bytes": engine.device_bytes if engine else 0,
            "golden": engine.golden_yardstick if engine else None,
            "model_loads": engine.model_loads if engine else 0,
            "starts": self.starts,
            "restarts": self.restarts,
            "retirements": self.retirements,
            "last_death": self.last_death,
        }

    async def run(self) -> None:
        """Keep an engine in this place for ever."""
        while True:
            wrong_model = False
            try:
                self.death = self.item = None
                await self._live_with(self._observed_engine())
            except SteadyOCRError as error:
                self.last_death = error.message
                # Another engine would only say the same again.
                wrong_model = isinstance(error, ModelError)
                self._owner.slot_failed(self, error)
            self.restarts += 1
            # Who kills a good engine from outside proves nothing against the next one: it is started at once.
            self.consecutive_failures = 1 if self._ended_from_outside() else self.consecutive_failures + 1
            _log.error(
                "An engine ended and is replaced",
                extra={"slot": self.index, "reason": self.last_death},
            )
            if self.consecutive_failures > 1 or wrong_model:
                backoff = _BACKOFF_FIRST_S * 2 ** min(self.consecutive_failures, 16)
                await asyncio.sleep(min(backoff, _BACKOFF_MAX_S))

    def _ended_from_outside(self) -> bool:
        engine = self.engine
        if engine is None or not engine.ready:
            return False
        if self.death is not None:
            return self.death.cause is DeathCause.OUTSIDE
        return classify(engine.exit_code, killed_by_us=False, out_of_memory=False) is DeathCause.OUTSIDE

    def _observed_engine(self, config: EngineConfig | None = None) -> EngineProcess:
        engine = self._new_engine(config or self._config.engine)
        engine.on_state = lambda before, after: self._owner.engine_state(self, engine, before, after)
        return engine

    async def adopt(self, config: EngineConfig) -> None:
        """Replace the engine by one that is told something else; the old one serves until the new one is proven.

        Raises:
            SteadyOCRError: The new engine could not be started, and the old one goes on; or it ended right away.
        """
        successor = self._observed_engine(config)
        try:
            await successor.start(self._config.start_timeout_s)
        except BaseException:
            await successor.kill()
            raise
        await self._discard_standby()
        old, before, self._config = self.engine, self._config, dataclasses.replace(self._config, engine=config)
        standby = asyncio.create_task(_at_once(successor), name=f"engine-{self.index}-adopted")
        await asyncio.wait({standby})
        self._standby = standby
        self._nudge.set()
        # Whatever engine follows is told the same: this one, or a new one should the old one die just now.
        try:
            async with asyncio.timeout(self._config.item_limit_s + self._config.start_timeout_s):
                while self.engine is old or not self.ready:
                    self._engine_ready.clear()
                    await self._engine_ready.wait()
        except TimeoutError as error:
            self._config = before
            raise EngineDied("the new engine did not take over in time") from error

    async def stop(self) -> None:
        """End the engine, and a standby if there is one."""
        await self._discard_standby()
        if self.engine is not None:
            await self.engine.stop()

    async def _live_with(self, engine: EngineProcess) -> None:
        """Start an engine and work with it and its successors.

        Raises:
            SteadyOCRError: The engine could not be started or has ended.
        """
        self.engine, self.engine_since = engine, time.monotonic()
        try:
            await engine.start(self._config.start_timeout_s)
            while True:
                self.starts += 1
                self._owner.slot_ready(self)
                self._engine_ready.set()
                successor = await self._feed(engine)
                old, engine = engine, successor
                self.engine, self.engine_since = engine, time.monotonic()
                self.retirements += 1
                await old.stop()
        finally:
            await self._discard_standby()
            await engine.kill()

    async def _feed(self, engine: EngineProcess) -> EngineProcess:
        """Give an engine work until its successor is ready, which is returned.

        Raises:
            EngineDied: How it ended.
        """
        exited = asyncio.create_task(engine.exited(), name=f"engine-{self.index}-exit")
        try:
            while engine.state is EngineState.READY and not exited.done():
                successor = self._take_standby()
                if successor is not None:
                    return successor
                item = await self._next_item(engine, exited)
                if item is not None:
                    await self._work(engine, item)
                    self._consider_retiring(engine)
        finally:
            exited.cancel()
        raise EngineDied(f"the engine ended while idle (exit code {engine.exit_code})")

    async def _next_item(self, engine: EngineProcess, exited: asyncio.Task[None]) -> WorkItem | None:
        """Wait for work; ``None`` when the engine ended, a standby is ready, or the engine proved that it lives."""
        waiting = asyncio.create_task(self._owner.next_item(), name=f"engine-{self.index}-next")
        nudged = asyncio.create_task(self._nudge.wait(), name=f"engine-{self.index}-nudge")
        watched: set[asyncio.Task[Any]] = {waiting, exited, nudged}
        if self._standby is not None:
            watched.add(self._standby)
        try:
            await asyncio.wait(watched, timeout=self._config.heartbeat_s, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                if not exited.done():
                    return waiting.result()
                self._owner.take_back(waiting.result())
        finally:
            waiting.cancel()
            nudged.cancel()
            self._nudge.clear()
        if not exited.done():
            await self._ping(engine)
        return None

    async def _ping(self, engine: EngineProcess) -> None:
        """Make sure that an idle engine lives.

        Raises:
            EngineDied: It does not answer.
        """
        try:
            async with asyncio.timeout(self._config.heartbeat_s):
                await engine.ping()
        except TimeoutError as error:
            await engine.kill()
            self.death = Death(DeathCause.HANG, engine.exit_code, None)
            raise EngineDied("killed: it hung while idle") from error

    async def _work(self, engine: EngineProcess, item: WorkItem) -> None:
        """Run one item.

        Raises:
            EngineDied: The engine ended or had to be killed; what becomes of the item is the owner's decision.
        """
        kills_before = memory_kills()
        self.item, item.course.slot = item, self.index
        try:
            await self._owner.work(item, lambda: self._run_within_limits(engine, item))
        except Overdue as error:
            await engine.kill()
            self.death = Death(DeathCause.OVERDUE, engine.exit_code, engine.stage)
            item.fail(DeadlineExceeded("the time allowed for this picture ran out while it was read"))
            raise EngineDied(f"killed: long over its deadline in stage {engine.stage}") from error
        except Hung as error:
            await engine.kill()
            cause = DeathCause.STARVED if error.starved else DeathCause.HANG
            self.death = death = Death(cause, engine.exit_code, engine.stage)
            self._owner.after_death(item, death)
            raise EngineDied(str(death)) from error
        except EngineDied as error:
            cause = classify(engine.exit_code, killed_by_us=False, out_of_memory=memory_kills() > kills_before)
            self.death = death = Death(cause, engine.exit_code, engine.stage)
            self._owner.after_death(item, death)
            raise EngineDied(str(death)) from error
        self.item = None
        self.consecutive_failures = 0

    async def _run_within_limits(self, engine: EngineProcess, item: WorkItem) -> int:
        """Run an item for as long as the engine shows progress and somebody may still want the answer.

        Returns:
            The engine's peak resident memory with it, in bytes.

        Raises:
            EngineDied: The engine ended.
            Overdue: Its time is up.
            Hung: It does not get on.
        """
        config = self._config
        patience = Patience(
            item_limit_s=config.item_limit_s, heartbeat_s=config.heartbeat_s, kill_grace_s=config.kill_grace_s
        )
        course = item.course
        course.untidy_before = engine.untidy
        await run_patiently(engine, item, patience)
        course.untidy_after = engine.untidy
        course.peak_bytes, course.rss_bytes = engine.peak_rss_bytes, engine.rss_bytes
        course.allocation_failed = engine.allocation_failed
        return engine.peak_rss_bytes

    def _consider_retiring(self, engine: EngineProcess) -> None:
        """Start warming a successor when this engine has grown, is old or has run out of memory once."""
        if self._standby is not None:
            return
        growth = engine.rss_bytes - int(engine.ready.get("rss_bytes", engine.rss_bytes))
        old = self._config.retire_items and engine.items >= self._config.retire_items
        # What is kept for the next item is no growth.
        grown = growth > self._config.retire_growth_bytes and not engine.untidy
        if not (old or grown or engine.allocation_failed):
            return
        if not self._owner.room_for_standby():
            return
        reason = "age" if old else "memory" if grown else "allocator error"
        _log.warning(
            "An engine is to be replaced; its successor is warming up",
            extra={"slot": self.index, "reason": reason, "rss_bytes": engine.rss_bytes, "items": engine.items},
        )
        self._standby = asyncio.create_task(self._warm_up(), name=f"engine-{self.index}-standby")

    async def _warm_up(self) -> EngineProcess | None:
        successor = self._observed_engine()
        try:
            await successor.start(self._config.start_timeout_s)
        except SteadyOCRError as error:
            _log.warning("A successor could not be started", extra={"slot": self.index, "reason": error.message})
            await successor.kill()
            return None
        except asyncio.CancelledError:
            await successor.kill()
            raise
        return successor

    def _take_standby(self) -> EngineProcess | None:
        if self._standby is None or not self._standby.done():
            return None
        standby, self._standby = self._standby, None
        return standby.result()

    async def _discard_standby(self) -> None:
        standby, self._standby = self._standby, None
        if standby is None:
            return
        standby.cancel()
        try:
            successor = await standby
        except asyncio.CancelledError:
            return
        if successor is not None:
            await successor.kill()


async def _at_once(engine: EngineProcess) -> EngineProcess | None:
    return engine
