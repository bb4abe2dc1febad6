"""Drawing found lines into a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from steadyocr.imaging.geometry import FloatArray

# BGR. Two colours in turn tell neighbours apart.
_COLOURS: Final = ((40, 40, 230), (230, 120, 0))
_WHITE: Final = (255, 255, 255)
# Sub-pixel bits of OpenCV's line drawing.
_SHIFT: Final = 4
# Level 1 is several times as fast as the default and a few per cent larger.
_PNG_PARAMS: Final = (cv2.IMWRITE_PNG_COMPRESSION, 1)


def overlay_png(
    image: NDArray[np.uint8],
    quads: FloatArray,
    labels: Sequence[str] | None = None,
    *,
    max_side: int = 4096,
) -> bytes:
    """Draw quads and their labels into a copy of a picture.

    Args:
        image: (H, W, 3) uint8 RGB; not changed.
        quads: (N, 4, 2) float32 in its pixel-edge coordinates, clockwise from top-left.
        labels: One short ASCII word for each quad; ``None`` for its number, from 0.
        max_side: A larger picture is shrunk to this longest side, in pixels.

    Returns:
        The bytes of a PNG file.
    """
    names = labels if labels is not None else [str(index) for index in range(len(quads))]
    height, width = image.shape[:2]
    scale = min(1.0, max_side / max(width, height))
    canvas = cv2.cvtColor(image, cv2.COLOR_RGB2BGR).astype(np.uint8, copy=False)
    if scale < 1.0:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        canvas = cv2.resize(canvas, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    # By the longer side, but on a long strip no labels as wide as the strip.
    longer, shorter = max(canvas.shape[:2]), min(canvas.shape[:2])
    thickness = max(1, round(min(longer, 4 * shorter) / 1000))
    for index, (quad, name) in enumerate(zip(quads * np.float32(scale), names, strict=True)):
        colour = _COLOURS[index % len(_COLOURS)]
        # Drawing counts from pixel centres.
        fixed = np.round((quad - 0.5) * (1 << _SHIFT)).astype(np.int32)
        cv2.polylines(canvas, [fixed], True, colour, thickness, cv2.LINE_AA, _SHIFT)
        _draw_label(canvas, name, quad[0], colour, thickness)
    _, encoded = cv2.imencode(".png", canvas, _PNG_PARAMS)
    return encoded.tobytes()


def _draw_label(
    canvas: NDArray[np.uint8],
    name: str,
    corner: FloatArray,
    colour: tuple[int, int, int],
    thickness: int,
) -> None:
    """Write a label on a filled box above a corner, or below it at the top of the picture."""
    size = 0.4 * thickness
    (text_width, text_height), below = cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, size, thickness)
    left = min(max(int(corner[0]), 0), max(canvas.shape[1] - text_width, 0))
    box_height = text_height + below
    top = int(corner[1]) - box_height
    if top < 0:
        top = max(int(corner[1]), 0)
    cv2.rectangle(canvas, (left, top), (left + text_width, top + box_height), colour, cv2.FILLED)
    origin = (left, top + text_height + below // 2)
    cv2.putText(canvas, name, origin, cv2.FONT_HERSHEY_SIMPLEX, size, _WHITE, thickness, cv2.LINE_AA)
