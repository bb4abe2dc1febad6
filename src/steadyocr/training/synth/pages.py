"""Documents and receipts."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from steadyocr.training.synth import backgrounds, decoys, words
from steadyocr.training.synth.assets import Assets
from steadyocr.training.synth.blocks import wrap
from steadyocr.training.synth.colours import grey, ink_for
from steadyocr.training.synth.ink import advance_px
from steadyocr.training.synth.sheet import Sheet, Style, write
from steadyocr.training.synth.text import date, digits, price, token
from steadyocr.training.synth.warp import lay

_FORM = {"zh": words.FORM_ZH, "en": words.FORM_EN}
_GOODS = {"zh": words.RECEIPT_ZH, "en": words.RECEIPT_EN}


def print_role(rng: np.random.Generator) -> str:
    """Choose the role of a face for printed matter."""
    return str(rng.choice(["serif", "sans", "any"], p=[0.45, 0.4, 0.15]))


def _figure(rng: np.random.Generator, assets: Assets, sheet: Sheet, x: float, y: float, w: int, h: int) -> None:
    image = assets.scene(rng, w, h) if rng.random() < 0.6 else decoys.patch(rng, w, h).rgb
    lay(sheet, Sheet(image), np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], dtype=np.float64))


def document(rng: np.random.Generator, assets: Assets) -> Sheet:
    """A page: title, paragraphs in one to three columns, headings, figures, running head and page number."""
    width = int(rng.integers(560, 1000))
    height = int(width * rng.uniform(0.8, 1.42))
    sheet = Sheet(assets.paper(rng, width, height))
    if rng.random() < 0.07:
        sheet = Sheet(backgrounds.made(rng, width, height, (0.02, 0.25)))
    ground = sheet.rgb.mean(axis=(0, 1)).astype(np.float32)
    lang = assets.language(rng)
    face = assets.face(rng, lang, print_role(rng))
    size = int(rng.choice([rng.uniform(9, 15), rng.uniform(13, 22), rng.uniform(20, 34)], p=[0.4, 0.42, 0.18]))
    ink = grey(rng, 5, 100, 20) if ground.mean() > 128 else grey(rng, 180, 250, 20)
    body = Style(face, size, ink)
    columns = int(rng.choice([1, 2, 3], p=[0.6, 0.32, 0.08])) if width / size > 40 else 1
    margin, gutter = width * rng.uniform(0.04, 0.12), size * rng.uniform(1.5, 3)
    top = height * rng.uniform(0.03, 0.1)
    if rng.random() < 0.5:
        small = replace(body, size=max(8, int(size * 0.8)))
        write(sheet, margin, top, assets.text.phrase(rng, lang, 3, 12), small)
        write(sheet, width - margin - 3 * size, height - 0.8 * size, digits(rng, 2), small)
        top += 2 * size
    if rng.random() < 0.6:
        head = replace(body, face=assets.face(rng, lang, "any"), size=int(size * rng.uniform(1.4, 2.6)))
        if rng.random() < 0.25:
            head = replace(head, fill=ink_for(rng, ground, 70))
        for line in wrap(
            head.face,
            head.size,
            assets.text.run(rng, lang, int(rng.integers(6, 30))),
            width - 2 * margin,
            lang,
        )[:2]:
            top += 1.35 * head.size
            write(sheet, (width - advance_px(head.face, head.size, line)) / 2, top, line, head)
        top += size
    column = (width - 2 * margin - gutter * (columns - 1)) / columns
    for i in range(columns):
        _fill_column(
            rng,
            assets,
            sheet,
            body,
            lang,
            (margin + i * (column + gutter), top + size, column, height - 2.5 * size),
        )
    return sheet


def _fill_column(
    rng: np.random.Generator,
    assets: Assets,
    sheet: Sheet,
    body: Style,
    lang: str,
    area: tuple[float, float, float, float],
) -> None:
    """Fill a column (x, y of the first baseline, width, y of the last) with paragraphs, headings and figures."""
    x, y, width, bottom = area
    size, pitch = body.size, body.size * rng.uniform(1.2, 1.9)
    indent = 2 * size if rng.random() < 0.5 else 0.0
    while y < bottom and len(sheet.marks) < 130:
        kind = rng.random()
        if kind < 0.12 and bottom - y > 8 * size:
            tall = int(min(bottom - y - 2 * size, rng.uniform(5, 14) * size))
            _figure(rng, assets, sheet, x, y, int(width * rng.uniform(0.6, 1)), tall)
            y += tall + 2 * pitch
            continue
        if kind < 0.25:
            head = replace(body, face=assets.face(rng, lang, "sans"), size=int(size * rng.uniform(1.0, 1.3)))
            y += 0.5 * pitch
            write(sheet, x, y, assets.text.phrase(rng, lang, 3, 12), head)
            y += 1.2 * pitch
        text = assets.text.run(rng, lang, int(rng.integers(30, 420)))
        marker = str(rng.choice(["", "", "• ", "1. ", "（一）", "- "])) if kind > 0.7 else ""
        for i, line in enumerate(wrap(body.face, size, marker + text, width - indent, lang)):
            if y > bottom:
                break
            write(sheet, x + (indent if i == 0 else 0.0), y, line, body)
            y += pitch
        y += pitch * rng.uniform(0, 1)


def receipt(rng: np.random.Generator, assets: Assets) -> Sheet:
    """A till receipt: narrow, thin or faint print, names left, prices right, dashes, a bar code."""
    width = int(rng.integers(300, 560))
    lang = "zh" if rng.random() < 0.55 and "zh" in assets.fonts.languages else "en"
    size = int(width * rng.uniform(0.034, 0.052))
    face = assets.face(rng, lang, str(rng.choice(["mono", "sans", "any"])))
    pitch = size * rng.uniform(1.25, 1.7)
    goods = int(rng.integers(3, 18))
    height = int(pitch * (goods * 1.5 + 20) + 120)
    tone = grey(rng, 205, 255, 14)
    sheet = Sheet(
        backgrounds.mix(backgrounds.noise(rng, width, height, 3, 4), tone, tone - np.float32(rng.uniform(2, 30)))
    )
    ink = np.clip(tone - rng.uniform(55, 235), 0, 255).astype(np.float32)
    style = Style(face, size, ink, opacity=rng.uniform(0.7, 1))
    left, right, y = width * 0.06, width * 0.94, 2.5 * size
    for _ in range(int(rng.integers(1, 4))):
        head = replace(style, size=int(size * rng.choice([1.0, 1.3, 1.7])))
        text = face.fit(assets.text.phrase(rng, lang, 3, 9))
        write(sheet, (width - advance_px(face, head.size, text)) / 2, y, text, head)
        y += 1.4 * head.size
    for _ in range(int(rng.integers(2, 6))):
        label = f"{rng.choice(np.array(words.HEADS[lang]))}{rng.choice([':', '：', ': '])}"
        write(sheet, left, y, label + str(rng.choice(np.array([date(rng), token(rng), digits(rng, 6)]))), style)
        y += pitch
    y = _rule(rng, sheet, style, left, right, y, pitch)
    for _ in range(goods):
        name = assets.text.word(rng, lang, _GOODS)
        write(
            sheet,
            left,
            y,
            name if rng.random() < 0.6 else f"{name} {assets.text.phrase(rng, lang, 2, 5)}"[:18],
            style,
        )
        if rng.random() < 0.4:
            y += pitch
        amount = f"{10 ** rng.uniform(0, 2.6):.2f}"
        if rng.random() < 0.7:
            write(sheet, width * 0.55, y, f"{int(rng.integers(1, 9))}", style)
        write(sheet, right - advance_px(face, size, amount), y, amount, style)
        y += pitch
    y = _rule(rng, sheet, style, left, right, y, pitch)
    for _ in range(int(rng.integers(2, 6))):
        big = replace(style, size=int(size * rng.choice([1.0, 1.0, 1.4])))
        amount = face.fit(price(rng))
        write(sheet, left, y, str(rng.choice(np.array(words.HEADS[lang]))) + ":", big)
        write(sheet, right - advance_px(face, big.size, amount), y, amount, big)
        y += 1.4 * big.size
    write(sheet, left, y + pitch, assets.text.phrase(rng, lang, 4, 10), style)
    if rng.random() < 0.4 and y + 3 * pitch + 50 < height:
        bars = decoys.barcode(rng, int(width * 0.6), 46)
        lay(sheet, bars, np.array([[1, 0, width * 0.2], [0, 1, y + 2 * pitch], [0, 0, 1]], dtype=np.float64))
    keep = min(height, int(y + 4 * pitch + 50))
    return Sheet(np.ascontiguousarray(sheet.rgb[:keep]), None, tone, sheet.marks)


def _rule(
    rng: np.random.Generator, sheet: Sheet, style: Style, left: float, right: float, y: float, pitch: float
) -> float:
    colour = style.fill.tolist()
    at = int(y - 0.3 * style.size)
    if rng.random() < 0.5:
        for x in range(int(left), int(right), 8):
            cv2.line(sheet.rgb, (x, at), (x + 4, at), colour, 1)
    else:
        cv2.line(sheet.rgb, (int(left), at), (int(right), at), colour, int(rng.integers(1, 3)))
    return y + pitch
