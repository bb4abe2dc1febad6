"""Render the golden picture and the test pictures. Needs a CJK font; run by hand when they are to change.

All text is ours. The pictures are committed, so tests and readiness need no font on the machine.
"""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "src/steadyocr/models/golden"
FIXTURES = ROOT / "tests/fixtures"
SANS = "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc"
SERIF = "/usr/share/fonts/opentype/noto/NotoSerifCJK-Regular.ttc"

Line = tuple[int, int, int, str]  # x, y, size, text


def render(
    size: tuple[int, int], lines: list[Line], font: str, ink: str, paper: str, angle: float = 0.0
) -> Image.Image:
    """Draw lines of text."""
    image = Image.new("RGB", size, paper)
    draw = ImageDraw.Draw(image)
    for x, y, height, text in lines:
        draw.text((x, y), text, font=ImageFont.truetype(font, height), fill=ink)
    return image.rotate(angle, Image.Resampling.BICUBIC, expand=True, fillcolor=paper) if angle else image


def quads(size: tuple[int, int], lines: list[Line], font: str) -> list[dict[str, object]]:
    """Ink boxes of the lines, as quads."""
    draw = ImageDraw.Draw(Image.new("RGB", size))
    found = []
    for x, y, height, text in lines:
        x0, y0, x1, y1 = draw.textbbox((x, y), text, font=ImageFont.truetype(font, height))
        found.append({"text": text, "quad": [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]})
    return found


def main() -> None:
    """Write all pictures."""
    golden: list[Line] = [
        (32, 24, 30, "稳定的文字识别服务"),
        (32, 84, 28, "Steady OCR 2026"),
        (32, 140, 26, "合计128.50元"),
    ]
    size = (384, 192)
    render(size, golden, SANS, "#101828", "#f7f5ef").save(GOLDEN / "golden.png", optimize=True)
    text = json.dumps(quads(size, golden, SANS), ensure_ascii=False, indent=1)
    (GOLDEN / "golden.json").write_text(text + "\n", encoding="utf-8")

    chinese: list[Line] = [
        (60, 50, 44, "城市图书馆开放时间"),
        (60, 140, 30, "周一至周五上午九点到晚上八点"),
        (60, 200, 30, "周末及节假日上午十点到下午六点"),
        (60, 260, 30, "儿童阅览室位于二楼东侧"),
        (60, 340, 26, "请保持安静，谢谢配合。"),
    ]
    english: list[Line] = [
        (60, 50, 44, "Harbour Ferry Timetable"),
        (60, 140, 30, "Weekdays: every 20 minutes from 6:30"),
        (60, 200, 30, "Weekends: every 45 minutes from 8:00"),
        (60, 260, 30, "Single ticket 4.20, day pass 11.00"),
        (60, 340, 26, "Bicycles travel free of charge."),
    ]
    for name, lines, font in (("chinese", chinese, SERIF), ("english", english, SANS)):
        image = render((720, 420), lines, font, "#1b1b1b", "#fdfcf8")
        image.save(FIXTURES / f"{name}.png", optimize=True)
        known = json.dumps(quads((720, 420), lines, font), ensure_ascii=False, indent=1)
        (FIXTURES / f"{name}.json").write_text(known + "\n", encoding="utf-8")
    render((720, 420), english, SANS, "#e8e8e8", "#1d2330", angle=10).save(FIXTURES / "tilted.png", optimize=True)


if __name__ == "__main__":
    main()
