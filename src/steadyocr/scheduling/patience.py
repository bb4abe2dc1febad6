"""How long an engine may work on one item: as long as it shows progress and somebody may still want the answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from steadyocr.scheduling.engine import EngineProcess
from steadyocr.scheduling.items import WorkItem

# Share of a run without a sign of life that makes a picture suspect when the run had to be broken off.
_MOST = 0.5


class Overdue(Exception):
    """Nobody waits any more, and has not for a while; or it gets on, and takes longer than any item may.

    Attributes:
        silent: The engine, though given a processor, had shown no sign of life for most of the time.
    """

    def __init__(self, *, silent: bool) -> None:
        super().__init__()
        self.silent = silent


class Hung(Exception):
    """The engine shows no progress, or works for longer than any item may take.

    Attributes:
        starved: It got too little of the machine for that to say anything about the item.
    """

    def __init__(self, *, starved: bool) -> None:
        super().__init__()
        self.starved = starved


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """The bounds, in seconds: see :class:`~steadyocr.scheduling.slot.SlotConfig`."""

    item_limit_s: float
    heartbeat_s: float
    kill_grace_s: float


async def run_patiently(engine: EngineProcess, item: WorkItem, patience: Patience) -> None:
    """Run an item on an engine.

    A silent engine that wants to run and is given no processor is not hanging: it gets further heartbeats, up to the
    limit of an item.

    An item under suspicion is not overdue while its engine is silent: whether it hangs must come out, or clients in a
    hurry could send a picture that hangs again and again, and no engine would live long enough to prove it.

    Raises:
        EngineDied: The engine ended.
        Overdue: Its time is up; the engine still has the item in hand.
        Hung: Likewise, and the engine does not get on.
    """
    try:
        async with asyncio.timeout(None) as limit:
            watch = _Watch(engine, item, patience, limit)
            try:
                await engine.run(item, on_frame=watch.hear)
            finally:
                watch.stop()
    except TimeoutError as error:
        raise watch.verdict from error


class _Watch:
    """Lets a time limit expire as soon as one of the bounds is passed, and knows which."""

    def __init__(self, engine: EngineProcess, item: WorkItem, patience: Patience, limit: asyncio.Timeout) -> None:
        self._loop = asyncio.get_running_loop()
        now = self._began_at = self._loop.time()
        self.verdict: Overdue | Hung = Hung(starved=False)
        self._limit = limit
        self._on_trial = item.suspect
        self._heartbeat_s, self._kill_grace_s = patience.heartbeat_s, patience.kill_grace_s
        self._overdue_at = max(item.deadline, now) + patience.kill_grace_s
        self._hung_at = now + patience.item_limit_s
        # The one also moves on while the engine gets no processor; the other is what it has really said.
        self._silent_since = self._heard_at = now
        self._recent, self._whole = engine.cpu_clock(), engine.cpu_clock()
        self._timer = self._loop.call_at(self._next_bound(), self._check)

    def hear(self) -> None:
        """The engine says that it gets on."""
        self._heard_at = self._loop.time()
        self._note_sign_of_life()

    def _note_sign_of_life(self) -> None:
        self._silent_since = self._loop.time()
        self._recent.restart()
        if self._on_trial and self._silent_since >= self._overdue_at:
            # It does not hang. It may end soon, and be cleared.
            self._on_trial = False
            self._overdue_at = self._silent_since + self._kill_grace_s
            self._timer.cancel()
            self._timer = self._loop.call_at(self._next_bound(), self._check)

    def stop(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _next_bound(self) -> float:
        bound = min(self._hung_at, self._silent_since + self._heartbeat_s)
        return bound if self._on_trial else min(self._overdue_at, bound)

    def _check(self) -> None:
        now = self._loop.time()
        if now >= self._overdue_at and not self._on_trial:
            self._end(Overdue(silent=self._silent_for_most(now)))
        elif now >= self._hung_at:
            self._end(self._verdict_at_the_limit(now))
        elif now >= self._silent_since + self._heartbeat_s and not self._recent.starved():
            self._end(Hung(starved=False))
        else:
            if now >= self._silent_since + self._heartbeat_s:
                self._note_sign_of_life()
            self._timer.cancel()
            self._timer = self._loop.call_at(self._next_bound(), self._check)

    def _verdict_at_the_limit(self, now: float) -> Overdue | Hung:
        """A picture that gets on and still takes longer than any may is heavy; it does not hang, and is not blamed."""
        if self._whole.starved():
            return Hung(starved=True)
        if now - self._heard_at <= _MOST * (now - self._began_at):
            return Overdue(silent=False)
        return Hung(starved=False)

    def _silent_for_most(self, now: float) -> bool:
        return now - self._silent_since > _MOST * (now - self._began_at) and not self._recent.starved()

    def _end(self, verdict: Overdue | Hung) -> None:
        self.verdict = verdict
        self._limit.reschedule(self._loop.time())
