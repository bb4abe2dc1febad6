"""Which engines, threads and side limit suit this machine: the order of measuring and the choice, without the doing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Protocol

from steadyocr.errors import DeadlineExceeded

# Below this a measurement says nothing.
_MIN_SLICE_S: Final = 1.5
_MIN_PICTURES: Final = 3
# Shares of the time: all candidates, smaller sides where they are needed, the run-off.
_FIRST_SHARE: Final = 0.6
_SMALLER_SHARE: Final = 0.15
_FINALISTS: Final = 2
_ROUNDS: Final = 2
# A candidate must be this much better than the defaults in the run-off; less is noise.
_WORTH_IT: Final = 1.05
_MAX_CANDIDATES: Final = 9


@dataclass(frozen=True, slots=True, order=True)
class Candidate:
    """Engine processes, and threads of each."""

    engines: int
    threads: int

    def __str__(self) -> str:
        """Say it shortly."""
        return f"{self.engines} x {self.threads}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What one candidate did, with all its engines busy.

    Attributes:
        max_side: Longest side given to the detector, in pixels.
        pictures: How many were read.
        seconds: In how long.
        p50_s: Median time from handing in to answer.
        p95_s: 95 % of the pictures took no longer.
        memory_bytes: Front and engines together at their highest.
    """

    candidate: Candidate
    max_side: int
    pictures: int
    seconds: float
    p50_s: float
    p95_s: float
    memory_bytes: int

    @property
    def per_s(self) -> float:
        """Pictures a second."""
        return self.pictures / self.seconds if self.seconds else 0.0

    def to_wire(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), "per_s": round(self.per_s, 3)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What must hold; ``None`` for no bound.

    Attributes:
        p95_s: 95 % of the pictures take no longer, with all engines busy.
        memory_bytes: Front and engines together at their highest.
    """

    p95_s: float | None = None
    memory_bytes: int | None = None

    def met_by(self, measured: Measurement) -> bool:
        """Whether a measurement is within both bounds."""
        slow = self.p95_s is not None and measured.p95_s > self.p95_s
        large = self.memory_bytes is not None and measured.memory_bytes > self.memory_bytes
        return not (slow or large)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of it.

    Attributes:
        chosen: The best measurement that meets the wishes, or the nearest to them.
        default: The same for what the service takes by itself.
        met: Whether the wishes are met.
        reason: Why this one, in words.
        table: All that was measured, in order.
    """

    chosen: Measurement
    default: Measurement
    met: bool
    reason: str
    table: tuple[Measurement, ...] = field(default=())


class Measure(Protocol):
    """Does the measuring."""

    async def __call__(self, candidate: Candidate, max_side: int, seconds: float) -> Measurement:
        """Start engines, read pictures for so long, end the engines."""


