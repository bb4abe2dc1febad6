"""Tables and forms: every cell, key and value is a line of its own."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from steadyocr.training.synth import backgrounds, words
from steadyocr.training.synth.assets import Assets
from steadyocr.training.synth.blocks import wrap
from steadyocr.training.synth.colours import any_colour, grey, ink_for
from steadyocr.training.synth.fonts import Face
from steadyocr.training.synth.ink import advance_px
from steadyocr.training.synth.pages import print_role
from steadyocr.training.synth.sheet import Sheet, Style, write
from steadyocr.training.synth.text import date, price, token

_FORM = {"zh": words.FORM_ZH, "en": words.FORM_EN}


def _cell(rng: np.random.Generator, assets: Assets, lang: str) -> str:
    kind = rng.random()
    if kind < 0.3:
        return assets.text.word(rng, lang, _FORM)
    if kind < 0.45:
        return assets.text.phrase(rng, lang, 2, 7)
    if kind < 0.65:
        return f"{rng.uniform(0, 1000):.{int(rng.integers(0, 3))}f}"
    return price(rng) if kind < 0.75 else date(rng) if kind < 0.85 else token(rng)


def table(rng: np.random.Generator, assets: Assets) -> Sheet:
    """A ruled table with a title: every cell's text is a line of its own."""
    width, height = int(rng.integers(560, 1100)), int(rng.integers(480, 1000))
    dark = rng.random() < 0.12
    sheet = (
        Sheet(assets.paper(rng, width, height))
        if not dark
        else Sheet(backgrounds.made(rng, width, height, (0.02, 0.15)))
    )
    lang = assets.language(rng)
    face, size = assets.face(rng, lang, print_role(rng)), int(rng.uniform(10, 24))
    ground = sheet.rgb.mean(axis=(0, 1)).astype(np.float32)
    ink = grey(rng, 5, 110, 30) if not dark else grey(rng, 150, 245, 20)
    style, left = Style(face, size, ink), width * rng.uniform(0.02, 0.08)
    y = size * 2.2
    if rng.random() < 0.7:
        title = replace(style, size=int(size * rng.uniform(1.3, 2)))
        text = face.fit(assets.text.phrase(rng, lang, 4, 14))
        write(sheet, max(4, (width - advance_px(face, title.size, text)) / 2), y + title.size, text, title)
        y += 2.4 * title.size
    columns = int(rng.integers(2, max(3, min(9, width // (size * 6)))))
    cuts = np.cumsum(rng.uniform(0.6, 1.6, columns))
    xs = np.concatenate([[left], left + (width - 2 * left) * cuts / cuts[-1]])
    pitch = size * rng.uniform(1.4, 2.6)
    rows = min(int((height - y - size) / pitch), int(rng.integers(4, 30)))
    line = (ground * 0.5 + ink * 0.5).tolist()
    ruled = rng.random()
    if rng.random() < 0.5:
        shade = np.clip(any_colour(rng) * 0.4 + ground * 0.6, 0, 255).tolist()
        cv2.rectangle(sheet.rgb, (int(xs[0]), int(y)), (int(xs[-1]), int(y + pitch)), shade, -1)
    for r in range(rows + 1):
        if ruled < 0.8:
            cv2.line(
                sheet.rgb,
                (int(xs[0]), int(y + r * pitch)),
                (int(xs[-1]), int(y + r * pitch)),
                line,
                1 + int(ruled < 0.15),
            )
    for x in xs if ruled < 0.6 else ():
        cv2.line(sheet.rgb, (int(x), int(y)), (int(x), int(y + rows * pitch)), line, 1 + int(ruled < 0.15))
    align = rng.choice([0.0, 0.5])
    for r in range(rows):
        for c in range(columns):
            if rng.random() < 0.85:
                _write_cell(
                    rng,
                    assets,
                    sheet,
                    style,
                    lang,
                    (float(xs[c]), y + r * pitch, float(xs[c + 1]), pitch),
                    float(align),
                )
    return sheet


def _write_cell(
    rng: np.random.Generator,
    assets: Assets,
    sheet: Sheet,
    style: Style,
    lang: str,
    cell: tuple[float, float, float, float],
    align: float,
) -> None:
    """Write one cell (left, top, right, height)."""
    face, inner = style.face, cell[2] - cell[0] - 0.8 * style.size
    text = face.fit(_cell(rng, assets, lang))
    while text and advance_px(face, style.size, text) > inner:
        text = text[:-1].strip()
    if text:
        x = cell[0] + 0.4 * style.size + align * (inner - advance_px(face, style.size, text))
        write(sheet, x, cell[1] + cell[3] / 2 + 0.36 * style.size, text, style)


def form(rng: np.random.Generator, assets: Assets) -> Sheet:
    """A form: keys with values in another face beside or below them, rules, boxes to tick."""
    width, height = int(rng.integers(600, 1000)), int(rng.integers(600, 1200))
    sheet = Sheet(assets.paper(rng, width, height))
    lang = assets.language(rng)
    face, size = assets.face(rng, lang, print_role(rng)), int(rng.uniform(11, 22))
    key, ink = Style(face, size, grey(rng, 5, 100, 20)), ink_for(rng, np.full(3, 240, dtype=np.float32), 110)
    filled: Face = assets.face(rng, lang, str(rng.choice(["hand", "mono", "any"])))
    value = Style(filled, int(size * rng.uniform(0.9, 1.4)), ink if rng.random() < 0.4 else key.fill)
    y, columns = 2.5 * size, int(rng.integers(1, 4))
    title = replace(key, size=int(1.6 * size))
    text = face.fit(assets.text.phrase(rng, lang, 4, 12))
    write(sheet, max(4, (width - advance_px(face, title.size, text)) / 2), y, text, title)
    while y < height - 4 * size:
        y += size * rng.uniform(1.7, 3.2)
        if rng.random() < 0.1:
            for line in wrap(face, size, assets.text.run(rng, lang, 120), 0.9 * width, lang)[:3]:
                write(sheet, 0.05 * width, y, line, key)
                y += 1.5 * size
            continue
        for c in range(columns):
            _pair(
                rng,
                assets,
                sheet,
                key,
                value,
                lang,
                (width * (0.05 + 0.92 * c / columns), y, width * 0.9 / columns),
            )
    return sheet


def _pair(
    rng: np.random.Generator,
    assets: Assets,
    sheet: Sheet,
    key: Style,
    value: Style,
    lang: str,
    area: tuple[float, float, float],
) -> None:
    """Write a key and its value in an area (x, baseline, width); close together they are one line for no one."""
    x, y, width = area
    size = key.size
    label = key.face.fit(assets.text.word(rng, lang, _FORM)) + str(rng.choice(["：", ":", ""]))
    if rng.random() < 0.1:
        cv2.rectangle(sheet.rgb, (int(x), int(y - 0.8 * size)), (int(x + 0.8 * size), int(y)), key.fill.tolist(), 1)
        x, width = x + 1.3 * size, width - 1.3 * size
    write(sheet, x, y, label, key)
    start = x + advance_px(key.face, size, label) + size * rng.uniform(0.9, 2.5)
    if rng.random() < 0.5:
        cv2.line(
            sheet.rgb,
            (int(start), int(y + 0.3 * size)),
            (int(area[0] + area[2] * 0.95), int(y + 0.3 * size)),
            key.fill.tolist(),
            1,
        )
    if rng.random() < 0.75:
        text = value.face.fit(_cell(rng, assets, lang))
        if start + advance_px(value.face, value.size, text) < area[0] + area[2]:
            write(sheet, start, y, text, value)
