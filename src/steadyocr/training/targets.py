"""What the network should answer for a picture: shrunk text regions and the border band round them.

DB paper, sections 3.4 and 3.5. Every region is drawn inside its own window, so the cost follows the text and not the
picture.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
import pyclipper
from numpy.typing import NDArray

from steadyocr.training.regions import FloatArray, Region, convex_hull, perimeter, polygon_area, rect_sides

ByteArray = NDArray[np.uint8]

# pyclipper and OpenCV's filler take integers; both get 1/16 pixel.
_SHIFT = 4
_UNITS = float(1 << _SHIFT)
# An outline shrunk by less than one such unit stays where it is: it has next to no area, its sides cross, or both.
_LEAST_OFFSET = 1.0 / _UNITS


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetParams:
    """How targets are drawn.

    Attributes:
        shrink_ratio: r in offset = area * (1 - r^2) / perimeter.
        min_text_size: Regions with a shorter side below this many network pixels are masked out, not learned.
        threshold_min: Value of the border map at distance "offset" from the outline.
        threshold_max: Its value on the outline.
    """

    shrink_ratio: float = 0.4
    min_text_size: float = 5.0
    threshold_min: float = 0.3
    threshold_max: float = 0.7


@dataclass(frozen=True, slots=True, eq=False)
class TargetMaps:
    """Targets of one picture, each (H, W).

    Attributes:
        shrink_map: uint8, 1 inside a shrunk text region.
        shrink_mask: uint8, 0 where nothing is learned about the shrink map.
        threshold_map: float32, the border map; ``threshold_min`` away from borders.
        threshold_mask: uint8, 1 where the border map is learned.
    """

    shrink_map: ByteArray
    shrink_mask: ByteArray
    threshold_map: FloatArray
    threshold_mask: ByteArray


def make_targets(regions: Iterable[Region], height: int, width: int, params: TargetParams) -> TargetMaps:
    """Draw the targets of one picture.

    What cannot be learned is masked out: what is to be ignored, is too thin, or has an outline that crosses itself.

    Args:
        regions: In pixel-edge coordinates of the network input; may reach outside.
        height: Of the network input.
        width: Of the network input.
        params: How to draw.

    Returns:
        The four maps.
    """
    shrink_map = np.zeros((height, width), np.uint8)
    shrink_mask = np.ones((height, width), np.uint8)
    closeness = np.zeros((height, width), np.float32)
    threshold_mask = np.zeros((height, width), np.uint8)
    unlearnable: list[FloatArray] = []
    for region in regions:
        offset = shrink_offset(region.polygon, params.shrink_ratio)
        if offset < _LEAST_OFFSET:
            # The fill of such an outline has holes; metrics take the hull for it as well.
            unlearnable.append(convex_hull(region.polygon))
            continue
        shrunk = None if _unlearnable(region, params) else offset_polygon(region.polygon, -offset)
        if shrunk is None:
            unlearnable.append(region.polygon)
            continue
        _fill(shrink_map, shrunk, 1)
        _draw_border(region.polygon, offset, closeness, threshold_mask)
    # Last, so that a region nobody can read wins over a neighbour that reaches into it.
    for polygon in unlearnable:
        _fill(shrink_mask, polygon, 0)
        _fill(threshold_mask, polygon, 0)
    span = params.threshold_max - params.threshold_min
    return TargetMaps(shrink_map, shrink_mask, closeness * span + params.threshold_min, threshold_mask)


def shrink_offset(polygon: FloatArray, shrink_ratio: float) -> float:
    """Distance by which a region is shrunk, in pixels: area * (1 - r^2) / perimeter."""
    around = perimeter(polygon)
    return polygon_area(polygon) * (1.0 - shrink_ratio**2) / around if around > 0 else 0.0


def offset_polygon(polygon: FloatArray, distance: float) -> FloatArray | None:
    """Grow (or, below 0, shrink) a polygon; ``None`` when nothing is left or it falls apart."""
    clipper = pyclipper.PyclipperOffset()
    path = np.rint(polygon * _UNITS).astype(np.int64)
    # Right angles stay right: a quad shrinks to a quad.
    join = pyclipper.JT_MITER if distance < 0 else pyclipper.JT_ROUND
    try:
        clipper.AddPath(path.tolist(), join, pyclipper.ET_CLOSEDPOLYGON)
        found = clipper.Execute(distance * _UNITS)
    except pyclipper.ClipperException:
        return None
    if len(found) != 1 or len(found[0]) < 3:
        return None
    return np.asarray(found[0], np.float32) / np.float32(_UNITS)


def _unlearnable(region: Region, params: TargetParams) -> bool:
    return region.ignore or rect_sides(region.polygon)[0] < params.min_text_size


def _fill(canvas: ByteArray, polygon: FloatArray, value: int) -> None:
    # Pixel (0, 0) covers [0, 1), so its centre, where OpenCV puts coordinate 0, is at 0.5.
    fixed = np.rint((polygon - 0.5) * _UNITS).astype(np.int32)
    cv2.fillPoly(canvas, [fixed], value, lineType=cv2.LINE_8, shift=_SHIFT)


def _draw_border(polygon: FloatArray, offset: float, closeness: FloatArray, mask: ByteArray) -> None:
    """Add one region's border band: 1 on the outline, falling to 0 at ``offset`` pixels inside and outside."""
    grown = offset_polygon(polygon, offset)
    if grown is None:
        return
    height, width = closeness.shape
    x0, y0 = np.maximum(np.floor(grown.min(axis=0)).astype(int), 0)
    x1, y1 = np.minimum(np.ceil(grown.max(axis=0)).astype(int) + 1, (width, height))
    if x1 <= x0 or y1 <= y0:
        return
    origin = np.array((x0, y0), np.float32)
    _fill(mask[y0:y1, x0:x1], grown - origin, 1)
    outline = np.ones((y1 - y0, x1 - x0), np.uint8)
    fixed = np.rint((polygon - origin - 0.5) * _UNITS).astype(np.int32)
    cv2.polylines(outline, [fixed], True, 0, 1, cv2.LINE_8, _SHIFT)
    if outline.all():
        return
    distance = cv2.distanceTransform(outline, cv2.DIST_L2, 3)
    band = np.clip(1.0 - distance * np.float32(1.0 / offset), 0.0, 1.0)
    window = closeness[y0:y1, x0:x1]
    np.maximum(window, band, out=window)
