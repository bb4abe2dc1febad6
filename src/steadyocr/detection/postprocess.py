"""From a probability map to text-line quads, in floats from end to end.

Follows the DB paper (Liao et al. 2020, section 3.4): binarise, take each connected region's minimum-area rectangle,
score it by the mean probability inside, grow it back by ``area x ratio / perimeter``. Two things differ from the
common code. Coordinates are never rounded to integers, which costs up to a network pixel times the scale. And a
rectangle is grown analytically: offsetting all four sides by d turns w x h into (w + 2d) x (h + 2d), so no polygon
clipper is needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from steadyocr.imaging.geometry import order_quads

FloatArray = NDArray[np.float32]
# uint8 maps hold probability x 255, rounded.
ProbabilityMap = FloatArray | NDArray[np.uint8]

# Sub-pixel bits of OpenCV's polygon filler: coordinates are given in 1/16 pixel.
_SHIFT = 4
# Regions looked at by default: one for each 16 x 16 pixels, closer than which no legible text stands. A spreadsheet of
# 1300 cells lost 300 of them to a fixed 1000.
_PIXELS_PER_REGION = 256
_LEAST_REGIONS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class PostprocessParams:
    """Knobs of the post-processing.

    Attributes:
        bin_threshold: A pixel is text above this probability.
        box_threshold: A quad is kept at or above this mean probability.
        unclip_ratio: Growth of the shrunk region, see the module text.
        max_candidates: At most this many regions are looked at, largest first; by default as many as text can have on
            a map of its size, so that only noise is left out.
        min_side: Regions whose shorter side is below this many network pixels are noise.
    """

    bin_threshold: float = 0.2
    box_threshold: float = 0.3
    unclip_ratio: float = 1.5
    max_candidates: int | None = None
    min_side: float = 3.0


def quads_from_probability_map(probability: ProbabilityMap, params: PostprocessParams) -> tuple[FloatArray, FloatArray]:
    """Find text lines in a probability map.

    Args:
        probability: (H, W), text probability of each network pixel; uint8 for large maps, with the probability x 255.
        params: The knobs.

    Returns:
        Quads (N, 4, 2) float32 in pixel-edge coordinates of the map (pixel (0, 0) covers [0, 1) x [0, 1)), clockwise
        from top-left, and their scores (N,) float32. Both empty for a map without text.
    """
    binary = _above(probability, params.bin_threshold).view(np.uint8)
    contours = _outer_contours(binary)
    most = params.max_candidates
    if most is None:
        most = max(_LEAST_REGIONS, binary.size // _PIXELS_PER_REGION)
    if len(contours) > most:
        contours = sorted(contours, key=cv2.contourArea, reverse=True)[:most]

    rects: list[FloatArray] = []
    scores: list[float] = []
    for contour in contours:
        centre, (width, height), angle = cv2.minAreaRect(contour)
        if min(width, height) + 1.0 < params.min_side:
            continue
        score = _mean_inside(probability, _corners(centre, width, height, angle))
        if score < params.box_threshold:
            continue
        # The contour runs through pixel centres; the region reaches half a pixel further on each side.
        width, height = width + 1.0, height + 1.0
        grow = 2.0 * width * height * params.unclip_ratio / (2.0 * (width + height))
        rects.append(_corners(centre, width + grow, height + grow, angle))
        scores.append(score)

    if not rects:
        return np.zeros((0, 4, 2), np.float32), np.zeros(0, np.float32)
    quads = order_quads(np.stack(rects) + np.float32(0.5))
    return quads, np.asarray(scores, np.float32)


def _above(probability: ProbabilityMap, threshold: float) -> NDArray[np.bool_]:
    if probability.dtype == np.uint8:
        # The same for whole numbers, and compared as bytes: a float would turn the map into one of eight bytes a pixel.
        return probability > math.floor(threshold * 255)
    return probability > threshold


def _outer_contours(binary: NDArray[np.uint8]) -> list[cv2.typing.MatLike]:
    """Outlines of all regions, those inside a hole of another one too, but not the outlines of holes."""
    contours, hierarchy = cv2.findContours(binary, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return []
    parents = hierarchy.reshape(-1, 4)[:, 3]
    return [contour for contour, parent in zip(contours, parents, strict=True) if parent < 0]


def _corners(centre: Sequence[float], width: float, height: float, angle: float) -> FloatArray:
    """Corners (4, 2) of a rectangle turned by ``angle`` degrees."""
    return np.asarray(cv2.boxPoints((centre, (width, height), angle)), np.float32)


def _mean_inside(probability: ProbabilityMap, corners: FloatArray) -> float:
    """Mean probability of the pixels inside a convex quad given in pixel-centre coordinates."""
    height, width = probability.shape
    x0, y0 = np.floor(corners.min(axis=0)).astype(int)
    x1, y1 = np.ceil(corners.max(axis=0)).astype(int)
    x0, y0 = max(x0, 0), max(y0, 0)
    x1, y1 = min(x1, width - 1), min(y1, height - 1)
    if x1 < x0 or y1 < y0:
        return 0.0
    window = probability[y0 : y1 + 1, x0 : x1 + 1]
    mask = np.zeros(window.shape, np.uint8)
    fixed = np.round((corners - (x0, y0)) * (1 << _SHIFT)).astype(np.int32)
    cv2.fillConvexPoly(mask, fixed, 1, lineType=cv2.LINE_8, shift=_SHIFT)
    mean = float(cv2.mean(window, mask)[0])
    return mean / 255 if probability.dtype == np.uint8 else mean
