"""How long a picture takes, from those that were read lately: what to expect, and what is seldom passed."""

from __future__ import annotations

import math
import statistics
from collections import deque
from typing import Final

FIRST_GUESS_S: Final = 1.0
_REMEMBERED: Final = 64
# When the machine gets slower, the last few say so first.
_LATEST: Final = 8
# Standard deviations and a margin: a sum of independent times stays below in all but one of some hundred cases.
_DEVIATIONS: Final = 3.0
_MARGIN: Final = 0.1


class ServiceTimes:
    """The times of the last pictures. Mean and spread are reckoned when one is added, not when they are asked for."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=_REMEMBERED)
        self._mean_s = FIRST_GUESS_S
        self._deviation_s = 0.0

    def record(self, seconds: float) -> None:
        """Learn from one that has been read."""
        self._times.append(seconds)
        times = list(self._times)
        self._mean_s = max(statistics.fmean(times), statistics.fmean(times[-_LATEST:]))
        self._deviation_s = statistics.pstdev(times)

    @property
    def expected_s(self) -> float:
        """What one takes; before the first, a guess."""
        return self._mean_s

    def bound_s(self, rounds: int) -> float:
        """What so many, one after another, seldom take longer than, in seconds; 0 while nothing is known.

        The spread of a sum grows with the root of its length: many times the worst single time would refuse pictures
        that can well be read. That the mean is of so few grows with the length itself.
        """
        if not self._times:
            return 0.0
        spread = math.sqrt(rounds + rounds**2 / len(self._times)) * self._deviation_s
        return (1.0 + _MARGIN) * rounds * self._mean_s + _DEVIATIONS * spread
