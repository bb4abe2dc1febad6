"""Program windows, light and dark: menus, side lists, tables, cards, articles."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from steadyocr.training.synth import decoys, words
from steadyocr.training.synth.assets import Assets
from steadyocr.training.synth.blocks import wrap
from steadyocr.training.synth.colours import Colour, any_colour, grey, ink_for
from steadyocr.training.synth.ink import advance_px
from steadyocr.training.synth.sheet import Sheet, Style, plain, write
from steadyocr.training.synth.text import date, digits, token
from steadyocr.training.synth.warp import lay

WORDS = {"zh": words.SCREEN_ZH, "en": words.SCREEN_EN}


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


def make_theme(rng: np.random.Generator, assets: Assets) -> Theme:
    """Return a light or a dark theme."""
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


def rect(sheet: Sheet, x: float, y: float, w: float, h: float, colour: Colour, thickness: int = -1) -> None:
    """Draw a rectangle, filled unless a thickness in pixels is given."""
    cv2.rectangle(sheet.rgb, (int(x), int(y)), (int(x + w), int(y + h)), np.clip(colour, 0, 255).tolist(), thickness)


def cut(style: Style, text: str, room_px: float) -> str:
    """Return as much of the text as the face holds and the room takes."""
    text = style.face.fit(text)
    while text and advance_px(style.face, style.size, text) > room_px:
        text = text[:-1].strip()
    return text


def _button(rng: np.random.Generator, assets: Assets, sheet: Sheet, theme: Theme, x: float, y: float) -> float:
    text = theme.body.face.fit(assets.text.word(rng, theme.lang, WORDS))
    width = advance_px(theme.body.face, theme.body.size, text) + 2.2 * theme.body.size
    filled = rng.random() < 0.6
    rect(sheet, x, y, width, 2 * theme.body.size, theme.accent if filled else theme.line, -1 if filled else 1)
    ink = ink_for(rng, theme.accent, 90) if filled else theme.body.fill
    write(sheet, x + 1.1 * theme.body.size, y + 1.37 * theme.body.size, text, replace(theme.body, fill=ink))
    return x + width + theme.body.size


def window(rng: np.random.Generator, assets: Assets) -> Sheet:
    """A program window: menu bar, side list, and a table, cards or text beside it."""
    width, height = int(rng.integers(720, 1280)), int(rng.integers(480, 860))
    theme = make_theme(rng, assets)
    sheet, size = plain(width, height, theme.back), theme.body.size
    bar = int(size * rng.uniform(2, 3.2))
    rect(sheet, 0, 0, width, bar, theme.panel if rng.random() < 0.7 else theme.accent)
    head = replace(theme.body, fill=ink_for(rng, sheet.rgb[bar // 2, 2].astype(np.float32), 100))
    x = float(size)
    while x < width * rng.uniform(0.4, 0.95):
        word = assets.text.word(rng, theme.lang, WORDS)
        write(sheet, x, bar / 2 + 0.37 * size, word, head)
        x += advance_px(head.face, size, word) + size * rng.uniform(1.4, 2.5)
    side = int(width * rng.uniform(0.12, 0.25)) if rng.random() < 0.75 else 0
    if side:
        rect(sheet, 0, bar, side, height, theme.panel)
        _side_list(rng, assets, sheet, theme, side, bar)
    area = (side + 1.5 * size, bar + 1.2 * size, width - 1.0 * size, height - 0.5 * size)
    (_grid, _cards, _article)[int(rng.integers(3))](rng, assets, sheet, theme, area)
    return sheet


def _side_list(rng: np.random.Generator, assets: Assets, sheet: Sheet, theme: Theme, side: int, top: float) -> None:
    size, pitch = theme.body.size, theme.body.size * rng.uniform(1.7, 2.8)
    icons, chosen = rng.random() < 0.5, int(rng.integers(12))
    for i, y in enumerate(np.arange(top + 1.6 * pitch, sheet.height - size, pitch)):
        if i == chosen:
            rect(
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
            cut(theme.body, assets.text.word(rng, theme.lang, WORDS), side - x - 4),
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
    rect(sheet, x0, y, x1 - x0, pitch, theme.panel)
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
                assets.text.word(rng, theme.lang, WORDS)
                if r == 0 or c == 0
                else str(
                    rng.choice(np.array([date(rng), token(rng), digits(rng, 3), assets.text.phrase(rng, theme.lang)]))
                )
            )
            style = theme.body if rng.random() < 0.8 else replace(theme.body, fill=theme.accent)
            write(
                sheet,
                x0 + c * step + 0.5 * size,
                float(at) + pitch / 2 + 0.37 * size,
                cut(style, value, step - 1.5 * size),
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
            rect(sheet, x, y, w, h, theme.panel)
            rect(sheet, x, y, w, h, theme.line, 1)
            top = float(y) + 1.6 * size
            if rng.random() < 0.5 and h > 8 * size:
                picture = Sheet(assets.scene(rng, int(w) - 2, int(h - 5 * size)))
                lay(sheet, picture, np.array([[1, 0, x + 1], [0, 1, y + 1], [0, 0, 1]], dtype=np.float64))
                top += h - 5 * size
            write(
                sheet,
                float(x) + 0.8 * size,
                top,
                cut(theme.body, assets.text.phrase(rng, theme.lang, 3, 10), w - 1.6 * size),
                theme.body,
            )
            write(
                sheet,
                float(x) + 0.8 * size,
                top + 1.6 * size,
                cut(theme.muted, assets.text.item(rng, theme.lang), w - 1.6 * size),
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
    write(sheet, x0, y0 + head.size, cut(head, assets.text.run(rng, theme.lang, 30), x1 - x0), head)
    y = y0 + head.size + 2 * size
    write(
        sheet,
        x0,
        y,
        cut(theme.muted, f"{date(rng)}  {assets.text.phrase(rng, theme.lang)}", x1 - x0),
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
