"""Lines found at native scale and in the shrunk picture: which of them to keep.

What the pp-ocrv6-small detector does at native scale to letters higher than 200 pixels or so: it finds single
letters, halves of letters and upright strokes. Shrinking, on the other hand, blurs a paragraph of small lines into
one high region.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from steadyocr.imaging.geometry import FloatArray, polygon_area, quad_iou, quad_sizes

BoolArray = NDArray[np.bool_]

# A shrunk quad with less than this share of its area under native quads was missed by them.
_MISSED: Final = 0.1
# Quads that overlap this well (IoU) are the same line.
_SAME: Final = 0.5
# A native quad with this share of its area on a shrunk one's ink is a piece of it.
_INSIDE: Final = 0.6
# Quads of huge letters reach further beyond the ink than others: by about this share of their height on each side.
_MARGIN: Final = 1 / 8
# A native quad is a line of its own, not a piece, if it is this thin beside the shrunk one and this long itself.
_THIN: Final = 1 / 6
_LONG: Final = 3.0
# Lines of their own that fill this share of a shrunk quad show that it is a blurred paragraph.
_FILLED: Final = 0.5


def merge_scales(native: FloatArray, shrunk: FloatArray, tall: float) -> tuple[BoolArray, BoolArray]:
    """Choose between quads of the same picture found at two scales.

    Of the shrunk ones those are taken that native ones hardly touch; and those at least `tall` high, unless they are
    blurred paragraphs, or native scale found the same line and not too high. The latter replace the native quads
    inside them, except small lines across the page.

    Args:
        native: (N, 4, 2), in pixels of the picture.
        shrunk: (M, 4, 2), in pixels of the picture too.
        tall: Height of a quad from which native scale is not to be trusted, in pixels.

    Returns:
        (N,) and (M,), true for the quads to keep.
    """
    keep, take = np.ones(len(native), np.bool_), np.zeros(len(shrunk), np.bool_)
    low, high = native.min(axis=1), native.max(axis=1)
    areas, sizes = polygon_area(native), quad_sizes(native)
    heights, across = sizes.min(axis=1), sizes[:, 0] > sizes[:, 1]
    long = sizes.max(axis=1) >= _LONG * heights
    # One shrunk quad at a time: a table of all pairs would grow with the square of the picture.
    for index, quad in enumerate(shrunk):
        near = np.flatnonzero(np.all((low < quad.max(axis=0)) & (high > quad.min(axis=0)), axis=1))
        area, height = float(polygon_area(quad[None])[0]), float(quad_sizes(quad[None]).min())
        shared = _shared_areas(native[near], quad)
        if shared.sum() < _MISSED * area:
            take[index] = True
            continue
        same = shared >= _SAME * (areas[near] + area - shared)
        lines = long[near] & (heights[near] < _THIN * height)
        blurred = shared[lines].sum() >= _FILLED * area
        known = np.any(same & (heights[near] < tall))
        if height >= tall and not blurred and not known:
            take[index] = True
            pieces = same | (_shared_areas(native[near], _ink(quad)) >= _INSIDE * areas[near])
            keep[near[pieces & ~(lines & across[near])]] = False
    return keep, take


def _shared_areas(quads: FloatArray, quad: FloatArray) -> FloatArray:
    """Area (N,) that each of the quads shares with one: intersection over union, solved for the intersection."""
    iou = quad_iou(quads, quad[None])[:, 0]
    shared = iou * (polygon_area(quads) + polygon_area(quad[None])) / (1 + iou)
    return shared.astype(np.float32)


def _ink(quad: FloatArray) -> FloatArray:
    """The quad without its margins above and below."""
    inward = quad[[3, 2, 1, 0]] - quad
    return (quad + _MARGIN * inward).astype(np.float32)
