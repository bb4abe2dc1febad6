"""Pictures to measure on: rendered, deterministic, all text our own and known.

Each picture comes as encoded bytes, as a client would send it, with the text and place of every line in it.
"""

from __future__ import annotations

import io
import math
import random
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

# First one found wins; any other font with simplified Chinese comes after them.
_SANS = ("NotoSansCJK-Regular", "NotoSansSC-Regular", "wqy-microhei", "DroidSansFallbackFull")
_SERIF = ("NotoSerifCJK-Regular", "NotoSerifSC-Regular", "uming", "gbsn00lp")
# Ink of a line stands this far (of the font size) inside the quad that is handed to recognisers.
_MARGIN = 0.12

_CHINESE = (
    "城市图书馆开放时间", "周一至周五上午九点到晚上八点", "儿童阅览室位于二楼东侧", "请保持安静，谢谢配合",
    "本季度设备检修计划已经下发", "各部门应当按照要求填写登记表", "仓库温度保持在十五到二十五度之间",
    "新鲜蔬菜每日清晨送达",
    "货物签收前请当面核对数量", "会议室预约须提前两个工作日", "电梯维护期间请走楼梯", "合同一式两份双方各执一份",
    "天气转凉注意添加衣物", "列车将于下午三点十五分进站", "项目进度比原定计划提前一周", "数据备份每天凌晨自动进行",
    "山间小路通往湖边的木屋", "他把旧相片夹在词典里", "春天的雨落在石板路上", "厨房里飘来米饭的香味",
)  # fmt: skip
_ENGLISH = (
    "Harbour ferry timetable", "Weekdays every twenty minutes", "Single ticket and day pass", "Bicycles travel free",
    "The committee met on Thursday", "Please keep this receipt", "Delivery within three working days",
    "Maintenance window starts at midnight", "Store below room temperature", "Return the form to the front desk",
    "Annual report and accounts", "All figures are provisional", "The old bridge was rebuilt in stone",
    "Quiet morning beside the river", "Printed on recycled paper", "Turn left after the railway station",
    "Gloves must be worn at all times", "Figures include value added tax", "Open the valve slowly",
    "No entry for lorries",
)  # fmt: skip
_GOODS = (
    "绿茶 500ml", "全麦面包", "鸡蛋 10枚", "洗衣液", "苹果 1.2kg", "Milk 1L", "Rye bread", "Olive oil", "Rice 5kg",
    "Coffee beans", "Notebook A5", "Batteries AA",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class KnownLine:
    """A line of text that was drawn: its text and its quad, clockwise from top-left, in pixels."""

    text: str
    quad: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """An encoded picture and what is written in it."""

    name: str
    data: bytes
    width: int
    height: int
    lines: tuple[KnownLine, ...]


def bench_pictures() -> list[Picture]:
    """Return the twelve pictures that contenders are compared on; the same bytes on every call on one machine."""
    return [
        document("document-chinese", (1240, 1754), 1, chinese=1.0),
        document("document-english", (1240, 1754), 2, chinese=0.0),
        document("document-mixed", (1240, 1754), 3, chinese=0.5, serif=True),
        document("scan-a4-300dpi", (2480, 3508), 4, chinese=0.5, quality=80, noise=9.0),
        _receipt("receipt-tall", (620, 1500), 5),
        _receipt("receipt-short", (560, 900), 6, noise=14.0),
        _screen("screenshot-dark", (1280, 800), 7),
        _screen("screenshot-dark-wide", (1920, 1080), 8),
        _sign("sign-landscape", (1600, 900), 9),
        _sign("sign-portrait", (900, 1200), 10),
        document("small", (640, 480), 11, chinese=0.5, rows=10),
        document("tilted", (1600, 1200), 12, chinese=0.5, rows=18, angle=6.0),
    ]


def random_pictures(count: int, seed: int, *, least: int = 300, most: int = 2600) -> list[Picture]:
    """Return pictures of random size, each with lines in proportion to its height.

    Args:
        count: How many.
        seed: Same seed, same pictures.
        least: Shortest side drawn, in pixels.
        most: Longest side drawn, in pixels.
    """
    chance = random.Random(seed)
    pictures = []
    for index in range(count):
        size = (chance.randint(least, most), chance.randint(least, most))
        rows = max(3, size[1] // chance.randint(40, 90))
        share = chance.random()
        pictures.append(document(f"random-{index:03d}", size, seed * 100_003 + index, chinese=share, rows=rows))
    return pictures


class _Sheet:
    """A page being written on; keeps account of what was drawn where."""

    def __init__(self, size: tuple[int, int], paper: str, ink: str) -> None:
        self.image = Image.new("RGB", size, paper)
        self.draw = ImageDraw.Draw(self.image)
        self.ink = ink
        self.lines: list[KnownLine] = []

    def write(self, x: float, y: float, text: str, size: int, *, ink: str | None = None, serif: bool = False) -> None:
        """Draw a line of text with its top-left corner at (x, y), cut to the width that is left."""
        font = load_font(size, serif=serif)
        room = self.image.width - x - size * 0.5
        while len(text) > 1 and font.getlength(text) > room:
            text = text[:-1]
        text = text.strip()
        self.draw.text((x, y), text, font=font, fill=ink or self.ink)
        x0, y0, x1, y1 = self.draw.textbbox((x, y), text, font=font)
        margin = _MARGIN * size
        x0, y0, x1, y1 = x0 - margin, y0 - margin, x1 + margin, y1 + margin
        self.lines.append(KnownLine(text, ((x0, y0), (x1, y0), (x1, y1), (x0, y1))))

    def encode(self, name: str, *, quality: int | None = None) -> Picture:
        """Encode as PNG, or as JPEG of a quality."""
        buffer = io.BytesIO()
        if quality is None:
            self.image.save(buffer, "PNG", compress_level=3)
        else:
            self.image.save(buffer, "JPEG", quality=quality)
        return Picture(name, buffer.getvalue(), *self.image.size, tuple(self.lines))

    def add_noise(self, sigma: float, seed: int) -> None:
        """Soften the print and add grain, as a scanner or a cheap camera does."""
        pixels = np.asarray(self.image.filter(ImageFilter.GaussianBlur(0.6)), np.float32)
        grain = np.random.default_rng(seed).normal(0.0, sigma, pixels.shape[:2])
        noisy = np.clip(pixels + grain[..., None], 0, 255).astype(np.uint8)
        self.image = Image.fromarray(noisy)

    def turn(self, degrees: float, paper: str) -> None:
        """Turn the whole sheet counter-clockwise, its size kept; lines that leave it stay in the account."""
        width, height = self.image.size
        self.image = self.image.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=paper)
        angle = math.radians(-degrees)
        cos, sin = math.cos(angle), math.sin(angle)

        def turned(point: tuple[float, float]) -> tuple[float, float]:
            x, y = point[0] - width / 2, point[1] - height / 2
            return (x * cos - y * sin + width / 2, x * sin + y * cos + height / 2)

        self.lines = [KnownLine(line.text, tuple(turned(point) for point in line.quad)) for line in self.lines]


def document(
    name: str,
    size: tuple[int, int],
    seed: int,
    *,
    chinese: float,
    rows: int = 40,
    serif: bool = False,
    quality: int | None = None,
    noise: float = 0.0,
    angle: float = 0.0,
) -> Picture:
    """A page of running text; most lines fill it, the last of a paragraph does not."""
    chance = random.Random(seed)
    paper = "#fbfaf5"
    sheet = _Sheet(size, paper, "#20242b")
    # A turned sheet needs room for its corners.
    left, top = (round(side * (0.06 if not angle else 0.12)) for side in size)
    step = (size[1] - 2 * top) / rows
    font_size = max(11, min(round(step * 0.62), 96))
    room = (size[0] - 2 * left) / font_size
    for row in range(rows):
        share = 1.0 if chance.random() < 0.75 else chance.uniform(0.25, 0.9)
        text = _sentence(chance, room * share, chinese=chance.random() < chinese)
        sheet.write(left, top + row * step, text, font_size, serif=serif)
    if angle:
        sheet.turn(angle, paper)
    if noise:
        sheet.add_noise(noise, seed)
    return sheet.encode(name, quality=quality)


def _receipt(name: str, size: tuple[int, int], seed: int, *, noise: float = 8.0) -> Picture:
    chance = random.Random(seed)
    sheet = _Sheet(size, "#f2f0ea", "#33302c")
    sheet.write(size[0] * 0.25, 30, "便民超市 Corner Shop", 36)
    y = 110.0
    while y < size[1] - 160:
        sheet.write(30, y, chance.choice(_GOODS), 26)
        sheet.write(size[0] * 0.55, y, f"x{chance.randint(1, 9)}", 26)
        sheet.write(size[0] * 0.76, y, f"{chance.uniform(1, 99):.2f}", 26)
        y += 46
    sheet.write(30, y + 20, "合计 Total", 32)
    sheet.write(size[0] * 0.7, y + 20, f"{chance.uniform(99, 999):.2f}", 32)
    sheet.write(30, y + 80, f"单号 {chance.randint(10**9, 10**10)}", 22)
    sheet.add_noise(noise, seed)
    return sheet.encode(name, quality=85)


def _screen(name: str, size: tuple[int, int], seed: int) -> Picture:
    """A dark window: a bar of short words on the left, lines of mixed length in several colours beside it."""
    chance = random.Random(seed)
    sheet = _Sheet(size, "#1e2128", "#d7dae0")
    sheet.draw.rectangle((0, 0, 220, size[1]), fill="#16181d")
    for row in range(size[1] // 44 - 1):
        words = chance.choice(_CHINESE)[:4] if row % 2 else chance.choice(_ENGLISH).split()[0]
        sheet.write(24, 24 + row * 44, words, 17, ink="#8f96a3")
    for row in range(size[1] // 30 - 1):
        ink = chance.choice(("#d7dae0", "#98c379", "#61afef", "#e5c07b"))
        text = _sentence(chance, chance.uniform(8, 44), chinese=chance.random() < 0.4)
        sheet.write(250 + 28 * chance.randint(0, 3), 20 + row * 30, text, 18, ink=ink)
    return sheet.encode(name)


def _sign(name: str, size: tuple[int, int], seed: int) -> Picture:
    chance = random.Random(seed)
    sheet = _Sheet(size, "#0b5d3b", "#fefefe")
    unit = min(size)
    rows = (
        (0.10, 0.16, "欢迎光临", "#fefefe"),
        (0.38, 0.13, "WELCOME", "#fefefe"),
        (0.64, 0.06, chance.choice(_CHINESE), "#ffd84d"),
        (0.80, 0.05, chance.choice(_ENGLISH), "#fefefe"),
    )
    for y, height, text, ink in rows:
        sheet.write(size[0] * 0.08, size[1] * y, text, round(unit * height), ink=ink)
    sheet.add_noise(5.0, seed)
    return sheet.encode(name, quality=90)


def _sentence(chance: random.Random, ems: float, *, chinese: bool) -> str:
    """Words of one language, and now and then a number, about so many font sizes long."""
    words: list[str] = []
    length = 0.0
    while length < ems:
        if chance.random() < 0.2:
            word = f"{chance.uniform(1, 9999):.2f}" if chance.random() < 0.5 else str(chance.randint(1990, 2035))
        else:
            word = chance.choice(_CHINESE if chinese else _ENGLISH)
        words.append(word)
        length += len(word) if chinese else len(word) * 0.52
    text = ("，" if chinese else ", ").join(words)
    return text[: max(2, round(ems if chinese else ems / 0.52))]


@cache
def load_font(size: int, *, serif: bool = False) -> ImageFont.FreeTypeFont:
    """Return a font with simplified Chinese and Latin letters.

    Raises:
        SystemExit: The machine has none.
    """
    files = _fonts()
    for wanted in _SERIF if serif else _SANS:
        for file in files:
            if file.stem == wanted:
                return ImageFont.truetype(file, size)
    return ImageFont.truetype(files[0], size)


@cache
def _fonts() -> tuple[Path, ...]:
    try:
        command = ["fc-list", ":lang=zh-cn", "--format", "%{file}\n"]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"fc-list cannot be asked for fonts ({error}); apt-get install fontconfig") from None
    found = sorted({Path(line) for line in listed.splitlines() if line.strip()})
    if not found:
        raise SystemExit("no font with Chinese characters is installed; apt-get install fonts-noto-cjk")
    return tuple(found)


def font_names() -> list[str]:
    """Return the files that the pictures are drawn with, for the record."""
    return sorted({str(load_font(20, serif=serif).path) for serif in (False, True)})
