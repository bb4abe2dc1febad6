"""A picture in the making: pixels, what is written on it, and how text is put there.

Pixels are RGB. A layer that will be laid over another carries its coverage and holds colours multiplied by it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from steadyocr.training.synth.colours import Colour, distance
from steadyocr.training.synth.fonts import Face
from steadyocr.training.synth.ink import Ink, line_ink


@dataclass(slots=True)
class Mark:
    """A text line on a sheet.

    Attributes:
        quad: Its corners, x then y, clockwise from the text's top-left, float64 (4, 2), in pixels.
        text: What is written.
        contrast: How far the ink stands off its ground, 0 to 255.
    """

    quad: NDArray[np.float64]
    text: str
    contrast: float

    @property
    def height(self) -> float:
        """Shorter side, in pixels."""
        q = self.quad
        return float(min(np.hypot(*(q[1] - q[0])), np.hypot(*(q[2] - q[1]))))


@dataclass(slots=True)
class Sheet:
    """Pixels and marks.

    Attributes:
        rgb: uint8 (height, width, 3).
        alpha: Coverage, uint8 (height, width), or ``None`` for a sheet that covers all.
        ground: Colour expected to shine through where a layer covers nothing.
        marks: The text lines so far.
    """

    rgb: NDArray[np.uint8]
    alpha: NDArray[np.uint8] | None = None
    ground: Colour = field(default_factory=lambda: np.full(3, 255, dtype=np.float32))
    marks: list[Mark] = field(default_factory=list)

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.rgb.shape[1])

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.rgb.shape[0])


@dataclass(frozen=True, slots=True)
class Style:
    """How a line is written.

    Attributes:
        face: Font.
        size: Em size in pixels.
        fill: Ink colour.
        fill_end: Colour at the bottom of the line, where the ink runs from one colour to another.
        stroke_px: Width of the outline; 0 for none.
        stroke: Colour of the outline.
        shadow: Offset right, offset down and blur of the shadow in pixels, or ``None``.
        spacing: Extra pixels after every character.
        opacity: 0 to 1.
        vertical: A column of upright characters.
    """

    face: Face
    size: int
    fill: Colour
    fill_end: Colour | None = None
    stroke_px: int = 0
    stroke: Colour | None = None
    shadow: tuple[int, int, float] | None = None
    spacing: float = 0.0
    opacity: float = 1.0
    vertical: bool = False


def plain(width: int, height: int, colour: Colour) -> Sheet:
    """Return an empty sheet of one colour."""
    rgb = np.empty((height, width, 3), dtype=np.uint8)
    rgb[:] = np.clip(colour, 0, 255).astype(np.uint8)
    return Sheet(rgb)


def layer(width: int, height: int, ground: Colour) -> Sheet:
    """Return an empty layer that will lie over the ground."""
    return Sheet(np.zeros((height, width, 3), dtype=np.uint8), np.zeros((height, width), dtype=np.uint8), ground)


def blend(
    sheet: Sheet, x: int, y: int, mask: NDArray[np.uint8], colour: NDArray[np.float32], opacity: float = 1.0
) -> None:
    """Lay a colour over the sheet where the mask says so; what falls outside is cut.

    Args:
        sheet: Changed in place.
        x: Left edge of the mask on the sheet.
        y: Top edge of the mask on the sheet.
        mask: Coverage, uint8 (h, w).
        colour: (3,), or (h, 1, 3) for one colour a row, or (h, w, 3).
        opacity: Factor on the coverage, 0 to 1.
    """
    x0, y0 = max(x, 0), max(y, 0)
    x1, y1 = min(x + mask.shape[1], sheet.width), min(y + mask.shape[0], sheet.height)
    if x0 >= x1 or y0 >= y1:
        return
    cover = mask[y0 - y : y1 - y, x0 - x : x1 - x].astype(np.float32)[..., None] * (opacity / 255)
    if colour.ndim == 3:
        colour = colour[y0 - y : y1 - y]
        colour = colour[:, x0 - x : x1 - x] if colour.shape[1] > 1 else colour
    view = sheet.rgb[y0:y1, x0:x1]
    view[:] = (view * (1 - cover) + colour * cover + 0.5).astype(np.uint8)
    if sheet.alpha is not None:
        under = sheet.alpha[y0:y1, x0:x1]
        under[:] = (under * (1 - cover[..., 0]) + 255 * cover[..., 0] + 0.5).astype(np.uint8)


def _padded(ink: Ink, pad: int) -> NDArray[np.uint8]:
    return np.pad(ink.mask, pad)


def _contrast(sheet: Sheet, box: tuple[int, int, int, int], style: Style) -> float:
    """Distance of ink (or outline, if that is more) from what lies under the box (x0, y0, x1, y1)."""
    x0, y0, x1, y1 = max(box[0], 0), max(box[1], 0), box[2], box[3]
    rgb = sheet.rgb[y0:y1:2, x0:x1:2]
    if not rgb.size:
        return 0.0
    under = rgb.astype(np.float32)
    if sheet.alpha is not None:
        under += (1 - sheet.alpha[y0:y1:2, x0:x1:2, None].astype(np.float32) / 255) * sheet.ground
    mean = under.mean(axis=(0, 1), dtype=np.float32)
    fill = style.fill if style.fill_end is None else np.asarray((style.fill + style.fill_end) / 2, dtype=np.float32)
    gap = float(distance(fill, mean))
    if style.stroke is not None and style.stroke_px:
        # An outline makes the letter readable on any ground, as far as it stands off the fill.
        gap = max(gap, 0.8 * float(distance(fill, style.stroke)))
    clutter = float(under.std(axis=(0, 1)).mean())
    return gap * style.opacity - (0.0 if style.stroke_px else 0.25 * clutter)


def _paint_under(sheet: Sheet, ink: Ink, at: tuple[int, int], style: Style) -> None:
    if style.shadow is not None:
        dx, dy, sigma = style.shadow
        pad = int(3 * sigma) + 1
        soft = cv2.GaussianBlur(_padded(ink, pad), (0, 0), sigma) if sigma > 0.3 else _padded(ink, pad)
        blend(
            sheet,
            at[0] + dx - pad,
            at[1] + dy - pad,
            soft.astype(np.uint8),
            np.zeros(3, dtype=np.float32),
            0.7 * style.opacity,
        )
    if style.stroke_px and style.stroke is not None:
        pad = style.stroke_px
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * pad + 1, 2 * pad + 1))
        wide = cv2.dilate(_padded(ink, pad), kernel).astype(np.uint8)
        blend(sheet, at[0] - pad, at[1] - pad, wide, style.stroke, style.opacity)


def write(sheet: Sheet, x: float, y: float, text: str, style: Style, *, pad: float = 0.06) -> Mark | None:
    """Write a line and note its quad.

    Args:
        sheet: Changed in place.
        x: Start of the pen (for a column: its centre line), in pixels.
        y: Baseline (for a column: its top), in pixels.
        text: Characters that the face does not hold are left out.
        style: How.
        pad: Margin of the quad around the ink, as a share of the ink's height.

    Returns:
        The mark, also added to the sheet, or ``None`` when nothing could be written on the sheet.
    """
    text = style.face.fit(text)
    ink = line_ink(style.face, style.size, text, spacing=style.spacing, vertical=style.vertical) if text else None
    if ink is None:
        return None
    at = (round(x) + ink.x, round(y) + ink.y)
    h, w = ink.mask.shape
    grow = style.stroke_px
    box = (at[0] - grow, at[1] - grow, at[0] + w + grow, at[1] + h + grow)
    inside = max(0, min(box[2], sheet.width) - max(box[0], 0)) * max(0, min(box[3], sheet.height) - max(box[1], 0))
    if inside < 0.3 * (box[2] - box[0]) * (box[3] - box[1]):
        return None
    contrast = _contrast(sheet, box, style)
    _paint_under(sheet, ink, at, style)
    colour = style.fill
    if style.fill_end is not None:
        ramp = np.linspace(0, 1, h, dtype=np.float32)[:, None, None]
        colour = (style.fill * (1 - ramp) + style.fill_end * ramp).astype(np.float32)
    blend(sheet, *at, ink.mask, colour, style.opacity)
    mark = Mark(_quad_of(box, style, pad), text, contrast)
    sheet.marks.append(mark)
    return mark


def _quad_of(box: tuple[int, int, int, int], style: Style, pad: float) -> NDArray[np.float64]:
    x0, y0, x1, y1 = map(float, box)
    # A dash or a dot alone gets a box that a hand would draw, not one of two pixels.
    if style.vertical:
        short = max(0.0, 0.5 * style.size - (x1 - x0)) / 2
        x0, x1 = x0 - short, x1 + short
        margin = pad * (x1 - x0)
    else:
        short = max(0.0, 0.4 * style.size - (y1 - y0)) / 2
        y0, y1 = y0 - short, y1 + short
        margin = pad * (y1 - y0)
    margin = max(margin, 0.5)
    x0, y0, x1, y1 = x0 - margin, y0 - margin, x1 + margin, y1 + margin
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
