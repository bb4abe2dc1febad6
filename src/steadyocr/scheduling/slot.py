"""One place for an engine: starts it, feeds it, watches it, replaces it before it goes bad and after it died."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from steadyocr.errors import DeadlineExceeded, EngineDied, InternalError, ModelError, SteadyOCRError
from steadyocr.scheduling.config import EngineConfig
from steadyocr.scheduling.deaths import Death, DeathCause, classify, memory_kills
from steadyocr.scheduling.ending import end_if_deaf, has_ended, put_down, stop_for_good
from steadyocr.scheduling.engine import EngineProcess, EngineState
from steadyocr.scheduling.items import WorkItem
from steadyocr.scheduling.patience import Hung, Overdue, Patience, run_patiently
from steadyocr.scheduling.retirement import Retirement, note_golden, why_retire
from steadyocr.scheduling.slot_owner import SlotOwner
from steadyocr.scheduling.standby import Standby

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
        retire_age_s: Likewise after so many seconds; 0 never.
    """

    engine: EngineConfig
    start_timeout_s: float = 60.0
    item_limit_s: float = 60.0
    heartbeat_s: float = 20.0
    kill_grace_s: float = 5.0
    retire_growth_bytes: int = 256 << 20
    retire_items: int = 50_000
    retire_age_s: float = 0.0


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
        paused: Its engine has left on purpose and the next one is not ready yet.
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
        self.paused = False
        self.consecutive_failures = 0
        self._config = config
        self._owner = owner
        self._new_engine = new_engine
        self._standby = Standby(index, lambda: owner.expect_standby(self), lambda: owner.standby_gone(self))
        # The engine in its place is to leave before the next one is made.
        self._to_restart = False
        # Its successor is to be told something else; it serves until that one is there, where there is room for two.
        self._outdated = False
        self._proven = False
        self._ready_since = 0.0
        # What engines are told again should the first one with another configuration not come up.
        self._fallback: SlotConfig | None = None
        self._failed_start: SteadyOCRError | None = None
        self._nudge = asyncio.Event()
        self._news = asyncio.Event()

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
            "heap_bytes": engine.heap_bytes if engine else 0,
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
            self.death = self.item = None
            error = await self._live_once(self._observed_engine())
            self.last_death = error.message
            self._owner.slot_failed(self, error)
            self.restarts += 1
            # Who kills a good engine proves nothing against the next one, nor does a client's haste: it is started
            # at once.
            self.consecutive_failures = 1 if self._ended_without_blame() else self.consecutive_failures + 1
            _log.error(
                "An engine ended and is replaced",
                extra={"slot": self.index, "reason": self.last_death},
            )
            # Another engine would only say the same again of a wrong model.
            if self.consecutive_failures > 1 or isinstance(error, ModelError):
                backoff = _BACKOFF_FIRST_S * 2 ** min(self.consecutive_failures, 16)
                await asyncio.sleep(min(backoff, _BACKOFF_MAX_S))

    async def _live_once(self, engine: EngineProcess) -> SteadyOCRError:
        """Live with an engine and its successors until one fails; returns how."""
        try:
            await self._live_with(engine)
        except SteadyOCRError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - one engine's life must not end the place that engines live in
            _log.exception("An unexpected fault ended an engine's life", extra={"slot": self.index})
            failure = InternalError(f"an unexpected fault: {type(error).__name__}")
            self.death = Death(DeathCause.EXIT, None, engine.stage)
        finally:
            self.paused = False
        # One that was to leave says nothing about the configuration of the next.
        if self._fallback is not None and not self._proven and not self._to_restart:
            self._config, self._fallback = self._fallback, None
            self._failed_start = failure
            self._news.set()
        return failure

    def _ended_without_blame(self) -> bool:
        engine = self.engine
        if engine is None or not engine.ready:
            return False
        if self.death is not None:
            return not self.death.blames_the_item
        return classify(engine.exit_code, killed_by_us=False, out_of_memory=False) is DeathCause.OUTSIDE

    def _observed_engine(self, config: EngineConfig | None = None) -> EngineProcess:
        engine = self._new_engine(config or self._config.engine)
        engine.on_state = lambda before, after: self._owner.engine_state(self, engine, before, after)
        return engine

    async def adopt(self, config: EngineConfig, *, in_place: bool = False) -> None:
        """Replace the engine by one that is told something else.

        Args:
            config: What the new one is told.
            in_place: There is no memory for two: the old one leaves first, and a new one that fails gives way to one
                like the old one. Otherwise the old one serves until the new one is proven.

        Raises:
            SteadyOCRError: The new engine could not be started, and there is one as before; or it ended right away, or
                did not take over in time. What follows is told the same as before.
        """
        before = self._config
        self._failed_start = None
        if not in_place:
            await self._standby.prove(self._observed_engine(config), self._config.start_timeout_s)
        # Whatever engine follows is told the same: this one, or a new one should the old one die just now.
        old, self._config = self.engine, dataclasses.replace(before, engine=config)
        self._to_restart, self._fallback = in_place, before if in_place else None
        try:
            if in_place:
                await self._standby.discard()
            self._nudge.set()
            failed = await self._until_served(lambda: self.engine is not old)
        except BaseException:
            # Nothing of it may happen later; a new engine that is in its place already does not stay.
            await self.insist(before.engine, outdated=self.engine is not old)
            raise
        if failed is not None:
            with contextlib.suppress(EngineDied):
                await self._until_served(lambda: True)
            raise failed

    async def insist(self, config: EngineConfig, *, outdated: bool = True) -> None:
        """Decide what engines are told from now on, without waiting for one.

        Args:
            config: What they are told.
            outdated: The present one was told something else; it is replaced as soon as may be.
        """
        self._config = dataclasses.replace(self._config, engine=config)
        self._fallback, self._to_restart, self._outdated = None, False, outdated
        await self._standby.discard()
        self._nudge.set()

    async def _until_served(self, by_the_right_one: Callable[[], bool]) -> SteadyOCRError | None:
        """Wait until a certain engine serves; returns why not when another configuration has failed instead.

        Raises:
            EngineDied: That takes too long.
        """
        before = self._failed_start
        try:
            async with asyncio.timeout(self._config.item_limit_s + self._config.start_timeout_s):
                while self._failed_start is before and not (self.ready and by_the_right_one()):
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError as error:
            raise EngineDied("the new engine did not take over in time") from error
        return self._failed_start

    async def stop(self) -> None:
        """End the engine, and a standby if there is one."""
        await self._standby.discard()
        if self.engine is not None:
            await self.engine.stop()

    async def _live_with(self, engine: EngineProcess) -> NoReturn:
        """Start an engine and work with it and its successors.

        Raises:
            SteadyOCRError: The engine could not be started or has ended.
        """
        self._install(engine)
        try:
            await engine.start(self._config.start_timeout_s)
            while True:
                self._serve()
                successor = await self._feed(engine)
                if successor is None:
                    engine = await self._restart(engine)
                else:
                    old, engine = engine, successor
                    self._install(engine)
                    try:
                        await stop_for_good(old)
                    finally:
                        self._standby.settle(engine)
                self.retirements += 1
        finally:
            try:
                await self._standby.discard()
            finally:
                # The one in its place: of two, the other one has been ended already.
                await (self.engine or engine).kill()

    def _install(self, engine: EngineProcess) -> None:
        self.engine, self.engine_since = engine, time.monotonic()
        self._proven = self._to_restart = self._outdated = False

    def _serve(self) -> None:
        self.starts += 1
        self._proven = True
        self.paused = False
        if not self._to_restart:
            # Otherwise the next one was asked for while this one started, and may still need it.
            self._fallback = None
        self._ready_since = asyncio.get_running_loop().time()
        self._owner.slot_ready(self)
        self._news.set()

    async def _restart(self, old: EngineProcess) -> EngineProcess:
        """Replace an engine where there is no room for two: the place stands empty for the time of a start.

        Raises:
            SteadyOCRError: The new engine could not be started.
        """
        self.paused = True
        self._owner.slot_pauses(self)
        await stop_for_good(old)
        successor = self._observed_engine()
        self._install(successor)
        await successor.start(self._config.start_timeout_s)
        return successor

    async def _feed(self, engine: EngineProcess) -> EngineProcess | None:
        """Give an engine work until its successor is ready, which is returned; ``None`` when it must leave first.

        Raises:
            EngineDied: How it ended.
        """
        exited = asyncio.create_task(engine.exited(), name=f"engine-{self.index}-exit")
        try:
            while engine.state is EngineState.READY and not exited.done():
                successor = self._standby.take()
                if successor is not None or self._to_restart:
                    return successor
                item = await self._next_item(engine, exited)
                if item is not None:
                    await self._work(engine, item, exited)
                self._consider_retiring(engine, idle=item is None)
        finally:
            exited.cancel()
        if not await has_ended(engine):
            # It lives, and what it says cannot be understood; the kill that follows is ours.
            self.death = Death(DeathCause.EXIT, None, None)
        raise EngineDied(f"the engine ended while idle (exit code {engine.exit_code})")

    async def _next_item(self, engine: EngineProcess, exited: asyncio.Task[None]) -> WorkItem | None:
        """Wait for work; ``None`` when the engine ended, a standby is ready, or the engine proved that it lives."""
        waiting = asyncio.create_task(self._owner.next_item(), name=f"engine-{self.index}-next")
        nudged = asyncio.create_task(self._nudge.wait(), name=f"engine-{self.index}-nudge")
        watched: set[asyncio.Future[Any]] = {waiting, exited, nudged}
        if self._standby.coming is not None:
            watched.add(self._standby.coming)
        try:
            # An engine that stopped answering is found within a heartbeat: half of it to ask, half to be answered.
            await asyncio.wait(watched, timeout=self._config.heartbeat_s / 2, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                if not exited.done():
                    return waiting.result()
                self._owner.take_back(waiting.result())
        finally:
            waiting.cancel()
            nudged.cancel()
            self._nudge.clear()
        if not exited.done() and (death := await end_if_deaf(engine, self._config.heartbeat_s)) is not None:
            self.death = death
            raise EngineDied("killed: it hung while idle")
        return None

    async def _work(self, engine: EngineProcess, item: WorkItem, exited: asyncio.Task[None]) -> None:
        """Run one item, unless the engine ends while it waits for memory.

        Raises:
            EngineDied: The engine ended or had to be killed; what becomes of the item is the owner's decision.
        """
        begun, kills_before = False, 0

        async def run() -> int:
            nonlocal begun, kills_before
            # Whoever was killed while this waited for memory was not killed for it.
            begun, kills_before = True, memory_kills()
            return await self._run_within_limits(engine, item)

        self.item, item.course.slot = item, self.index
        try:
            await self._owner.work(item, run, exited)
        except (Overdue, Hung, EngineDied) as error:
            death = self.death = await put_down(engine, error, kills_before)
            if isinstance(error, Overdue):
                item.fail(DeadlineExceeded("the time allowed for this picture ran out while it was read"))
            self._owner.after_death(item, death)
            raise EngineDied(str(death)) from error
        except Exception:
            item.fail(InternalError("an unexpected fault; the log has the trace under this request id"))
            raise
        self.item = None
        if begun:
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
        course.untidy_before, course.held_bytes = engine.untidy, engine.rss_bytes
        await run_patiently(engine, item, patience)
        course.untidy_after = engine.untidy
        course.peak_bytes, course.rss_bytes = engine.peak_rss_bytes, engine.rss_bytes
        course.allocation_failed = engine.allocation_failed
        if item.kind == "golden" and item.answered:
            note_golden(engine, item.outcome.result().message["golden"])
        return engine.peak_rss_bytes

    def _why_retire(self, engine: EngineProcess) -> Retirement | None:
        if self._outdated:
            return Retirement("configuration", urgent=True)
        age_s = asyncio.get_running_loop().time() - self._ready_since
        return why_retire(engine, self._config, age_s, self._owner.headroom_bytes())

    def _consider_retiring(self, engine: EngineProcess, *, idle: bool) -> None:
        """See to a successor when this engine has grown, is old or has run out of memory once.

        It is warmed first where memory allows. Where not, the engine leaves first: at once when it must not stay, and
        otherwise when it has had nothing to do for a while.
        """
        if not self._standby.may_begin or self._to_restart:
            return
        why = self._why_retire(engine)
        if why is None:
            return
        room = self._owner.room_for_standby()
        if not room and not ((why.urgent or idle) and self._owner.may_pause(self)):
            return
        _log.warning(
            "An engine is to be replaced"
            + ("; its successor is warming up" if room else " in place, for want of room"),
            extra={"slot": self.index, "reason": why.reason, "rss_bytes": engine.rss_bytes, "items": engine.items},
        )
        if room:
            self._standby.warm_up(self._observed_engine(), self._config.start_timeout_s)
        else:
            self._to_restart = True
