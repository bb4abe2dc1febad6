"""One line of text as a mask of ink, with the place of its pen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from steadyocr.training.synth.fonts import Face, load

# Set upright in a vertical column they would sit wrong, as the fonts' vertical forms are not used.
_NOT_VERTICAL: Final = str.maketrans("", "", "，。、；：！？…—「」『』（）《》()-,.;:“”‘’· ー〜")


@dataclass(frozen=True, slots=True)
class Ink:
    """Coverage of a line.

    Attributes:
        mask: Coverage, uint8 (height, width), cut to the ink.
        x: Left edge of the mask from the pen's start, in pixels (for a column: from its centre line).
        y: Top edge of the mask from the baseline, in pixels, down positive (for a column: from its top).
        advance: How far the pen moves, in pixels, along the line.
    """

    mask: NDArray[np.uint8]
    x: int
    y: int
    advance: float


def advance_px(face: Face, size: int, text: str, spacing: float = 0.0) -> float:
    """Length of a line, in pixels; ``spacing`` is added after every character."""
    return float(load(face.path, face.index, size).getlength(text)) + spacing * len(text)


def _glyph(face: Face, size: int, text: str) -> tuple[NDArray[np.uint8], int, int]:
    mask, (x, y) = load(face.path, face.index, size).getmask2(text, mode="L", anchor="ls")
    width, height = mask.size
    if not width or not height:
        return np.zeros((0, 0), dtype=np.uint8), 0, 0
    return np.asarray(memoryview(bytes(mask)), dtype=np.uint8).reshape(height, width), int(x), int(y)


def _assemble(parts: list[tuple[NDArray[np.uint8], int, int]]) -> tuple[NDArray[np.uint8], int, int]:
    parts = [p for p in parts if p[0].size]
    if not parts:
        return np.zeros((0, 0), dtype=np.uint8), 0, 0
    left, top = min(p[1] for p in parts), min(p[2] for p in parts)
    right = max(x + m.shape[1] for m, x, _ in parts)
    bottom = max(y + m.shape[0] for m, _, y in parts)
    whole = np.zeros((bottom - top, right - left), dtype=np.uint8)
    for mask, x, y in parts:
        view = whole[y - top : y - top + mask.shape[0], x - left : x - left + mask.shape[1]]
        np.maximum(view, mask, out=view)
    return whole, left, top


def _trim(mask: NDArray[np.uint8], x: int, y: int) -> tuple[NDArray[np.uint8], int, int]:
    if not mask.size:
        return mask, x, y
    rows = np.flatnonzero(mask.max(axis=1) > 24)
    cols = np.flatnonzero(mask.max(axis=0) > 24)
    if not rows.size or not cols.size:
        return np.zeros((0, 0), dtype=np.uint8), x, y
    return mask[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1], x + int(cols[0]), y + int(rows[0])


def line_ink(face: Face, size: int, text: str, *, spacing: float = 0.0, vertical: bool = False) -> Ink | None:
    """Render a line, or a column of upright characters.

    Args:
        face: The font.
        size: Em size in pixels.
        text: What to write; all of it is taken to be covered by the face.
        spacing: Extra pixels after every character.
        vertical: Stack the characters downwards.

    Returns:
        The ink, or ``None`` when the text leaves none.
    """
    if vertical:
        text = text.translate(_NOT_VERTICAL)
        pitch = 1.02 * size + spacing
        parts = []
        for i, char in enumerate(text):
            mask, x, y = _glyph(face, size, char)
            half = advance_px(face, size, char) / 2
            parts.append((mask, round(x - half), round(y + 0.86 * size + i * pitch)))
        mask, x, y = _assemble(parts)
        advance = pitch * len(text)
    elif spacing:
        parts, pen = [], 0.0
        for char in text:
            mask, x, y = _glyph(face, size, char)
            parts.append((mask, round(x + pen), y))
            pen += advance_px(face, size, char) + spacing
        mask, x, y = _assemble(parts)
        advance = pen
    else:
        mask, x, y = _glyph(face, size, text)
        advance = advance_px(face, size, text)
    mask, x, y = _trim(mask, x, y)
    return Ink(mask, x, y, advance) if mask.size else None
