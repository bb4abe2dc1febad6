"""The time that leases live by.

On PostgreSQL it is the server's, so that nodes need not agree; when somebody sets it, :class:`LeapWatch` notices, and
:mod:`steadyocr.jobs.leasing` takes with care what was written before. On SQLite all processes are on one machine, and
wall clocks jump (an NTP step, an operator's hand): a jump must neither end every lease at once nor keep dead ones
alive for years. So a machine's time runs on ``CLOCK_BOOTTIME``, which only ever goes forward and is the same in every
process, shifted by an offset to the wall clock that the first process after a boot writes into the database. After
a boot no lease can have a living holder. Whether the clock of a new boot is right nobody can say: deadlines go by it.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, select, update

from steadyocr.jobs.models import ItemState
from steadyocr.jobs.schema import fact, is_state, item

Clock = Callable[[], float]

# Less may be an answer that came late.
_LEAP_S: Final = 5.0
# A clock that is set more often is nobody's yardstick.
_MAX_LEAPS: Final = 8
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Return what tells one run of this machine from the next."""
    return _BOOT_ID.read_text(encoding="ascii").strip()


def boottime() -> float:
    """Return seconds since this machine was started, sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class MachineClock:
    """Seconds since 1970 that never jump while the machine runs."""

    def __init__(self, offset_s: float, boottime: Clock = boottime) -> None:
        self._offset_s = offset_s
        self._boottime = boottime

    def __call__(self) -> float:
        """Return the time."""
        return self._offset_s + self._boottime()


@dataclass(frozen=True, slots=True)
class Leap:
    """A clock was set ahead.

    Attributes:
        before: What it showed when it was set, as far as is known: until then, times were told by the old one.
        by_s: How far.
    """

    before: float
    by_s: float


@dataclass(frozen=True, slots=True)
class Sight:
    """What a look at a clock showed.

    Attributes:
        now: The time.
        steady_s: For how long it has not been set, as far as is known.
        leaps: The times it was set ahead and not back again, as far as is known, oldest first.
    """

    now: float
    steady_s: float = math.inf
    leaps: tuple[Leap, ...] = ()


class LeapWatch:
    """Notices when a clock is set, by this machine's time since its start, which nobody sets. Usable from threads.

    It knows what happened while it watched, and nothing of before.

    Args:
        steady: A clock that never jumps; ``None`` when the watched one is such a clock itself.
    """

    def __init__(self, steady: Clock | None) -> None:
        self._steady = steady
        self._lock = threading.Lock()
        self._offset_s: float | None = None
        self._leapt_at = -math.inf
        self._leaps: tuple[Leap, ...] = ()

    def look(self, clock: Clock) -> Sight:
        """Look at the watched clock."""
        if self._steady is None:
            return Sight(clock())
        asked = self._steady()
        now = clock()
        answered = self._steady()
        with self._lock:
            # An answer that was under way for long seems to be one of a clock set back.
            if answered - asked <= _LEAP_S:
                self._note(now, answered)
            return Sight(now, answered - self._leapt_at, self._leaps)

    def _note(self, now: float, steady: float) -> None:
        offset_s, before_s = now - steady, self._offset_s
        self._offset_s = offset_s
        if before_s is None or abs(offset_s - before_s) <= _LEAP_S:
            return
        self._leapt_at = steady
        by_s = offset_s - before_s
        if by_s > 0:
            self._leaps = (*self._leaps, Leap(now - by_s, by_s))[-_MAX_LEAPS:]
        else:
            self._leaps = _without(self._leaps, -by_s)


def _without(leaps: tuple[Leap, ...], back_s: float) -> tuple[Leap, ...]:
    """Return what is left of leaps ahead after one back: it undoes the newest first."""
    rest = list(leaps)
    while rest and back_s > 0:
        newest = rest.pop()
        if newest.by_s > back_s:
            rest.append(Leap(newest.before, newest.by_s - back_s))
        back_s -= newest.by_s
    return tuple(rest)


def machine_clock(
    connection: Connection, *, boot: str | None = None, wall: Clock = time.time, boottime: Clock = boottime
) -> MachineClock:
    """Return the clock that every process of this machine shares, within a write transaction.

    The first call after a boot sets it, ends all leases and lets all that waits out a back-off run.
    """
    boot = boot or boot_id()
    known = {row.name: row.value for row in connection.execute(select(fact))}
    if known.get("boot") == boot:
        return MachineClock(float(known["clock_offset_s"]), boottime)
    offset = wall() - boottime()
    values = {"boot": boot, "clock_offset_s": repr(offset)}
    connection.execute(fact.delete().where(fact.c.name.in_(values)))
    connection.execute(fact.insert(), [{"name": name, "value": value} for name, value in values.items()])
    connection.execute(update(item).where(is_state(ItemState.LEASED)).values(lease_until=0.0))
    connection.execute(update(item).where(is_state(ItemState.QUEUED)).values(run_at=0.0))
    return MachineClock(offset, boottime)
