"""Pieces that several kinds of picture share: styles, wrapped lines, free places, boards with text."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from steadyocr.training.synth import backgrounds
from steadyocr.training.synth.assets import Assets
from steadyocr.training.synth.colours import Colour, any_colour, ink_for
from steadyocr.training.synth.fonts import Face
from steadyocr.training.synth.ink import advance_px
from steadyocr.training.synth.sheet import Sheet, Style, layer, write
from steadyocr.training.synth.text import CJK
from steadyocr.training.synth.warp import corners, quad_to_quad

_CELL: Final = 8


class Room:
    """Which parts of a picture are taken, in cells of 8 pixels.

    Args:
        width: Of the picture, in pixels.
        height: Of the picture, in pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        self._taken = np.zeros((height // _CELL + 1, width // _CELL + 1), dtype=np.uint8)

    def claim(self, quad: NDArray[np.float64]) -> bool:
        """Take a convex area (4, 2); refuse when part of it is taken."""
        area = np.zeros_like(self._taken)
        cv2.fillConvexPoly(area, np.round(quad / _CELL).astype(np.int32), 1)
        if bool((self._taken & area).any()):
            return False
        self._taken |= cv2.dilate(area, np.ones((3, 3), dtype=np.uint8)).astype(np.uint8)
        return True


def wrap(face: Face, size: int, text: str, width_px: float, lang: str) -> list[str]:
    """Break running text into lines no wider than ``width_px``."""
    text = face.fit(text)
    units = list(text) if lang in CJK or lang == "mixed" else [w + " " for w in text.split()]
    lines, line, used = [], "", 0.0
    for unit in units:
        step = advance_px(face, size, unit)
        if line and used + step > width_px:
            lines.append(line.strip())
            line, used = "", 0.0
        line, used = line + unit, used + step
    return [one for one in [*lines, line.strip()] if one]


def sign_style(rng: np.random.Generator, face: Face, size: int, ground: Colour, *, bold_effects: float = 0.45) -> Style:
    """Return the style of a sign or an ad: outline, shadow, gradient and wide setting by chance."""
    fill = ink_for(rng, ground, rng.uniform(35, 110))
    effects = rng.random() < bold_effects
    stroke_px = max(1, round(size * rng.uniform(0.03, 0.09))) if effects and rng.random() < 0.6 else 0
    shadow = None
    if effects and rng.random() < 0.6:
        reach = max(1, round(size * rng.uniform(0.02, 0.09)))
        shadow = (
            int(rng.choice([reach, -reach, reach])),
            reach,
            float(rng.choice([0.1, 0.04 * size, 0.1 * size])),
        )
    return Style(
        face=face,
        size=size,
        fill=fill,
        fill_end=np.clip(fill + rng.normal(0, 60, 3), 0, 255).astype(np.float32)
        if effects and rng.random() < 0.35
        else None,
        stroke_px=stroke_px,
        stroke=ink_for(rng, fill, 90) if stroke_px else None,
        shadow=shadow,
        spacing=size * rng.uniform(0.05, 0.6) if rng.random() < 0.15 else 0.0,
        opacity=rng.uniform(0.45, 0.9) if rng.random() < 0.08 else 1.0,
    )


def board(rng: np.random.Generator, width: int, height: int) -> tuple[Sheet, Colour]:
    """Return an empty sign board and its mean colour: rounded or not, framed or not, of any ground."""
    light = (0.03, 0.35) if rng.random() < 0.4 else (0.3, 0.97)
    image = backgrounds.made(rng, width, height, light)
    if rng.random() < 0.7:
        colour = any_colour(rng, light=light)
        image = cv2.addWeighted(image, 0.12, np.full_like(image, colour.astype(np.uint8)), 0.88, 0).astype(np.uint8)
    if rng.random() < 0.4:
        edge, inset = max(1, height // int(rng.integers(20, 60))), height // int(rng.integers(18, 40))
        frame = ink_for(rng, image.mean(axis=(0, 1)).astype(np.float32), 50).tolist()
        cv2.rectangle(image, (inset, inset), (width - 1 - inset, height - 1 - inset), frame, edge, cv2.LINE_AA)
    ground = image.mean(axis=(0, 1)).astype(np.float32)
    alpha = np.full((height, width), 255, dtype=np.uint8)
    if rng.random() < 0.4:
        radius = max(2, int(min(width, height) * rng.uniform(0.05, 0.5)))
        alpha = np.zeros((height, width), dtype=np.uint8)
        for cx, cy in (
            (radius, radius),
            (width - radius - 1, radius),
            (radius, height - radius - 1),
            (width - radius - 1, height - radius - 1),
        ):
            cv2.circle(alpha, (cx, cy), radius, 255, -1, cv2.LINE_AA)
        alpha[radius : height - radius] = 255
        alpha[:, radius : width - radius] = 255
        image[alpha == 0] = 0
    return Sheet(image, alpha, ground), ground


def text_block(
    rng: np.random.Generator,
    assets: Assets,
    lang: str,
    size: int,
    lines: int,
    ground: Colour,
    *,
    boarded: bool,
    max_width: int,
    role: str = "any",
) -> Sheet:
    """Return a layer with a few lines of a sign, cut to what it holds.

    Args:
        rng: Randomness.
        assets: Fonts and texts.
        lang: Language of the lines.
        size: Em size of the first line in pixels.
        lines: How many lines at most.
        ground: Colour that will lie behind.
        boarded: Put the lines on a board of their own.
        max_width: Longest line, in pixels.
        role: Role of the face.
    """
    face = assets.face(rng, lang, role)
    margin = max(4, int(size * (rng.uniform(0.15, 0.9) if boarded else 0.35)))
    rows: list[tuple[str, Face, int, float]] = []
    for i in range(lines):
        own = lang if rng.random() < 0.75 else ("en" if lang != "en" else lang)
        row_face = face if rng.random() < 0.6 else assets.face(rng, own)
        row_size = size if i == 0 else max(7, int(size * rng.choice([1.0, rng.uniform(0.3, 0.8)])))
        text = row_face.fit(
            assets.text.phrase(rng, own, 1 if own == "en" else 2, 8)
            if rng.random() < 0.8
            else assets.text.item(rng, own)
        )
        while text and advance_px(row_face, row_size, text) > max_width:
            text = text[: len(text) * 2 // 3].strip() if len(text) > 4 or row_size < 12 else text
            row_size = row_size if len(text) > 4 else int(row_size * 0.8)
        if text:
            rows.append((text, row_face, row_size, advance_px(row_face, row_size, text)))
    width = int(max((r[3] for r in rows), default=size) * 1.08) + 2 * margin
    leading = rng.uniform(1.05, 1.6)
    height = int(sum(r[2] * leading for r in rows)) + 2 * margin + 4
    if boarded:
        sheet, ground = board(rng, width, height)
    else:
        sheet = layer(width, height, ground)
    style = sign_style(rng, face, size, ground, bold_effects=0.25 if boarded else 0.55)
    align = rng.choice([0.0, 0.5, 0.5])
    y = float(margin)
    for text, row_face, row_size, advance in rows:
        if rng.random() < 0.3:
            style = sign_style(rng, row_face, row_size, ground, bold_effects=0.3)
        factor = row_size / style.size
        own_style = Style(
            row_face,
            row_size,
            style.fill,
            style.fill_end,
            round(style.stroke_px * factor),
            style.stroke,
            None
            if style.shadow is None
            else (round(style.shadow[0] * factor), round(style.shadow[1] * factor), style.shadow[2] * factor),
            min(style.spacing * factor, max(0.0, (width - 2 * margin - advance) / max(1, len(text)))),
            style.opacity,
        )
        write(sheet, margin + (width - 2 * margin - advance) * align, y + 0.9 * row_size, text, own_style)
        y += row_size * leading
    return sheet


def turned(
    rng: np.random.Generator, sheet: Sheet, centre: tuple[float, float], angle_deg: float, tilt: float
) -> NDArray[np.float64]:
    """Return a homography that sets the sheet around a centre, turned, with its corners pulled by ``tilt``.

    ``tilt`` is the largest pull as a share of the side it acts on.
    """
    box = corners(sheet.width, sheet.height)
    middle = box.mean(axis=0)
    squeeze = np.array([rng.uniform(1 - 1.6 * tilt, 1), rng.uniform(1 - 0.8 * tilt, 1)])
    pull = rng.uniform(-tilt, tilt, (4, 2)) * np.array([sheet.width * 0.35, sheet.height * 0.6])
    shape = (box - middle) * squeeze + pull
    shape[:, 1] += shape[:, 0] * rng.uniform(-tilt, tilt)
    c, s = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    target = shape @ np.array([[c, s], [-s, c]]) + np.array(centre)
    return quad_to_quad(box, target)


def sign_angle(rng: np.random.Generator) -> float:
    """Return an angle in degrees: mostly nearly level, often within 45, sometimes any."""
    kind = rng.random()
    if kind < 0.5:
        return float(rng.normal(0, 5))
    return float(rng.uniform(-45, 45)) if kind < 0.88 else float(rng.uniform(-180, 180))


def canvas_size(rng: np.random.Generator) -> tuple[int, int]:
    """Return a width and a height in pixels for a picture of a scene."""
    long = int(rng.integers(640, 1100))
    short = int(long * rng.uniform(0.55, 0.95))
    return (long, short) if rng.random() < 0.62 else (short, long)


def ground_at(sheet: Sheet, centre: tuple[float, float], reach: float) -> Colour:
    """Return the mean colour of a band ``reach`` pixels to each side of a centre, half as much up and down."""
    x, y, r = int(centre[0]), int(centre[1]), int(max(6, reach))
    view = sheet.rgb[max(0, y - r // 2) : y + r // 2 + 1, max(0, x - r) : x + r + 1]
    return np.asarray(view.mean(axis=(0, 1)), dtype=np.float32)
