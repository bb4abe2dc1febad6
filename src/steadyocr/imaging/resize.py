"""How a picture is brought to a size that the detector takes, and how quads come back.

The network needs sides that are multiples of its stride. Stretching both sides to the next multiple would
distort small pictures (40 pixels become 32 or 64), so the ratio is kept and the picture is padded at its
right and bottom edge instead. Padding also allows a step coarser than the stride (`bucket`): shapes repeat
then, which inference libraries that prepare each new shape are glad of.

Coordinates are pixel edges throughout: the content spans [0, content_width] x [0, content_height] of the
network's input, the picture [0, width] x [0, height], and one scale for each axis maps one exactly onto the
other.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from steadyocr.imaging.geometry import FloatArray, clip_quads
from steadyocr.imaging.plan import ResizePlan, plan_resize

__all__ = ["ResizePlan", "apply", "plan_resize", "to_source"]

UInt8Array = NDArray[np.uint8]


def apply(image: UInt8Array, plan: ResizePlan) -> UInt8Array:
    """Resize and pad a picture.

    The padding has one colour, the median of the edges it adjoins: on paper it is paper and makes no seam,
    and it holds no strokes. Repeating the edge pixels would draw a letter cut by the edge out into lines.

    Args:
        image: (height, width, 3) uint8.
        plan: Made for this size.

    Returns:
        (padded_height, padded_width, 3) uint8; `image` itself when nothing is to be done.
    """
    if image.shape[:2] != (plan.height, plan.width):
        raise ValueError(f"the plan is for {plan.width} x {plan.height} pixels")
    content_size = (plan.content_width, plan.content_height)
    if content_size == (plan.padded_width, plan.padded_height) == (plan.width, plan.height):
        return image
    padded = np.empty((plan.padded_height, plan.padded_width, 3), np.uint8)
    content = padded[: plan.content_height, : plan.content_width]
    if content_size == (plan.width, plan.height):
        content[:] = image
    else:
        cv2.resize(image, content_size, dst=content, interpolation=cv2.INTER_AREA)
    edges = np.concatenate((content[-1], content[:, -1]))
    colour = np.median(edges, axis=0).astype(np.uint8)
    padded[plan.content_height :] = colour
    padded[: plan.content_height, plan.content_width :] = colour
    return padded


def to_source(quads: FloatArray, plan: ResizePlan) -> FloatArray:
    """Map quads from the network's input back to the picture, cut off at its edges.

    Args:
        quads: (N, 4, 2) float32, pixel-edge coordinates of the network's input.
        plan: As given to :func:`apply`.

    Returns:
        (N, 4, 2) float32, pixel-edge coordinates of the picture.
    """
    scale = np.array([plan.scale_x, plan.scale_y], np.float64)
    return clip_quads((quads / scale).astype(np.float32), plan.width, plan.height)
