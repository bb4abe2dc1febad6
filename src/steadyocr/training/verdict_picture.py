"""A picture with its labels and what was found, for a human to see what goes wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from steadyocr.training.metrics import MATCH_IOU, count_matches, pairwise_iou
from steadyocr.training.regions import FloatArray, Region

# BGR.
FOUND: Final = (60, 160, 0)
MISSED: Final = (0, 140, 255)
MATCHING: Final = (220, 120, 0)
FALSE_ALARM: Final = (40, 40, 230)
IGNORED: Final = (150, 150, 150)

_SHIFT: Final = 4


def draw_verdict(image: NDArray[np.uint8], regions: Sequence[Region], quads: Sequence[FloatArray]) -> bytes:
    """Draw labels (green found, orange missed) and detections (blue matching, red false); what does not count is grey.

    Returns:
        The bytes of a JPEG file.
    """
    canvas = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), np.uint8)
    cared = [region for region in regions if not region.ignore]
    ignored = [region for region in regions if region.ignore]
    counted: list[FloatArray] = []
    uncounted = [region.polygon for region in ignored]
    for quad in quads:
        # By the protocol's own rule a detection in an ignored region neither matches nor is false.
        (counted if count_matches([quad], ignored).found else uncounted).append(quad)
    overlap = pairwise_iou([region.polygon for region in cared], counted)
    for polygon in uncounted:
        _outline(canvas, polygon, IGNORED)
    for region, best in zip(cared, overlap.max(axis=1, initial=0.0), strict=True):
        _outline(canvas, region.polygon, FOUND if best > MATCH_IOU else MISSED)
    for quad, best in zip(counted, overlap.max(axis=0, initial=0.0), strict=True):
        _outline(canvas, quad, MATCHING if best > MATCH_IOU else FALSE_ALARM)
    _, encoded = cv2.imencode(".jpg", canvas, [cv2.IMWRITE_JPEG_QUALITY, 88])
    return encoded.tobytes()


def _outline(canvas: NDArray[np.uint8], polygon: FloatArray, colour: tuple[int, int, int]) -> None:
    thickness = max(1, round(max(canvas.shape[:2]) / 900))
    fixed = np.round((polygon - 0.5) * (1 << _SHIFT)).astype(np.int32)
    cv2.polylines(canvas, [fixed], True, colour, thickness, cv2.LINE_AA, _SHIFT)
