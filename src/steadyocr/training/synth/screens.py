"""Screens: windows with menus and lists, phone pages, code editors; light and dark."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from steadyocr.training.synth import decoys, words
from steadyocr.training.synth.assets import Assets
from steadyocr.training.synth.blocks import wrap
from steadyocr.training.synth.colours import Colour, any_colour, grey, ink_for, rgb
from steadyocr.training.synth.ink import advance_px
from steadyocr.training.synth.sheet import Sheet, Style, plain, write
from steadyocr.training.synth.text import date, digits, token
from steadyocr.training.synth.warp import lay

_WORDS = {"zh": words.SCREEN_ZH, "en": words.SCREEN_EN}


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours and body text of a screen.

    Attributes:
        back: Ground of the screen.
        panel: Ground of bars and cards.
        line: Rules and borders.
        accent: Buttons and links.
        body: Style of plain text.
        muted: Style of side notes.
        lang: Language of the words.
    """

    back: Colour
    panel: Colour
    line: Colour
    accent: Colour
    body: Style
    muted: Style
    lang: str


def _theme(rng: np.random.Generator, assets: Assets) -> Theme:
    dark = rng.random() < 0.45
    lang = assets.language(rng)
    back = grey(rng, 14, 52, 14) if dark else grey(rng, 238, 255, 5)
    panel = np.clip(back + (rng.uniform(6, 26) if dark else -rng.uniform(0, 22)), 0, 255).astype(np.float32)
    size = int(rng.uniform(10, 22))
    ink = grey(rng, 170, 250, 10) if dark else grey(rng, 10, 90, 14)
    body = Style(assets.face(rng, lang, "sans"), size, ink)
    note = np.clip(back + (ink - back) * rng.uniform(0.3, 0.65), 0, 255).astype(np.float32)
    return Theme(
        back,
        panel,
        back + (ink - back) * np.float32(0.15),
        any_colour(rng, light=(0.35, 0.6)),
        body,
        replace(body, fill=note, size=max(9, size - 3)),
        lang,
    )


def _rect(sheet: Sheet, x: float, y: float, w: float, h: float, colour: Colour, thickness: int = -1) -> None:
    cv2.rectangle(
        sheet.rgb, (int(x), int(y)), (int(x + w), int(y + h)), np.clip(colour, 0, 255).tolist(), thickness
    )


def _cut(style: Style, text: str, room_px: float) -> str:
    text = style.face.fit(text)
    while text and advance_px(style.face, style.size, text) > room_px:
        text = text[:-1].strip()
    return text


def _button(
    rng: np.random.Generator, assets: Assets, sheet: Sheet, theme: Theme, x: float, y: float
) -> float:
    text = theme.body.face.fit(assets.text.word(rng, theme.lang, _WORDS))
    width = advance_px(theme.body.face, theme.body.size, text) + 2.2 * theme.body.size
    filled = rng.random() < 0.6
    _rect(
        sheet, x, y, width, 2 * theme.body.size, theme.accent if filled else theme.line, -1 if filled else 1
    )
    ink = ink_for(rng, theme.accent, 90) if filled else theme.body.fill
    write(sheet, x + 1.1 * theme.body.size, y + 1.37 * theme.body.size, text, replace(theme.body, fill=ink))
    return x + width + theme.body.size


