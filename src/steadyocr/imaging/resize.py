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

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from steadyocr.imaging.geometry import FloatArray, clip_quads

UInt8Array = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class ResizePlan:
    """Sizes before, within and after, in pixels.

    Attributes:
        width: Of the picture.
        height: Of the picture.
        content_width: Of the picture inside the network's input.
        content_height: Of the picture inside the network's input.
        padded_width: Of the network's input.
        padded_height: Of the network's input.
    """

    width: int
    height: int
    content_width: int
    content_height: int
    padded_width: int
    padded_height: int

    @property
    def scale_x(self) -> float:
        """Network pixels per picture pixel along x."""
        return self.content_width / self.width

    @property
    def scale_y(self) -> float:
        """Network pixels per picture pixel along y."""
        return self.content_height / self.height

    @property
    def effective_scale(self) -> float:
        """Network pixels per picture pixel along the longer side, at most 1."""
        return self.scale_x if self.width >= self.height else self.scale_y


def plan_resize(width: int, height: int, max_side: int, *, stride: int = 32, bucket: int | None = None) -> ResizePlan:
    """Plan the resize of a picture: never larger, ratio kept to within a pixel.

    The longer padded side is at most `max_side` rounded up to the bucket.

    Args:
        width: Of the picture, in pixels.
        height: Of the picture, in pixels.
        max_side: Longest side of the content, in pixels.
        stride: Both padded sides are multiples of this.
        bucket: A coarser step for the padded sides, a multiple of `stride`; ``None`` for the stride itself.

    Raises:
        ValueError: A size is below 1, or the bucket is not a multiple of the stride.
    """
    step = bucket if bucket is not None else stride
    if min(width, height, max_side, stride, step) < 1:
        raise ValueError("sizes must be at least 1")
    if step % stride:
        raise ValueError(f"bucket {step} is not a multiple of the stride {stride}")
    scale = min(1.0, max_side / max(width, height))
    content_width = max(1, round(width * scale))
    content_height = max(1, round(height * scale))
    return ResizePlan(
        width=width,
        height=height,
        content_width=content_width,
        content_height=content_height,
        padded_width=_round_up(content_width, step),
        padded_height=_round_up(content_height, step),
    )


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


def _round_up(size: int, step: int) -> int:
    return -(-size // step) * step
