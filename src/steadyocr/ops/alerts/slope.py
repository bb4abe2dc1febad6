"""How fast a noisy series grows: the median of the slopes between all pairs of points (Theil and Sen).

One outlier, or a third of them, does not move it: an engine that was caught with a picture in hand is no leak.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from statistics import median


def robust_slope(points: Iterable[tuple[float, float]]) -> float:
    """Return the slope in value per time unit; 0 for fewer than two distinct times.

    Args:
        points: Times and values. All pairs are looked at, so keep to a few hundred.
    """
    slopes = [
        (later_value - value) / (later - time)
        for (time, value), (later, later_value) in combinations(points, 2)
        if later != time
    ]
    return median(slopes) if slopes else 0.0
