"""Phone pages and code editors."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from steadyocr.training.synth import decoys, words
from steadyocr.training.synth.assets import Assets
from steadyocr.training.synth.blocks import wrap
from steadyocr.training.synth.colours import any_colour, grey, ink_for, rgb
from steadyocr.training.synth.ink import advance_px
from steadyocr.training.synth.screens import WORDS, Theme, cut, make_theme, rect
from steadyocr.training.synth.sheet import Sheet, Style, plain, write
from steadyocr.training.synth.text import date, digits, token
from steadyocr.training.synth.warp import lay


def phone(rng: np.random.Generator, assets: Assets) -> Sheet:
    """A phone page: title, list with pictures and side notes, chat bubbles, tab bar."""
    width, height = int(rng.integers(480, 620)), int(rng.integers(800, 1200))
    theme = make_theme(rng, assets)
    theme = replace(
        theme,
        body=replace(theme.body, size=theme.body.size + 5),
        muted=replace(theme.muted, size=theme.muted.size + 3),
    )
    sheet, size = plain(width, height, theme.back), theme.body.size
    bar = 3.4 * size
    rect(sheet, 0, 0, width, bar, theme.panel if rng.random() < 0.6 else theme.accent)
    head = replace(
        theme.body,
        size=int(size * 1.2),
        fill=ink_for(rng, sheet.rgb[int(bar / 2), 2].astype(np.float32), 100),
    )
    title = head.face.fit(assets.text.phrase(rng, theme.lang, 2, 6))
    write(sheet, (width - advance_px(head.face, head.size, title)) / 2, 2.5 * size, title, head)
    write(
        sheet,
        0.8 * size,
        1.0 * size,
        f"{int(rng.integers(24))}:{int(rng.integers(10, 60))}",
        replace(head, size=max(9, int(0.7 * size))),
    )
    chat, y = rng.random() < 0.35, bar + size
    while y < height - (13 if chat else 8.5) * size:
        y += _bubble(rng, assets, sheet, theme, y) if chat else _entry(rng, assets, sheet, theme, y)
    rect(sheet, 0, height - 3.2 * size, width, 3.2 * size, theme.panel)
    for i in range(4):
        x = width * (0.08 + 0.24 * i)
        decoys.icon(rng, sheet.rgb, int(x), int(height - 2.8 * size), size, theme.body.fill.tolist())
        write(
            sheet,
            x - 0.3 * size,
            height - 0.6 * size,
            cut(theme.muted, assets.text.word(rng, theme.lang, WORDS), width * 0.17),
            theme.muted,
        )
    return sheet


def _entry(rng: np.random.Generator, assets: Assets, sheet: Sheet, theme: Theme, y: float) -> float:
    size, x = theme.body.size, 1.0 * theme.body.size
    tall = size * rng.uniform(3, 5)
    if rng.random() < 0.6:
        side = int(tall - size)
        lay(
            sheet,
            Sheet(assets.scene(rng, side, side)),
            np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], dtype=np.float64),
        )
        x += side + size
    write(
        sheet,
        x,
        y + 1.1 * size,
        cut(theme.body, assets.text.phrase(rng, theme.lang, 3, 12), sheet.width * 0.7 - x),
        theme.body,
    )
    if rng.random() < 0.8:
        write(
            sheet,
            x,
            y + 2.6 * size,
            cut(theme.muted, assets.text.run(rng, theme.lang, 26), sheet.width - x - size),
            theme.muted,
        )
    if rng.random() < 0.6:
        text = theme.muted.face.fit(str(rng.choice(np.array([date(rng), digits(rng, 2), ">"]))))
        write(
            sheet,
            sheet.width - advance_px(theme.muted.face, theme.muted.size, text) - 0.8 * size,
            y + 1.1 * size,
            text,
            theme.muted,
        )
    cv2.line(
        sheet.rgb,
        (int(x), int(y + tall - 4)),
        (sheet.width, int(y + tall - 4)),
        np.clip(theme.line, 0, 255).tolist(),
        1,
    )
    return tall


def _bubble(rng: np.random.Generator, assets: Assets, sheet: Sheet, theme: Theme, y: float) -> float:
    size = theme.body.size
    lines = wrap(
        theme.body.face,
        size,
        assets.text.run(rng, theme.lang, int(rng.integers(3, 60))),
        sheet.width * 0.6,
        theme.lang,
    )[:5] or ["8"]
    w, h = (
        max(advance_px(theme.body.face, size, t) for t in lines) + 1.4 * size,
        1.5 * size * len(lines) + 0.8 * size,
    )
    mine = rng.random() < 0.5
    x = sheet.width - w - 3.4 * size if mine else 3.4 * size
    ground = theme.accent if mine else theme.panel
    rect(sheet, x, y, w, h, ground)
    cv2.circle(
        sheet.rgb,
        (int(sheet.width - 1.8 * size if mine else 1.8 * size), int(y + size)),
        int(size),
        any_colour(rng).tolist(),
        -1,
        cv2.LINE_AA,
    )
    style = replace(theme.body, fill=ink_for(rng, ground, 90)) if mine else theme.body
    for i, line in enumerate(lines):
        write(sheet, x + 0.7 * size, y + size * (1.4 + 1.5 * i), line, style)
    return h + 1.6 * size


def code(rng: np.random.Generator, assets: Assets) -> Sheet:
    """A code editor or a terminal: mono face, coloured lines, line numbers."""
    width, height = int(rng.integers(640, 1200)), int(rng.integers(480, 800))
    dark = rng.random() < 0.75
    back = grey(rng, 8, 48, 16) if dark else grey(rng, 240, 255, 4)
    sheet = plain(width, height, back)
    face, size = assets.face(rng, "en", "mono"), int(rng.uniform(11, 20))
    comment = assets.face(rng, assets.language(rng), "mono")
    inks = [any_colour(rng, light=(0.6, 0.85) if dark else (0.15, 0.45)) for _ in range(4)] + [
        rgb(225, 225, 225) if dark else rgb(20, 20, 20)
    ]
    gutter = Style(face, size, np.asarray((back + inks[4]) / 2, dtype=np.float32))
    pitch, numbered, indent = size * rng.uniform(1.25, 1.6), rng.random() < 0.7, 0
    for i, y in enumerate(np.arange(1.5 * size, height - 2, pitch)):
        if rng.random() < 0.12:
            continue
        indent = int(np.clip(indent + rng.integers(-1, 2), 0, 5))
        if numbered:
            write(
                sheet,
                0.4 * size,
                float(y),
                str(i + 1),
                gutter,
            )
        text, own = _statement(rng, assets), face
        if rng.random() < 0.15:
            text, own = "# " + assets.text.run(rng, "zh" if comment.covers("的") else "en", 20), comment
        write(
            sheet,
            (4 + 2 * indent) * 0.6 * size + 0.5 * size,
            float(y),
            text[: int(width / (0.62 * size)) - 14],
            Style(own, size, inks[int(rng.integers(5))]),
        )
    return sheet


def _statement(rng: np.random.Generator, assets: Assets) -> str:
    a, b = (w.lower() or "x" for w in rng.choice(np.array(words.PLAIN["en"]), 2))
    a, b = a.replace("-", "_").strip("."), b.replace("-", "_").strip(".")
    forms = (
        f"{a} = {b}({digits(rng, 2)}, {a})",
        f"def {a}_{b}(self, {b}):",
        f"if {a} > {digits(rng, 1)}:",
        f"return {a}.{b}",
        f"import {a}",
        "}",
        f'"{a}": "{assets.text.phrase(rng, "en", 1, 3)}",',
        f"$ {a} --{b} {token(rng)}",
    )
    return forms[int(rng.integers(len(forms)))]
