"""Vertical Chinese and handwriting."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from steadyocr.training.synth.assets import Assets
from steadyocr.training.synth.blocks import Room, canvas_size, ground_at, sign_angle, sign_style, turned, wrap
from steadyocr.training.synth.colours import any_colour, grey, ink_for, rgb
from steadyocr.training.synth.ink import advance_px
from steadyocr.training.synth.sheet import Sheet, Style, layer, write
from steadyocr.training.synth.warp import Bend, corners, lay, send_quad


def strip(rng: np.random.Generator, assets: Assets) -> Sheet:
    """Vertical Chinese: couplets, hanging shop signs, columns on a scene."""
    width, height = canvas_size(rng)
    sheet, room = Sheet(assets.scene(rng, width, height, 0.65)), Room(width, height)
    for _ in range(int(rng.integers(1, 6))):
        lang = assets.language(rng)
        if lang in {"en", "mixed"}:
            lang = "zh" if "zh" in assets.fonts.languages else "en"
        face = assets.face(rng, lang, rng.choice(["any", "hand", "serif"]))
        columns, size = (
            int(rng.choice([1, 1, 2, 3])),
            int(np.exp(rng.uniform(np.log(14), np.log(0.12 * height)))),
        )
        chars = int(rng.integers(2, max(4, min(12, int(0.9 * height / size)))))
        w, h = int(size * (1.5 * columns + 0.6)), int(size * (1.05 * chars + 1.0))
        centre = (rng.uniform(0.1, 0.9) * width, rng.uniform(0.3, 0.7) * height)
        ground = ground_at(sheet, centre, size)
        if boarded := rng.random() < 0.6:
            ground = any_colour(rng, light=(0.1, 0.9)) if rng.random() < 0.6 else rgb(190, 25, 30)
        block = Sheet(np.full((h, w, 3), ground.astype(np.uint8))) if boarded else layer(w, h, ground)
        style = replace(sign_style(rng, face, size, ground), vertical=True, spacing=0.0)
        for i in range(columns):
            text = assets.text.phrase(rng, lang, chars, chars)[:chars]
            write(block, w - size * (1.05 + 1.5 * i), 0.5 * size, text, style)
        matrix = turned(rng, block, centre, rng.normal(0, 4) if rng.random() < 0.75 else sign_angle(rng), 0.12)
        if room.claim(send_quad(corners(w, h), matrix, None)):
            lay(sheet, block, matrix)
    return sheet


def note(rng: np.random.Generator, assets: Assets) -> Sheet:
    """Handwriting on paper: hand faces, lines that wander, ruled or not."""
    width, height = canvas_size(rng)
    sheet = Sheet(assets.paper(rng, width, height))
    lang = assets.language(rng)
    face = assets.face(rng, lang, "hand")
    size = int(rng.uniform(16, 52))
    pitch, ink = (
        size * rng.uniform(1.35, 2.0),
        ink_for(rng, rgb(240, 240, 240), 110) if rng.random() < 0.3 else grey(rng, 10, 90, 40),
    )
    left = width * rng.uniform(0.03, 0.15)
    if rng.random() < 0.5:
        for y in np.arange(pitch * 1.5, height, pitch):
            cv2.line(
                sheet.rgb,
                (0, int(y + 0.2 * size)),
                (width, int(y + 0.2 * size)),
                grey(rng, 150, 215, 30).tolist(),
                1,
            )
    lines = wrap(face, size, assets.text.run(rng, lang, 600), width - 1.6 * left, lang)
    for y, text in zip(np.arange(pitch * 1.5, height - size, pitch), lines, strict=False):
        if rng.random() < 0.12:
            continue
        cut = text[: int(len(text) * rng.uniform(0.3, 1))] if rng.random() < 0.25 else text
        block = layer(int(advance_px(face, size, cut)) + 2 * size, 2 * size, rgb(235, 235, 235))
        write(block, size / 2, 1.35 * size, cut, Style(face, size, ink, opacity=rng.uniform(0.75, 1)))
        centre = (left + rng.normal(0, 4) + block.width / 2, float(y) - 0.3 * size)
        bend = Bend(size * rng.uniform(0, 0.12), rng.uniform(0, 6.28), rng.uniform(0.5, 1.2), block.width)
        lay(sheet, block, turned(rng, block, centre, rng.normal(0, 0.7), 0.01), bend)
    return sheet
