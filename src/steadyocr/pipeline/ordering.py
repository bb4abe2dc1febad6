"""Reading order of text lines, stable on a tilted page.

Binning rows by y alone breaks at small angles: on a page tilted by 10 degrees the right end of a row lies below the
left end of the next. So the page's tilt is estimated first and taken out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from steadyocr.imaging.geometry import line_angles, quad_sizes
from steadyocr.runtime.base import FloatArray, IntArray

# Lines at least this many times longer than high say something about the page's tilt.
_ELONGATED = 2.0
# Two lines stand in one row when they share at least this part of the lower one's height.
_ROW_OVERLAP = 0.5
_COLUMN_SHARE = 0.5
# So many times as high as the others of its row, a line is no measure of the row.
_TALL = 2.0


def reading_order(quads: FloatArray, *, upwards: bool = False) -> IntArray:
    """Order text lines as a person reads: rows from the top, in a row from the left.

    Pages made mostly of vertical lines are read in columns from the right, as Chinese and Japanese are set and as a
    page lies that was turned right.

    Args:
        quads: (N, 4, 2) float32, clockwise from top-left.
        upwards: Vertical lines are read from below, in columns from the left: the page was turned left.

    Returns:
        (N,) indices of the lines in reading order.
    """
    if len(quads) == 0:
        return np.zeros(0, np.int64)
    vertical = _is_vertical(quads)
    upright = _rotate(quads, -page_tilt(quads))
    low, high = upright.min(axis=1), upright.max(axis=1)
    if vertical.mean() > _COLUMN_SHARE:
        if upwards:
            return _rows(low[:, 0], high[:, 0], -high[:, 1])
        # Columns from the right are rows from the top of the page turned by a quarter.
        return _rows(-high[:, 0], -low[:, 0], low[:, 1])
    return _rows(low[:, 1], high[:, 1], low[:, 0])


def was_read_upwards(quads: FloatArray) -> bool:
    """Whether lines that stand in reading order, (N, 4, 2), are those of a page that was turned left."""
    if len(quads) < 2 or _is_vertical(quads).mean() <= _COLUMN_SHARE:
        return False
    across = quads[:, :, 0].mean(axis=1)
    places = np.arange(len(quads))
    return float(np.cov(places, across)[0, 1]) > 0


def _is_vertical(quads: FloatArray) -> NDArray[np.bool_]:
    sizes = quad_sizes(quads)
    vertical: NDArray[np.bool_] = sizes[:, 1] >= _ELONGATED * sizes[:, 0]
    return vertical


def page_tilt(quads: FloatArray) -> float:
    """Return the tilt of the page in degrees, clockwise positive: the length-weighted median over elongated lines."""
    sizes = quad_sizes(quads)
    longer, shorter = sizes.max(axis=1), sizes.min(axis=1)
    elongated = longer >= _ELONGATED * shorter
    if not elongated.any():
        return 0.0
    # A vertical line's own direction is a quarter turn further.
    vertical = sizes[:, 1] > sizes[:, 0]
    angles = np.where(vertical, line_angles(np.roll(quads, -1, axis=1)) - 90.0, line_angles(quads))[elongated]
    weights = longer[elongated]
    order = np.argsort(angles)
    cumulative = np.cumsum(weights[order])
    return float(angles[order][np.searchsorted(cumulative, cumulative[-1] / 2)])


def _rotate(quads: FloatArray, degrees: float) -> FloatArray:
    radians = np.deg2rad(degrees)
    cos, sin = np.cos(radians), np.sin(radians)
    rotation = np.array([[cos, -sin], [sin, cos]], np.float32)
    rotated: FloatArray = (quads @ rotation.T).astype(np.float32)
    return rotated


def _rows(low: FloatArray, high: FloatArray, along: FloatArray) -> IntArray:
    """Group intervals [low, high] into rows, then sort each row by ``along``."""
    order = np.argsort((low + high) / 2, kind="stable")
    rows: list[_Row] = []
    for index in order.tolist():
        start, end = float(low[index]), float(high[index])
        if rows and rows[-1].takes(start, end):
            rows[-1].add(index, start, end)
        else:
            rows.append(_Row(index, start, end))
    return np.array([index for row in rows for index in sorted(row.members, key=lambda i: float(along[i]))], np.int64)


class _Row:
    """Lines that stand in one row, and the band of it: from where to where its usual members reach.

    A vertical title, a large price or a drop cap stands beside several rows. It belongs to one of them and says
    nothing about the band, which would swallow the next row.
    """

    def __init__(self, index: int, low: float, high: float) -> None:
        self.members = [index]
        self._low, self._high = low, high
        self._usual = 1

    @property
    def _height(self) -> float:
        return self._high - self._low

    def takes(self, low: float, high: float) -> bool:
        shared = min(self._high, high) - max(self._low, low)
        return shared >= _ROW_OVERLAP * min(self._height, high - low)

    def add(self, index: int, low: float, high: float) -> None:
        self.members.append(index)
        if high - low > _TALL * self._height:
            return
        if self._height > _TALL * (high - low):
            self._low, self._high, self._usual = low, high, 1
            return
        # The running mean keeps a row from drifting down a staircase of lines.
        self._usual += 1
        self._low += (low - self._low) / self._usual
        self._high += (high - self._high) / self._usual