def window(rng: np.random.Generator, assets: Assets) -> Sheet:
    """A program window: menu bar, side list, and a table, cards or text beside it."""
    width, height = int(rng.integers(720, 1280)), int(rng.integers(480, 860))
    theme = _theme(rng, assets)
    sheet, size = plain(width, height, theme.back), theme.body.size
    bar = int(size * rng.uniform(2, 3.2))
    _rect(sheet, 0, 0, width, bar, theme.panel if rng.random() < 0.7 else theme.accent)
    head = replace(theme.body, fill=ink_for(rng, sheet.rgb[bar // 2, 2].astype(np.float32), 100))
    x = float(size)
    while x < width * rng.uniform(0.4, 0.95):
        word = assets.text.word(rng, theme.lang, _WORDS)
        write(sheet, x, bar / 2 + 0.37 * size, word, head)
        x += advance_px(head.face, size, word) + size * rng.uniform(1.4, 2.5)
    side = int(width * rng.uniform(0.12, 0.25)) if rng.random() < 0.75 else 0
    if side:
        _rect(sheet, 0, bar, side, height, theme.panel)
        _side_list(rng, assets, sheet, theme, side, bar)
    area = (side + 1.5 * size, bar + 1.2 * size, width - 1.0 * size, height - 0.5 * size)
    (_grid, _cards, _article)[int(rng.integers(3))](rng, assets, sheet, theme, area)
    return sheet


def _side_list(
    rng: np.random.Generator, assets: Assets, sheet: Sheet, theme: Theme, side: int, top: float
) -> None:
    size, pitch = theme.body.size, theme.body.size * rng.uniform(1.7, 2.8)
    icons, chosen = rng.random() < 0.5, int(rng.integers(12))
    for i, y in enumerate(np.arange(top + 1.6 * pitch, sheet.height - size, pitch)):
        if i == chosen:
            _rect(
                sheet,
                0,
                y - 0.37 * size - pitch / 2,
                side,
                pitch,
                theme.back + np.float32(0.3) * (theme.accent - theme.back),
            )
        x = size * 0.9
        if icons:
            decoys.icon(rng, sheet.rgb, int(x), int(y - 0.9 * size), size, theme.muted.fill.tolist())
            x += 1.7 * size
        write(
            sheet,
            x,
            float(y),
            _cut(theme.body, assets.text.word(rng, theme.lang, _WORDS), side - x - 4),
            theme.body,
        )


def _grid(
    rng: np.random.Generator,
    assets: Assets,
    sheet: Sheet,
    theme: Theme,
    area: tuple[float, float, float, float],
) -> None:
    x0, y0, x1, y1 = area
    x = x0
    for _ in range(int(rng.integers(0, 4))):
        x = _button(rng, assets, sheet, theme, x, y0)
    size = theme.body.size
    y, columns = y0 + 3 * size, int(rng.integers(3, 8))
    pitch, step = size * rng.uniform(1.7, 3), (x1 - x0) / columns
    _rect(sheet, x0, y, x1 - x0, pitch, theme.panel)
    for r, at in enumerate(np.arange(y, y1 - pitch, pitch)):
        cv2.line(
            sheet.rgb,
            (int(x0), int(at + pitch)),
            (int(x1), int(at + pitch)),
            np.clip(theme.line, 0, 255).tolist(),
            1,
        )
        for c in range(columns):
            value = (
                assets.text.word(rng, theme.lang, _WORDS)
                if r == 0 or c == 0
                else str(
                    rng.choice(
                        np.array([date(rng), token(rng), digits(rng, 3), assets.text.phrase(rng, theme.lang)])
                    )
                )
            )
            style = theme.body if rng.random() < 0.8 else replace(theme.body, fill=theme.accent)
            write(
                sheet,
                x0 + c * step + 0.5 * size,
                float(at) + pitch / 2 + 0.37 * size,
                _cut(style, value, step - 1.5 * size),
                style,
            )


def _cards(
    rng: np.random.Generator,
    assets: Assets,
    sheet: Sheet,
    theme: Theme,
    area: tuple[float, float, float, float],
) -> None:
    x0, y0, x1, y1 = area
    size, columns = theme.body.size, int(rng.integers(2, 5))
    w, h = (x1 - x0) / columns - size, size * rng.uniform(7, 14)
    for y in np.arange(y0, y1 - h, h + size):
        for x in x0 + np.arange(columns) * (w + size):
            _rect(sheet, x, y, w, h, theme.panel)
            _rect(sheet, x, y, w, h, theme.line, 1)
            top = float(y) + 1.6 * size
            if rng.random() < 0.5 and h > 8 * size:
                picture = Sheet(assets.scene(rng, int(w) - 2, int(h - 5 * size)))
                lay(sheet, picture, np.array([[1, 0, x + 1], [0, 1, y + 1], [0, 0, 1]], dtype=np.float64))
                top += h - 5 * size
            write(
                sheet,
                float(x) + 0.8 * size,
                top,
                _cut(theme.body, assets.text.phrase(rng, theme.lang, 3, 10), w - 1.6 * size),
                theme.body,
            )
            write(
                sheet,
                float(x) + 0.8 * size,
                top + 1.6 * size,
                _cut(theme.muted, assets.text.item(rng, theme.lang), w - 1.6 * size),
                theme.muted,
            )


def _article(
    rng: np.random.Generator,
    assets: Assets,
    sheet: Sheet,
    theme: Theme,
    area: tuple[float, float, float, float],
) -> None:
    x0, y0, x1, y1 = area
    size = theme.body.size
    head = replace(theme.body, size=int(size * rng.uniform(1.4, 2.4)))
    write(sheet, x0, y0 + head.size, _cut(head, assets.text.run(rng, theme.lang, 30), x1 - x0), head)
    y = y0 + head.size + 2 * size
    write(
        sheet,
        x0,
        y,
        _cut(theme.muted, f"{date(rng)}  {assets.text.phrase(rng, theme.lang)}", x1 - x0),
        theme.muted,
    )
    y += 2 * size
    while y < y1:
        if rng.random() < 0.15:
            _button(rng, assets, sheet, theme, x0, y)
            y += 3.5 * size
            continue
        for line in wrap(
            theme.body.face,
            size,
            assets.text.run(rng, theme.lang, int(rng.integers(20, 260))),
            x1 - x0,
            theme.lang,
        ):
            if y > y1:
                break
            write(sheet, x0, y, line, theme.body)
            y += 1.65 * size
        y += size


def phone(rng: np.random.Generator, assets: Assets) -> Sheet:
    """A phone page: title, list with pictures and side notes, chat bubbles, tab bar."""
    width, height = int(rng.integers(480, 620)), int(rng.integers(800, 1200))
    theme = _theme(rng, assets)
    theme = replace(
        theme,
        body=replace(theme.body, size=theme.body.size + 5),
        muted=replace(theme.muted, size=theme.muted.size + 3),
    )
    sheet, size = plain(width, height, theme.back), theme.body.size
    bar = 3.4 * size
    _rect(sheet, 0, 0, width, bar, theme.panel if rng.random() < 0.6 else theme.accent)
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
    _rect(sheet, 0, height - 3.2 * size, width, 3.2 * size, theme.panel)
    for i in range(4):
        x = width * (0.08 + 0.24 * i)
        decoys.icon(rng, sheet.rgb, int(x), int(height - 2.8 * size), size, theme.body.fill.tolist())
        write(
            sheet,
            x - 0.3 * size,
            height - 0.6 * size,
            _cut(theme.muted, assets.text.word(rng, theme.lang, _WORDS), width * 0.17),
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
        _cut(theme.body, assets.text.phrase(rng, theme.lang, 3, 12), sheet.width * 0.7 - x),
        theme.body,
    )
    if rng.random() < 0.8:
        write(
            sheet,
            x,
            y + 2.6 * size,
            _cut(theme.muted, assets.text.run(rng, theme.lang, 26), sheet.width - x - size),
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
    _rect(sheet, x, y, w, h, ground)
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
    """A code editor or a terminal: coloured runs in a mono face, line numbers; one line of code is one line of text."""
    width, height = int(rng.integers(640, 1200)), int(rng.integers(480, 800))
    dark = rng.random() < 0.75
    back = grey(rng, 8, 48, 16) if dark else grey(rng, 240, 255, 4)
    sheet = plain(width, height, back)
    face, size = assets.face(rng, "en", "mono"), int(rng.uniform(11, 20))
    comment = assets.face(rng, assets.language(rng), "mono")
    inks = [any_colour(rng, light=(0.6, 0.85) if dark else (0.15, 0.45)) for _ in range(4)] + [
        rgb(225, 225, 225) if dark else rgb(20, 20, 20)
    ]
    pitch, numbered, indent = size * rng.uniform(1.25, 1.6), rng.random() < 0.7, 0
    for i, y in enumerate(np.arange(1.5 * size, height - 2, pitch)):
        if rng.random() < 0.12:
            continue
        indent = int(np.clip(indent + rng.integers(-1, 2), 0, 5))
        if numbered:
            write(sheet, 0.4 * size, float(y), str(i + 1), Style(face, size, (back + inks[4]) / 2))
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
