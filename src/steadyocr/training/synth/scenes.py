"""Signs, plates, captions and tiny lettering on photographs, and scenes without any text."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from steadyocr.training.synth import decoys
from steadyocr.training.synth.assets import Assets
from steadyocr.training.synth.blocks import (
    Room,
    canvas_size,
    ground_at,
    sign_angle,
    sign_style,
    text_block,
    turned,
)
from steadyocr.training.synth.colours import any_colour, faint_for, ink_for, rgb
from steadyocr.training.synth.ink import advance_px
from steadyocr.training.synth.sheet import Sheet, Style, layer, write
from steadyocr.training.synth.text import date, plate, price, token
from steadyocr.training.synth.warp import Bend, corners, lay, send_quad


def scatter_decoys(rng: np.random.Generator, sheet: Sheet, room: Room, count: int) -> None:
    """Put a few texture patches where there is room."""
    for _ in range(count):
        side = int(rng.integers(40, max(60, min(sheet.width, sheet.height) // 3)))
        patch = decoys.patch(rng, int(side * rng.uniform(0.8, 2.2)), side)
        centre = (rng.uniform(0, sheet.width), rng.uniform(0, sheet.height))
        matrix = turned(rng, patch, centre, sign_angle(rng) * 0.5, 0.2)
        if room.claim(send_quad(corners(patch.width, patch.height), matrix, None)):
            lay(sheet, patch, matrix)


def sign(rng: np.random.Generator, assets: Assets) -> Sheet:
    """Signs and lettering on a photograph: big to tiny, turned, in perspective, a little bent."""
    width, height = canvas_size(rng)
    sheet, room = Sheet(assets.scene(rng, width, height)), Room(width, height)
    if rng.random() < 0.3:
        scatter_decoys(rng, sheet, room, int(rng.integers(1, 4)))
    shared = sign_angle(rng)
    for _ in range(int(rng.integers(2, 11))):
        lang = assets.language(rng)
        size = int(np.exp(rng.uniform(np.log(13), np.log(0.26 * min(width, height)))))
        centre = (rng.uniform(0.08, 0.92) * width, rng.uniform(0.08, 0.92) * height)
        ground = ground_at(sheet, centre, 3 * size)
        block = text_block(
            rng,
            assets,
            lang,
            size,
            int(rng.integers(1, 5)),
            ground,
            boarded=rng.random() < 0.45,
            max_width=int(0.85 * max(width, height)),
        )
        angle = shared + rng.normal(0, 2) if rng.random() < 0.6 else sign_angle(rng)
        matrix = turned(rng, block, centre, angle, rng.choice([0.02, 0.2, 0.35]))
        bend = (
            Bend(
                block.height * rng.uniform(0.02, 0.12),
                rng.uniform(0, 6.28),
                rng.uniform(0.2, 0.6),
                block.width,
            )
            if rng.random() < 0.12
            else None
        )
        if room.claim(send_quad(corners(block.width, block.height), matrix, bend)):
            lay(sheet, block, matrix, bend)
    return sheet


def plates(rng: np.random.Generator, assets: Assets) -> Sheet:
    """Number plates, labels, price tags and notices: short strings on boards of their own."""
    width, height = canvas_size(rng)
    sheet, room = Sheet(assets.scene(rng, width, height)), Room(width, height)
    for _ in range(int(rng.integers(2, 10))):
        size = int(np.exp(rng.uniform(np.log(12), np.log(0.14 * width))))
        fill = any_colour(rng, light=(0.1, 0.95))
        face = assets.face(rng, "zh", "sans" if rng.random() < 0.7 else "any")
        text = face.fit(rng.choice(np.array([plate(rng), plate(rng), price(rng), token(rng), date(rng)]))) or "8"
        w, h = int(advance_px(face, size, text) + size), int(size * rng.uniform(1.3, 1.8))
        block = Sheet(np.full((h, w, 3), fill.astype(np.uint8)))
        if rng.random() < 0.6:
            cv2.rectangle(
                block.rgb,
                (2, 2),
                (w - 3, h - 3),
                ink_for(rng, fill).tolist(),
                max(1, size // 16),
                cv2.LINE_AA,
            )
        write(block, size / 2, h / 2 + 0.37 * size, text, Style(face, size, ink_for(rng, fill, 70)))
        matrix = turned(
            rng,
            block,
            (rng.uniform(0.05, 0.95) * width, rng.uniform(0.05, 0.95) * height),
            sign_angle(rng) * 0.7,
            0.3,
        )
        if room.claim(send_quad(corners(w, h), matrix, None)):
            lay(sheet, block, matrix)
    return sheet


def caption(rng: np.random.Generator, assets: Assets) -> Sheet:
    """A film still: subtitles at the bottom, a stamp of time, a watermark."""
    width, height = int(rng.integers(640, 1280)), int(rng.integers(480, 760))
    sheet = Sheet(assets.scene(rng, width, height, 0.95))
    lang = assets.language(rng)
    white = rgb(255, 255, 255) if rng.random() < 0.7 else rgb(255, 235, 80)
    size = int(height * rng.uniform(0.035, 0.075))
    y = height * rng.uniform(0.84, 0.96)
    for own, scale in ((lang, 1.0), ("en" if rng.random() < 0.6 else lang, 0.7)):
        face, own_size = assets.face(rng, own, "sans"), max(9, int(size * scale))
        text = face.fit(assets.text.run(rng, own, int(rng.integers(6, 24)) * (1 if own != "en" else 2)))
        style = (
            Style(face, own_size, white, stroke_px=max(1, own_size // 16), stroke=rgb(0, 0, 0))
            if rng.random() < 0.75
            else Style(face, own_size, white, shadow=(2, 2, 1.0))
        )
        write(sheet, (width - advance_px(face, own_size, text)) / 2, y, text, style)
        y += own_size * 1.3
        if y > height - 4:
            break
    for _ in range(int(rng.integers(0, 4))):
        face, small = assets.face(rng, lang), int(rng.integers(10, 40))
        text = rng.choice(
            np.array([date(rng), token(rng), assets.text.phrase(rng, lang), assets.text.phrase(rng, "en")])
        )
        style = replace(sign_style(rng, face, small, rgb(120, 120, 120)), opacity=rng.uniform(0.25, 1))
        write(
            sheet,
            rng.uniform(0.02, 0.7) * width,
            rng.choice([rng.uniform(0.06, 0.14), rng.uniform(0.2, 0.72)]) * height,
            text,
            style,
        )
    return sheet


def tiny(rng: np.random.Generator, assets: Assets) -> Sheet:
    """Many small and faint lines, each in its own place, on any ground."""
    width, height = canvas_size(rng)
    sheet, room = Sheet(assets.scene(rng, width, height, 0.4)), Room(width, height)
    low = rng.uniform(7, 11)
    for _ in range(int(rng.integers(12, 60))):
        lang = assets.language(rng)
        face, size = assets.face(rng, lang), int(rng.uniform(low, low + 9))
        text = face.fit(
            assets.text.item(rng, lang) if rng.random() < 0.6 else assets.text.run(rng, lang, int(rng.integers(5, 40)))
        )
        x, y = rng.uniform(0, 0.9) * width, rng.uniform(0.03, 0.98) * height
        end = min(width - 2.0, x + advance_px(face, size, text))
        ground = ground_at(sheet, ((x + end) / 2, y - size / 2), (end - x) / 2)
        if x + advance_px(face, size, text) > width or not room.claim(
            np.array([[x, y - size], [end, y - size], [end, y + 3], [x, y + 3]])
        ):
            continue
        faint = rng.random() < 0.6
        fill = faint_for(rng, ground, rng.uniform(22, 80)) if faint else ink_for(rng, ground, 70)
        if rng.random() < 0.3:
            block = layer(int(end - x) + 12, 2 * size + 8, ground)
            write(block, 6, 1.4 * size, text, Style(face, size, fill))
            lay(sheet, block, turned(rng, block, ((x + end) / 2, y - size / 3), rng.normal(0, 3), 0.02))
        else:
            write(sheet, x, y, text, Style(face, size, fill))
    return sheet


def blank(rng: np.random.Generator, assets: Assets) -> Sheet:
    """No text at all: a scene with things that look like writing."""
    width, height = canvas_size(rng)
    sheet, room = Sheet(assets.scene(rng, width, height, 0.5)), Room(width, height)
    scatter_decoys(rng, sheet, room, int(rng.integers(3, 12)))
    for _ in range(int(rng.integers(0, 12))):
        colour = any_colour(rng).tolist()
        decoys.icon(
            rng,
            sheet.rgb,
            int(rng.integers(width)),
            int(rng.integers(height)),
            int(rng.integers(10, 70)),
            colour,
        )
    return sheet
