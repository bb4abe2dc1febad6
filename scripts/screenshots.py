"""Take the pictures of the web page that the documentation shows: ``python -m scripts.screenshots [FOLDER]``.

They show a server of their own with an empty data folder, for each view. Everything on them is drawn: the page's own
example, notices made here, and a scripted laboratory; sizes and parity there are those of a real export,
curves and data sets are made up.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Browser, FilePayload, Page, sync_playwright

from bench.chromium import find_chromium

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from fake_lab import FakeLab  # noqa: E402 - found by the line before
from support import running_server  # noqa: E402

VIEWS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1360, "height": 850}, "locale": "en-GB", "color_scheme": "light"},
    "dark": {"viewport": {"width": 1360, "height": 850}, "locale": "zh-CN", "color_scheme": "dark"},
    "phone": {
        "viewport": {"width": 390, "height": 844},
        "locale": "zh-CN",
        "color_scheme": "light",
        "is_mobile": True,
        "has_touch": True,
    },
}
# So many rounds of the notices last long enough to be seen in the middle, with a time that is left.
_ROUNDS = 12
_NOTICES = {
    "notice-library": ["城市图书馆", "开放时间：周二至周日 9:00 – 21:00", "Closed on Mondays", "请保持安静"],
    "ticket-0417": ["杭州东 → 上海虹桥", "G7356   2026-11-24 18:20", "Coach 05  Seat 12F", "¥ 73.00"],
    "menu-autumn": ["秋季菜单 Autumn menu", "桂花糯米藕  ¥ 28", "Braised pork belly  ¥ 56", "清炒时蔬  ¥ 22"],
    "label-parcel": ["SF 1423 8871 0056", "收件人：林小雨", "To: 18 Garden Road, Floor 3", "Fragile 易碎"],
    "poster-concert": ["城市之声音乐会", "Voices of the City", "12 月 5 日 19:30", "入场免费 Free entry"],
}


def draw(lines: list[str]) -> bytes:
    """Draw a notice; a PNG file."""
    image = Image.new("RGB", (720, 480), "#f7f3ea")
    pen = ImageDraw.Draw(image)
    pen.rectangle((24, 24, 696, 456), outline="#b9b0a0", width=2)
    font = next(Path("/usr/share/fonts").rglob("NotoSansCJK-Regular.ttc"))
    for number, line in enumerate(lines):
        face = ImageFont.truetype(str(font), 44 if number == 0 else 30)
        pen.text((64, 70 + number * 92), line, "#2c2822", face)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def take(browser: Browser, url: str, view: str, folder: Path) -> None:
    """Walk through the tabs in one view."""
    context = browser.new_context(**VIEWS[view], reduced_motion="reduce")
    page = context.new_page()
    lab = FakeLab()
    lab.patience = 3
    lab.attach(page)

    def shoot(name: str) -> None:
        path = folder / f"{name}-{view}.png"
        page.screenshot(path=path)
        # In all its colours: with fewer, what is small (a dot that says "ready") takes the colour of its surroundings.
        Image.open(path).convert("RGB").save(path, optimize=True)

    page.goto(f"{url}/")
    page.locator(".pill.ready").wait_for()
    shoot("start")
    _single(page, view)
    shoot("single")
    page.locator("#panel-single [aria-haspopup=menu]").click()
    page.locator(".menu:popover-open").wait_for()
    shoot("download")
    page.keyboard.press("Escape")
    _batch(page)
    shoot("batch")
    page.locator("#tab-tune").click()
    page.locator("#panel-tune button[type=submit]:enabled").click()
    page.locator("#panel-tune[data-run=finished]").wait_for()
    if view == "phone":
        page.locator(".run").scroll_into_view_if_needed()
        page.locator("so-chart").last.scroll_into_view_if_needed()
    shoot("tune")
    page.locator("#tab-export").click()
    lab.patience = 1
    for chosen in (0, 1):
        page.locator("#panel-export .field").nth(2).get_by_role("button").nth(chosen).click()
        page.locator("#panel-export button[type=submit]").click()
        page.locator(".export-card .figures").nth(chosen).wait_for()
    page.evaluate("scrollTo(0, 0)")
    shoot("export")
    page.locator("#history-button").click()
    page.locator(".drawer .entry img").first.wait_for()
    shoot("history")
    context.close()


def _single(page: Page, view: str) -> None:
    page.locator("#panel-single .quiet").click()
    page.locator("#panel-single[data-state=done]").wait_for()
    if view != "phone":
        page.locator(".lines .line").nth(5).click()
        page.locator("#panel-single .toolbar button").last.click()


def _batch(page: Page) -> None:
    page.locator("#tab-batch").click()
    files: list[FilePayload] = [
        {"name": f"{name}-{number:02}.png", "mimeType": "image/png", "buffer": draw(text)}
        for number in range(1, _ROUNDS + 1)
        for name, text in _NOTICES.items()
    ]
    files.insert(3, {"name": "scan-broken.png", "mimeType": "image/png", "buffer": b"no picture"})
    page.locator("#panel-batch input[data-role=files]").set_input_files(files)
    page.locator(".job p", has_text=re.compile("left|约剩")).wait_for()
    page.locator(".items .badge.done").nth(6).wait_for()
    page.locator("#toasts:empty").wait_for(state="attached")


def main() -> None:
    """Take them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "docs" / "screenshots")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        for view in VIEWS:
            with tempfile.TemporaryDirectory() as data, running_server(Path(data), engines__count="1") as server:
                take(browser, server.url, view, arguments.folder)
        browser.close()


if __name__ == "__main__":
    main()
