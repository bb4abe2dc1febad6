"""The labelled text regions that readers, augmentation, targets and metrics hand to each other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

# The ICDAR mark for "there is text here, but nobody can tell what": neither learned nor counted.
IGNORE_TEXT: Final = "###"


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """One text line or word.

    Attributes:
        polygon: (N, 2) float32 corners, N >= 3, clockwise, pixel-edge coordinates of the picture as viewed.
        text: What it says, where that is known.
        ignore: Neither learned nor counted.
    """

    polygon: FloatArray
    text: str = ""
    ignore: bool = False

    def with_polygon(self, polygon: FloatArray, *, ignore: bool | None = None) -> Region:
        """Return the same region elsewhere."""
        return replace(self, polygon=polygon, ignore=self.ignore if ignore is None else ignore)


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImage:
    """A picture file and its regions; ``dataset`` names the set it is sampled and judged with."""

    path: Path
    regions: tuple[Region, ...]
    dataset: str = ""


def rect_sides(polygon: FloatArray) -> tuple[float, float]:
    """Return the shorter and the longer side of the polygon's smallest enclosing rectangle, in pixels."""
    _, (width, height), _ = cv2.minAreaRect(polygon)
    return min(width, height), max(width, height)


def polygon_area(polygon: FloatArray) -> float:
    """Area by the shoelace formula, never negative."""
    return abs(signed_area(polygon))


def signed_area(polygon: FloatArray) -> float:
    """Area by the shoelace formula, positive for clockwise corners, y pointing down."""
    x, y = polygon[:, 0].astype(np.float64), polygon[:, 1].astype(np.float64)
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2.0


def perimeter(polygon: FloatArray) -> float:
    """Length of the outline."""
    return float(np.sqrt(((polygon - np.roll(polygon, -1, axis=0)) ** 2).sum(axis=1)).sum())


def convex_hull(polygon: FloatArray) -> FloatArray:
    """Convex hull, clockwise with y pointing down."""
    hull = np.asarray(cv2.convexHull(polygon), np.float32).reshape(-1, 2)
    return hull if signed_area(hull) >= 0 else hull[::-1]


def crosses_itself(polygon: FloatArray) -> bool:
    """Whether two opposite edges of a quad cut each other; other polygons are not looked at."""
    if len(polygon) != 4:
        return False
    a, b, c, d = (tuple(map(float, corner)) for corner in polygon)
    return _cut(a, b, c, d) or _cut(b, c, d, a)


def uncrossed(polygon: FloatArray) -> FloatArray:
    """Return a quad that crosses itself with its corners in order, from the same first one; others as they are."""
    if not crosses_itself(polygon):
        return polygon
    hull = convex_hull(polygon)
    if len(hull) != len(polygon):
        return polygon
    start = int(np.argmin(((hull - polygon[0]) ** 2).sum(axis=1)))
    return np.roll(hull, -start, axis=0)


def _cut(a: tuple[float, ...], b: tuple[float, ...], c: tuple[float, ...], d: tuple[float, ...]) -> bool:
    def side(p: tuple[float, ...], q: tuple[float, ...], r: tuple[float, ...]) -> float:
        return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])

    return side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0
