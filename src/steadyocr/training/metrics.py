"""The ICDAR detection protocol: one-to-one matches at IoU 0.5, unreadable regions neither reward nor punish."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from steadyocr.imaging.convex import intersection_area as convex_overlap
from steadyocr.training.regions import FloatArray, Region, polygon_area

MATCH_IOU: Final = 0.5
# A detection that lies in an ignored region by more than this share of its own area does not count.
IGNORED_SHARE: Final = 0.5


@dataclass(frozen=True, slots=True)
class Counts:
    """Matches and totals; adding them up over pictures gives a set's counts."""

    matched: int = 0
    wanted: int = 0
    found: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.matched + other.matched, self.wanted + other.wanted, self.found + other.found)

    @property
    def precision(self) -> float:
        """Share of the detections that match; 1 where nothing was found and nothing was there."""
        return self.matched / self.found if self.found else float(self.wanted == 0)

    @property
    def recall(self) -> float:
        """Share of the regions that were found; 1 where there were none."""
        return self.matched / self.wanted if self.wanted else 1.0

    @property
    def hmean(self) -> float:
        """Harmonic mean of precision and recall."""
        total = self.precision + self.recall
        return 2.0 * self.precision * self.recall / total if total else 0.0


def count_matches(found: Sequence[FloatArray], regions: Sequence[Region]) -> Counts:
    """Judge one picture.

    As in the ICDAR 2015 script, regions are gone through in order and each takes the first free detection that
    overlaps it enough; at IoU 0.5 and without double labels there is hardly ever a second one.

    Args:
        found: Detected polygons, each (N, 2) and convex.
        regions: The labels, in the same coordinates.
    """
    cared = [region for region in regions if not region.ignore]
    ignored = [region.polygon for region in regions if region.ignore]
    kept = [polygon for polygon in found if not _lies_in(polygon, ignored)]
    iou = pairwise_iou([region.polygon for region in cared], kept)
    free = np.ones(len(kept), bool)
    matched = 0
    for row in iou:
        hits = np.flatnonzero((row > MATCH_IOU) & free)
        if len(hits):
            free[hits[0]] = False
            matched += 1
    return Counts(matched, len(cared), len(kept))


def mean_hmean(counts: Mapping[str, Counts]) -> float:
    """Average of the sets' H-means, each set weighing the same."""
    return sum(count.hmean for count in counts.values()) / len(counts) if counts else 0.0


def total(counts: Iterable[Counts]) -> Counts:
    """Add counts up."""
    return sum(counts, Counts())


def pairwise_iou(first: Sequence[FloatArray], second: Sequence[FloatArray]) -> NDArray[np.float64]:
    """Intersection over union of every pair, (len(first), len(second)); pairs far apart are not looked at.

    Polygons that are not convex, and quads whose sides cross, count as their convex hull. OpenCV's
    ``intersectConvexConvex`` is not used: where two share part of a side it may be far off.
    """
    result = np.zeros((len(first), len(second)))
    if not first or not second:
        return result
    hulls_a, hulls_b = [_convex(p) for p in first], [_convex(p) for p in second]
    area_a, area_b = [polygon_area(hull) for hull in hulls_a], [polygon_area(hull) for hull in hulls_b]
    for i, j in zip(*np.nonzero(_boxes_touch(first, second)), strict=True):
        overlap = convex_overlap(hulls_a[i].tolist(), hulls_b[j].tolist())
        union = area_a[i] + area_b[j] - overlap
        result[i, j] = overlap / union if union > 0 else 0.0
    return result


def intersection_area(first: FloatArray, second: FloatArray) -> float:
    """Area common to two polygons; those that are not convex count as their convex hull."""
    return convex_overlap(_convex(first).tolist(), _convex(second).tolist())


def _convex(polygon: FloatArray) -> FloatArray:
    # The hull also puts the corners in one turning direction, which the intersection relies on.
    return np.asarray(cv2.convexHull(polygon.astype(np.float32)), np.float32).reshape(-1, 2)


def _boxes_touch(first: Sequence[FloatArray], second: Sequence[FloatArray]) -> NDArray[np.bool_]:
    low_a, high_a = _bounds(first)
    low_b, high_b = _bounds(second)
    touch = (low_a[:, None] < high_b[None]) & (low_b[None] < high_a[:, None])
    return np.asarray(touch.all(axis=2), np.bool_)


def _bounds(polygons: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray]:
    return np.stack([p.min(axis=0) for p in polygons]), np.stack([p.max(axis=0) for p in polygons])


def _lies_in(polygon: FloatArray, ignored: Sequence[FloatArray]) -> bool:
    area = polygon_area(polygon)
    if area <= 0 or not ignored:
        return False
    touching = _boxes_touch([polygon], ignored)[0]
    return any(
        intersection_area(polygon, ignored[index]) > IGNORED_SHARE * area
        for index in map(int, np.flatnonzero(touching))
    )