def candidates(cores: int, default: Candidate) -> list[Candidate]:
    """Return what is worth trying on so many cores, the default first."""
    counts = sorted({1, 2, max(1, cores // 4), max(1, cores // 2), cores})
    found = {Candidate(count, max(1, cores // count)) for count in counts if count <= max(2, cores)}
    # Threads that do not get in each other's way, and a second engine that fills the first one's pauses.
    found |= {Candidate(1, max(1, cores // 2)), Candidate(2, cores)}
    rest = sorted(found - {default}, key=lambda one: (abs(one.engines * one.threads - cores), one))
    return [default, *rest][:_MAX_CANDIDATES]


class Tuner:
    """One run of tuning, within a time.

    Args:
        measure: Does the measuring.
        wishes: What must hold.
        budget_s: Time for all of it.
        say: Told each measurement as it comes.
        clock: Seconds.
    """

    def __init__(
        self,
        measure: Measure,
        wishes: Wishes,
        budget_s: float,
        say: Callable[[Measurement], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._measure = measure
        self._wishes = wishes
        self._budget_s = budget_s
        self._say = say
        self._clock = clock
        self._ends_at = 0.0
        self._table: list[Measurement] = []

    async def run(self, tried: Sequence[Candidate], sides: Sequence[int]) -> Verdict:
        """Measure and choose.

        Args:
            tried: The default first.
            sides: Longest sides in pixels, the default first, then smaller ones.

        Raises:
            DeadlineExceeded: The time does not even allow to compare the default with something.
        """
        self._ends_at = self._clock() + self._budget_s
        slice_s = self._budget_s * _FIRST_SHARE / len(tried)
        # With little time, few candidates: the first are the most promising.
        affordable = max(1, int(self._budget_s * _FIRST_SHARE / max(slice_s, _MIN_SLICE_S)))
        first = [found for one in tried[:affordable] if (found := await self._try(one, sides[0], slice_s))]
        if not first or first[0].candidate != tried[0] or len(first) < min(2, len(tried)):
            raise DeadlineExceeded("there was not enough time to compare anything; give it more seconds")
        default = first[0]
        good = [one for one in first if self._wishes.met_by(one)] or await self._with_smaller_sides(first, sides[1:])
        if not good:
            nearest = min(self._table, key=self._distance)
            return self._verdict(nearest, default, met=False, reason="nothing meets the wishes; this comes nearest")
        # The largest side that meets the wishes, since a smaller one loses small text; then the fastest.
        best = max(good, key=lambda one: (one.max_side, one.per_s))
        if best.candidate == default.candidate and best.max_side == default.max_side:
            return self._verdict(best, default, met=True, reason=f"the defaults are the best of {len(first)} choices")
        if not self._wishes.met_by(default):
            return self._verdict(
                best, default, met=True, reason="the fastest that meets the wishes; the defaults do not"
            )
        return await self._run_off(best, default)

    async def _with_smaller_sides(self, first: Sequence[Measurement], sides: Sequence[int]) -> list[Measurement]:
        """Make the side smaller until something meets the wishes."""
        fits = [
            one for one in first if self._wishes.memory_bytes is None or one.memory_bytes <= self._wishes.memory_bytes
        ]
        finalists = sorted(fits or first, key=lambda one: one.p95_s)[:_FINALISTS]
        slice_s = max(self._budget_s * _SMALLER_SHARE / _FINALISTS, _MIN_SLICE_S)
        for side in sides:
            measured = [await self._try(one.candidate, side, slice_s) for one in finalists]
            good = [one for one in measured if one is not None and self._wishes.met_by(one)]
            if good:
                return good
        return []

    async def _run_off(self, best: Measurement, default: Measurement) -> Verdict:
        """Measure the two in turn with the time that is left, so that a passing load does not decide."""
        slice_s = (self._ends_at - self._clock()) / (2 * _ROUNDS)
        again: dict[Candidate, list[Measurement]] = {best.candidate: [], default.candidate: []}
        for _ in range(_ROUNDS):
            for one in (default, best):
                found = await self._try(one.candidate, one.max_side, slice_s)
                if found is not None:
                    again[one.candidate].append(found)
        ours, theirs = again[best.candidate], again[default.candidate]
        if not ours or not theirs:
            reason = f"{best.candidate} looked faster, but there was not enough time to be sure; the defaults stay"
            return self._verdict(default, default, met=True, reason=reason)
        gain = _pooled_per_s(ours) / _pooled_per_s(theirs)
        if gain < _WORTH_IT or not all(self._wishes.met_by(one) for one in ours):
            reason = f"nothing beats the defaults by more than noise ({gain:.2f} x)"
            return self._verdict(theirs[-1], theirs[-1], met=True, reason=reason)
        reason = f"{gain:.2f} times as fast as the defaults, measured in turn"
        return self._verdict(ours[-1], theirs[-1], met=True, reason=reason)

    async def _try(self, candidate: Candidate, side: int, seconds: float) -> Measurement | None:
        left = self._ends_at - self._clock()
        seconds = min(seconds, left)
        if seconds < _MIN_SLICE_S:
            return None
        found = await self._measure(candidate, side, seconds)
        self._table.append(found)
        self._say(found)
        return found if found.pictures >= _MIN_PICTURES else None

    def _distance(self, measured: Measurement) -> float:
        """How far a measurement is from the wishes: the worse of both ratios."""
        wishes = self._wishes
        slow = measured.p95_s / wishes.p95_s if wishes.p95_s else 0.0
        large = measured.memory_bytes / wishes.memory_bytes if wishes.memory_bytes else 0.0
        return max(slow, large)

    def _verdict(self, chosen: Measurement, default: Measurement, *, met: bool, reason: str) -> Verdict:
        return Verdict(chosen=chosen, default=default, met=met, reason=reason, table=tuple(self._table))


def _pooled_per_s(measured: Sequence[Measurement]) -> float:
    return sum(one.pictures for one in measured) / sum(one.seconds for one in measured)
