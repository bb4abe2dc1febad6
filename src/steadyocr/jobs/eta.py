"""When a job will be done: from the rate at which items really were worked off lately, on all nodes together.

Nothing is promised that was not measured: without enough to go by there is no answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from typing import Final

from steadyocr.errors import SteadyOCRError
from steadyocr.jobs.async_store import AsyncJobStore
from steadyocr.jobs.models import Load, Progress
from steadyocr.telemetry.loops import Loops

_log = logging.getLogger("steadyocr.jobs")

_SAMPLE_S: Final = 2.0
_WINDOW_S: Final = 120.0
# Fewer items or a shorter time than this tell nothing.
_MIN_ITEMS: Final = 3
_MIN_BUSY_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a job's client may expect.

    Attributes:
        position: Items of other jobs that are taken before the job's last one.
        eta_s: Seconds until the job has ended; ``None`` when that is not known, 0 when it has.
    """

    position: int
    eta_s: float | None


@dataclass(frozen=True, slots=True)
class _Span:
    """A stretch of time in which there was work all along."""

    until: float
    busy_s: float
    items: int


class RateMeter:
    """Items per second of busy time, over a sliding window. Time without work counts for nothing.

    Args:
        window_s: How far it looks back, in seconds of the clock it is told.
    """

    def __init__(self, window_s: float = _WINDOW_S) -> None:
        self._window_s = window_s
        self._spans: deque[_Span] = deque()
        self._last: tuple[float, Load] | None = None

    def note(self, at: float, load: Load) -> None:
        """Take a sample."""
        if self._last is not None:
            since, before = self._last
            items = load.ended - before.ended
            # The count falls when jobs are deleted or run again; such a stretch tells nothing.
            if items >= 0 and at > since and (before.unfinished or items):
                self._spans.append(_Span(at, at - since, items))
        self._last = (at, load)
        while self._spans and self._spans[0].until <= at - self._window_s:
            self._spans.popleft()

    def break_off(self) -> None:
        """Begin anew with the next sample: nobody knows what happened until then, so it says nothing about speed."""
        self._last = None

    def rate(self) -> float | None:
        """Return items per second; ``None`` when too little was seen, or nothing moves."""
        items = sum(span.items for span in self._spans)
        busy_s = sum(span.busy_s for span in self._spans)
        return items / busy_s if items >= _MIN_ITEMS and busy_s >= _MIN_BUSY_S else None


def outlook(progress: Progress, rate: float | None) -> Outlook:
    """Return what to expect of a job.

    Args:
        progress: How far it is.
        rate: Items per second on all nodes together, if known.
    """
    waiting = progress.job.remaining - progress.leased
    position = max(0, progress.ahead - waiting)
    before_end = progress.ahead + progress.leased
    if not progress.job.remaining:
        return Outlook(0, 0.0)
    known = rate if not progress.archives else None
    return Outlook(position, round(before_end / known, 1) if known else None)


class EtaMeter:
    """Measures the rate for as long as its loop runs.

    Args:
        jobs: Whose items are counted.
        sample_s: Time between two looks, in seconds.
    """

    def __init__(self, jobs: AsyncJobStore, sample_s: float = _SAMPLE_S) -> None:
        self._jobs = jobs
        self._sample_s = sample_s
        self._meter = RateMeter()

    def start(self, loops: Loops) -> None:
        """Start to measure."""
        loops.start("job-rate", self._run())

    def outlook(self, progress: Progress) -> Outlook:
        """Return what to expect of a job."""
        return outlook(progress, self._meter.rate())

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            try:
                load = await self._jobs.run(self._jobs.store.load)
            except SteadyOCRError as error:
                self._meter.break_off()
                _log.debug("The rate of jobs cannot be measured", extra={"code": error.code})
            else:
                self._meter.note(clock(), load)
            await asyncio.sleep(self._sample_s)
