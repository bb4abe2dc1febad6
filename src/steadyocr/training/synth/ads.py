"""Chinese web pictures: product banners and posters with text of many sizes over pictures and colour."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from steadyocr.training.synth import backgrounds, decoys
from steadyocr.training.synth.assets import Assets
from steadyocr.training.synth.blocks import Room, sign_style, turned, wrap
from steadyocr.training.synth.colours import Colour, any_colour, faint_for, ink_for
from steadyocr.training.synth.ink import advance_px
from steadyocr.training.synth.sheet import Sheet, Style, layer, write
from steadyocr.training.synth.text import price, token
from steadyocr.training.synth.warp import corners, lay


def _mean(sheet: Sheet, x: float, y: float, w: float, h: float) -> Colour:
    view = sheet.rgb[max(0, int(y)) : int(y + h) + 1, max(0, int(x)) : int(x + w) + 1]
    return np.asarray(view.mean(axis=(0, 1)) if view.size else np.full(3, 128.0), dtype=np.float32)


def _box(x: float, y: float, w: float, h: float) -> NDArray[np.float64]:
    return corners(w, h) + np.array([x, y], dtype=np.float64)


def _product(rng: np.random.Generator, assets: Assets, sheet: Sheet, room: Room) -> None:
    """Set a cut-out of a photograph, round or square or blob-shaped, as the thing that is sold."""
    side_w, side_h = int(sheet.width * rng.uniform(0.2, 0.55)), int(sheet.height * rng.uniform(0.25, 0.6))
    image = assets.scene(rng, side_w, side_h)
    alpha = np.zeros((side_h, side_w), dtype=np.uint8)
    shape = rng.random()
    if shape < 0.35:
        alpha[:] = 255
    elif shape < 0.65:
        cv2.ellipse(
            alpha,
            (side_w // 2, side_h // 2),
            (side_w // 2 - 1, side_h // 2 - 1),
            0,
            0,
            360,
            255,
            -1,
            cv2.LINE_AA,
        )
    else:
        turn = np.linspace(0, 2 * np.pi, 9)[:-1]
        reach = rng.uniform(0.55, 1.0, 8)
        points = np.stack([side_w / 2 * (1 + reach * np.cos(turn)), side_h / 2 * (1 + reach * np.sin(turn))], axis=1)
        cv2.fillPoly(alpha, [points.astype(np.int32)], 255, cv2.LINE_AA)
    image = np.where(alpha[..., None] > 0, image, 0).astype(np.uint8)
    x, y = rng.uniform(0, sheet.width - side_w), rng.uniform(0, sheet.height - side_h)
    if rng.random() < 0.75:
        room.claim(_box(x, y, side_w, side_h))
    lay(sheet, Sheet(image, alpha), np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], dtype=np.float64))


def _row(
    rng: np.random.Generator,
    assets: Assets,
    sheet: Sheet,
    room: Room,
    text: str,
    lang: str,
    size: int,
    at: tuple[float, float],
    *,
    strong: float,
) -> bool:
    """Write one line at a top-left corner when there is room for it."""
    face = assets.face(rng, lang)
    text = face.fit(text)
    width = advance_px(face, size, text)
    while text and at[0] + width > sheet.width - 4 and size > 12:
        size = int(size * 0.85)
        width = advance_px(face, size, text)
    if (
        not text
        or at[0] + width > sheet.width
        or at[1] + 1.15 * size > sheet.height
        or not room.claim(_box(*at, width, 1.1 * size))
    ):
        return False
    ground = _mean(sheet, *at, width, size)
    style = sign_style(rng, face, size, ground, bold_effects=strong)
    if rng.random() < 0.1:
        style = replace(style, fill=faint_for(rng, ground, rng.uniform(25, 60)), stroke_px=0, fill_end=None)
    write(sheet, at[0], at[1] + 0.9 * size, text, replace(style, spacing=0.0))
    return True


def _badge(rng: np.random.Generator, assets: Assets, sheet: Sheet, room: Room, lang: str) -> None:
    """A coloured pill, circle or flag with a price or a promise on it, sometimes turned."""
    size = int(rng.uniform(0.02, 0.07) * max(sheet.width, sheet.height))
    face = assets.face(rng, lang, "sans" if rng.random() < 0.6 else "any")
    lines = [
        price(rng) if rng.random() < 0.5 else assets.text.phrase(rng, lang, 2, 6)
        for _ in range(int(rng.choice([1, 1, 2])))
    ]
    lines = [t for t in map(face.fit, lines) if t] or ["8"]
    widest = max(advance_px(face, size, t) for t in lines)
    w, h = int(widest + 1.2 * size), int(1.35 * size * len(lines) + 0.5 * size)
    fill = any_colour(rng, light=(0.2, 0.8))
    if rng.random() < 0.3:
        w = h = int(max(w, h) * 1.1)
    alpha = np.zeros((h, w), dtype=np.uint8)
    if w == h or rng.random() < 0.3:
        cv2.ellipse(alpha, (w // 2, h // 2), (w // 2, h // 2), 0, 0, 360, 255, -1, cv2.LINE_AA)
    else:
        alpha[:] = 255
    block = Sheet((fill * (alpha[..., None] / 255)).astype(np.uint8), alpha, fill)
    ink = ink_for(rng, fill, 80)
    top = (h - 1.3 * size * len(lines)) / 2
    for i, text in enumerate(lines):
        write(
            block,
            (w - advance_px(face, size, text)) / 2,
            top + size * (1.0 + 1.3 * i),
            text,
            Style(face, size, ink),
        )
    x, y = rng.uniform(0, max(1, sheet.width - w)), rng.uniform(0, max(1, sheet.height - h))
    if room.claim(_box(x, y, w, h)):
        lay(
            sheet,
            block,
            turned(rng, block, (x + w / 2, y + h / 2), rng.choice([0.0, rng.normal(0, 12)]), 0.01),
        )


def ad(rng: np.random.Generator, assets: Assets) -> Sheet:
    """A product picture of a shop on the net: headline, claims, prices, badges, small print, watermark."""
    shape = rng.random()
    width = int(rng.integers(560, 1000))
    height = (
        width
        if shape < 0.5
        else int(width * rng.uniform(0.4, 0.8))
        if shape < 0.75
        else int(width * rng.uniform(1.1, 1.5))
    )
    height = max(height, 400)
    flat = rng.random() < 0.65
    sheet = Sheet(backgrounds.made(rng, width, height) if flat else assets.scene(rng, width, height))
    room = Room(width, height)
    lang = assets.language(rng) if rng.random() < 0.3 else ("zh" if "zh" in assets.fonts.languages else "en")
    for _ in range(int(rng.integers(0, 4))):
        _product(rng, assets, sheet, room)
    _headlines(rng, assets, sheet, room, lang)
    for _ in range(int(rng.integers(0, 7))):
        _badge(rng, assets, sheet, room, lang)
    if rng.random() < 0.4:
        _claims(rng, assets, sheet, room, lang)
    for _ in range(int(rng.integers(2, 16))):
        size = int(rng.choice([rng.uniform(0.014, 0.045), rng.uniform(0.03, 0.1)], p=[0.7, 0.3]) * width) + 4
        at = (rng.uniform(0, 0.85) * width, rng.uniform(0, 0.95) * height)
        _row(rng, assets, sheet, room, assets.text.item(rng, lang), lang, size, at, strong=0.25)
    if rng.random() < 0.35:
        _small_print(rng, assets, sheet, room, lang)
    if rng.random() < 0.25:
        _watermark(rng, assets, sheet, lang)
    if rng.random() < 0.2:
        side = int(rng.uniform(0.1, 0.22) * width)
        at = (rng.uniform(0, width - side), rng.uniform(0, height - side))
        if room.claim(_box(*at, side, side)):
            lay(
                sheet,
                decoys.matrix_code(rng, side),
                np.array([[1, 0, at[0]], [0, 1, at[1]], [0, 0, 1]], dtype=np.float64),
            )
    return sheet


def _headlines(rng: np.random.Generator, assets: Assets, sheet: Sheet, room: Room, lang: str) -> None:
    """A headline with smaller lines below it; a line that finds no room is tried elsewhere once."""
    x, y = sheet.width * rng.uniform(0.03, 0.35), sheet.height * rng.uniform(0.02, 0.3)
    head = int(rng.uniform(0.05, 0.16) * sheet.width)
    for i in range(int(rng.integers(2, 10))):
        size = head if i == 0 else int(max(11, head * rng.choice([rng.uniform(0.6, 1), rng.uniform(0.25, 0.55)])))
        own = lang if rng.random() < 0.82 else "en"
        text = (
            assets.text.phrase(rng, own, 1 if own == "en" else 3, 10)
            if i < 2 or rng.random() < 0.6
            else assets.text.item(rng, own)
        )
        strong = 0.6 if i < 2 else 0.25
        if not _row(rng, assets, sheet, room, text, own, size, (x, y), strong=strong):
            at = (rng.uniform(0, 0.7) * sheet.width, rng.uniform(0, 0.9) * sheet.height)
            _row(rng, assets, sheet, room, text, own, size, at, strong=strong)
        y += size * rng.uniform(1.2, 1.7)


def _claims(rng: np.random.Generator, assets: Assets, sheet: Sheet, room: Room, lang: str) -> None:
    """A grid of short claims, each with a sign above or beside it."""
    size, columns = int(rng.uniform(0.018, 0.035) * sheet.width) + 3, int(rng.integers(2, 5))
    step, top = sheet.width / columns, rng.uniform(0.3, 0.8) * sheet.height
    for r in range(int(rng.integers(1, 4))):
        for c in range(columns):
            x, y = step * (c + rng.uniform(0.1, 0.16)), top + r * 2.6 * size
            if y + 2 * size > sheet.height:
                return
            icon_ink = ink_for(rng, _mean(sheet, x, y, size, size), 60).tolist()
            if rng.random() < 0.6 and room.claim(_box(x - 0.2 * size, y, size, size)):
                decoys.icon(rng, sheet.rgb, int(x), int(y), size, icon_ink)
            text = assets.text.phrase(rng, lang, 2, 6)
            _row(rng, assets, sheet, room, text, lang, size, (x + 2.2 * size, y), strong=0.1)


def _small_print(rng: np.random.Generator, assets: Assets, sheet: Sheet, room: Room, lang: str) -> None:
    face, size = assets.face(rng, lang, "sans"), int(rng.uniform(9, 20))
    column = sheet.width * rng.uniform(0.25, 0.7)
    x, y = rng.uniform(0, sheet.width - column), rng.uniform(0.4, 0.9) * sheet.height
    lines = wrap(face, size, assets.text.run(rng, lang, int(rng.integers(20, 160))), column, lang)[:8]
    height = 1.5 * size * len(lines)
    if y + height < sheet.height and room.claim(_box(x, y, column, height)):
        ground = _mean(sheet, x, y, column, height)
        ink = ink_for(rng, ground, 70)
        for i, line in enumerate(lines):
            write(sheet, x, y + size * (1.0 + 1.5 * i), line, Style(face, size, ink))


def _watermark(rng: np.random.Generator, assets: Assets, sheet: Sheet, lang: str) -> None:
    """One pale line across the picture; it may cross nothing that was written before."""
    face, size = assets.face(rng, lang), int(rng.uniform(0.025, 0.06) * sheet.width)
    text = face.fit(token(rng) if rng.random() < 0.5 else assets.text.phrase(rng, lang, 3, 8)) or "8"
    block = layer(int(advance_px(face, size, text)) + size, 2 * size, np.full(3, 128, dtype=np.float32))
    write(
        block,
        size / 2,
        1.35 * size,
        text,
        Style(face, size, np.full(3, rng.choice([255.0, 20.0]), dtype=np.float32)),
    )
    centre = (rng.uniform(0.3, 0.7) * sheet.width, rng.uniform(0.1, 0.9) * sheet.height)
    matrix = turned(rng, block, centre, rng.choice([0.0, rng.uniform(-40, 40)]), 0.0)
    probe = Room(sheet.width, sheet.height)
    for mark in sheet.marks:
        probe.claim(mark.quad)
    ends = corners(block.width, block.height) @ matrix[:2, :2].T + matrix[:2, 2]
    if probe.claim(ends):
        lay(sheet, block, matrix, opacity=rng.uniform(0.25, 0.7))
