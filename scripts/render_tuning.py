"""Render the pictures that ``steadyocr doctor --tune`` measures with. Needs a CJK font; run by hand when they change.

All text is ours. Sixteen greys keep them small; the decoder makes ordinary pictures of them.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

FOLDER = Path(__file__).parent.parent / "src/steadyocr/models/tuning"
SANS = "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc"

SENTENCES = (
    "本机用这页文字测量识别速度，内容没有别的用途。",
    "The quick check reads this page several times.",
    "线程、进程与边长的组合会逐一试过。",
    "Measured results are kept beside the settings.",
    "内存峰值和等待时间都要符合给定的上限。",
    "Numbers such as 128.50 and 2026-11-24 occur as well.",
)


def page(size: tuple[int, int], lines: int, height: int) -> Image.Image:
    """Draw evenly spaced lines of dark text on light paper."""
    image = Image.new("L", size, 246)
    draw = ImageDraw.Draw(image)
    font = ImageFont.truetype(SANS, height)
    margin = size[0] // 14
    step = (size[1] - 2 * margin) / lines
    for number in range(lines):
        text = f"{number + 1:02d}  {SENTENCES[number % len(SENTENCES)]}"
        while draw.textlength(text, font=font) > size[0] - 2 * margin:
            text = text[:-1]
        draw.text((margin, margin + number * step), text, font=font, fill=24)
    return image.quantize(16)


def main() -> None:
    """Write all pictures."""
    FOLDER.mkdir(exist_ok=True)
    page((1240, 1754), 20, 30).save(FOLDER / "page.png", optimize=True)
    page((1600, 900), 10, 32).save(FOLDER / "screen.png", optimize=True)
    page((600, 800), 8, 28).save(FOLDER / "receipt.png", optimize=True)


if __name__ == "__main__":
    main()
