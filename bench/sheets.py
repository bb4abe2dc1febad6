"""Thousands of pictures of random shape, cheap to make: crops of rendered sheets, in all formats that are read."""

from __future__ import annotations

import io
import itertools
import queue
import random
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from bench.pictures import load_font

_SHEET_SIDE = 4000
_SHEETS = 3
_SMALL_SIDES = (300, 480, 660, 840, 1020, 1240)
# Sides of a network's input, for pictures from 300 pixels up that are shrunk to 1280.
_INPUT_SIDES = range(320, 1281, 32)
# More than a recogniser takes as one line without squeezing it.
_LONGEST_LINE = 90
_LETTER_SIDE = 20
_TEXTS = (
    "城市图书馆开放时间 上午九点到晚上八点",
    "Harbour ferry timetable, weekdays",
    "合同一式两份 1234.50",
    "Quiet morning beside the river",
)
# Encoder settings by format; the share of each in the mix. JPEG and PNG are what people send.
_FORMATS: tuple[tuple[str, float, dict[str, int | str | bool]], ...] = (
    ("JPEG", 0.45, {"quality": 85}),
    ("PNG", 0.30, {"compress_level": 1}),
    ("WEBP", 0.10, {"quality": 80, "method": 0}),
    ("TIFF", 0.05, {"compression": "raw"}),
    ("BMP", 0.05, {}),
    ("GIF", 0.05, {}),
)
_MODES = (("RGB", 0.75), ("L", 0.20), ("RGBA", 0.05))
_WITH_ALPHA = frozenset({"PNG", "WEBP", "TIFF"})


@dataclass(frozen=True, slots=True)
class Shape:
    """One picture: encoded bytes, size in pixels, format, mode."""

    data: bytes
    width: int
    height: int
    format: str
    mode: str


def random_shapes(
    count: int, seed: int, *, least: int = 300, most: int = 4000, max_bytes: int = 32 << 20
) -> Iterator[Shape]:
    """Yield pictures one by one; the same seed gives the same pictures.

    Args:
        count: How many.
        seed: Of the choices.
        least: Shortest side, in pixels.
        most: Longest side, at most 4000 pixels.
        max_bytes: Formats without compression are replaced by JPEG above this.
    """
    chance = random.Random(seed)
    sheets = _sheets(seed)
    for _ in range(count):
        size = (chance.randint(least, most), chance.randint(least, most))
        crop = _crop(chance, sheets, size)
        kind, _, options = chance.choices(_FORMATS, [share for _, share, _ in _FORMATS])[0]
        mode = chance.choices([name for name, _ in _MODES], [share for _, share in _MODES])[0]
        if mode == "RGBA" and kind not in _WITH_ALPHA:
            mode = "RGB"
        if kind in ("BMP", "TIFF") and size[0] * size[1] * 4 > max_bytes:
            kind, options, mode = "JPEG", {"quality": 85}, "RGB"
        stream = io.BytesIO()
        crop.convert(mode).save(stream, kind, **options)
        yield Shape(stream.getvalue(), *size, kind.lower(), mode)


def kinds_of_shape(seed: int) -> Iterator[Shape]:
    """Yield a picture of each kind, JPEG: each input shape of a detector that reads at 1280, and lines of each length.

    An inference library lays weights out anew for some shapes and keeps both (2 MiB for 480 x 896 alone), and for each
    of a recogniser's widths it keeps kernels. It is warm when it has met them all, and at random that takes thousands
    of pictures. Large pictures have text; those for shapes alone are blank, as they cost no reading.
    """
    chance = random.Random(seed)
    sheets = _sheets(seed)
    shrunk = [size for step in range(3, 41) for size in ((2560, 64 * step), (64 * step, 2560))]
    crops = (_crop(chance, sheets, size) for size in (*shrunk, *itertools.product(_SMALL_SIDES, _SMALL_SIDES)))
    # One by one: all of them at once are a gigabyte.
    blank = (Image.new("RGB", size, "#fbfaf5") for size in itertools.product(_INPUT_SIDES, _INPUT_SIDES))
    for picture in itertools.chain(crops, map(_line, range(1, _LONGEST_LINE + 1)), blank):
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=85)
        yield Shape(stream.getvalue(), *picture.size, "jpeg", "RGB")


def _line(letters: int) -> Image.Image:
    """One line of so many letters, each as wide as high."""
    font = load_font(_LETTER_SIDE)
    text = "".join(itertools.islice(itertools.cycle("城市图书馆开放时间上午九点到晚上八"), letters))
    picture = Image.new("RGB", (round(font.getlength(text)) + 2 * _LETTER_SIDE, 4 * _LETTER_SIDE), "#fbfaf5")
    ImageDraw.Draw(picture).text((_LETTER_SIDE, 1.5 * _LETTER_SIDE), text, font=font, fill="#20242b")
    return picture


def _crop(chance: random.Random, sheets: Sequence[Image.Image], size: tuple[int, int]) -> Image.Image:
    x, y = (chance.randint(0, _SHEET_SIDE - side) for side in size)
    return chance.choice(sheets).crop((x, y, x + size[0], y + size[1]))


def _sheets(seed: int) -> list[Image.Image]:
    return [_sheet(random.Random(seed + index)) for index in range(_SHEETS)]


def made_ahead(shapes: Iterator[Shape], depth: int = 2) -> Iterator[Shape]:
    """Yield the same, made in a thread of its own while the caller works; ``depth`` wait at most."""
    waiting: queue.Queue[Shape | None] = queue.Queue(depth)

    def make() -> None:
        try:
            for shape in shapes:
                waiting.put(shape)
        finally:
            waiting.put(None)

    threading.Thread(target=make, name="sheet-maker", daemon=True).start()
    while (shape := waiting.get()) is not None:
        yield shape


def _sheet(chance: random.Random) -> Image.Image:
    """Scattered text in several sizes on a light ground: enough to read, and not so much that all is reading."""
    sheet = Image.new("RGB", (_SHEET_SIDE, _SHEET_SIDE), chance.choice(("#fbfaf5", "#ffffff", "#e8edf2")))
    draw = ImageDraw.Draw(sheet)
    y = 20
    while y < _SHEET_SIDE:
        size = chance.choice((36, 48, 64, 90))
        x = chance.randint(0, 300)
        while x < _SHEET_SIDE:
            text = chance.choice(_TEXTS)
            draw.text((x, y), text, font=load_font(size), fill="#20242b")
            x += round(draw.textlength(text, font=load_font(size))) + chance.randint(200, 900)
        y += round(size * chance.uniform(4.0, 9.0))
    return sheet
