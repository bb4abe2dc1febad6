"""What the web page adds to the API: upload to boxes on screen, and a slider's move to its repaint.

Measured in a real browser, by the browser's own clock, on a page of fifty lines: ``python -m bench.page``. Exits 1 when
a median passes what is promised, or when the page did not show fifty lines.
"""

from __future__ import annotations

import argparse
import base64
import io
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Page, sync_playwright

from bench.chromium import find_chromium

LINES = 50
# What is promised, as medians: upload to boxes beyond the API's own time, a slider's move to its repaint.
_MOST_MS = {"added_ms": 150, "slider_ms": 70}
_WORDS = [
    "steady",
    "service",
    "reads",
    "every",
    "line",
    "of",
    "this",
    "page",
    "without",
    "a",
    "pause",
    "and",
    "without",
    "a",
    "fault",
]
_READ = """async (data) => {
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    const file = new File([bytes], 'page.png', { type: 'image/png' });
    const input = document.querySelector('#panel-single input[data-role=files]');
    const panel = document.querySelector('#panel-single');
    const transfer = new DataTransfer();
    transfer.items.add(file);
    performance.clearResourceTimings();
    const begun = performance.now();
    input.files = transfer.files;
    input.dispatchEvent(new Event('change'));
    await new Promise((resolve) => {
        const watch = new MutationObserver(() => panel.dataset.state === 'done' && resolve());
        watch.observe(panel, { attributes: true });
    });
    await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
    const shown = performance.now() - begun;
    const call = performance.getEntriesByType('resource').find((one) => one.name.includes('v1/ocr?'));
    return [shown, call.responseEnd - call.startTime];
}"""
_TURN = """async (value) => {
    const slider = document.querySelector('#knob-unclip_ratio');
    const quads = document.querySelector('#panel-single .quads');
    const begun = performance.now();
    slider.value = value;
    const painted = new Promise((resolve) => {
        const watch = new MutationObserver(() => { watch.disconnect(); resolve(); });
        watch.observe(quads, { childList: true });
    });
    slider.dispatchEvent(new Event('input', { bubbles: true }));
    await painted;
    await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
    return performance.now() - begun;
}"""


def draw_page() -> bytes:
    """Draw a page of fifty lines; a PNG file."""
    image = Image.new("RGB", (1000, 1400), "white")
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=18)
    for number in range(LINES):
        words = " ".join(_WORDS[(number + step) % len(_WORDS)] for step in range(9))
        pen.text((60, 30 + number * 27), f"{number + 1}. {words}", "black", font)
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def measure(page: Page, rounds: int) -> dict[str, Any]:
    """Read the page again and again, then move a slider as often."""
    data = base64.b64encode(draw_page()).decode()
    reads = [page.evaluate(_READ, data) for _ in range(rounds + 1)][1:]
    turns = [page.evaluate(_TURN, 1.0 + 0.05 * (step % 20)) for step in range(3 * rounds)]
    added = [shown - api for shown, api in reads]
    return {
        "lines": page.locator("#panel-single .lines li").count(),
        "api_ms": round(statistics.median(api for _, api in reads)),
        "added_ms": round(statistics.median(added)),
        "added_worst_ms": round(max(added)),
        "slider_ms": round(statistics.median(turns)),
        "slider_worst_ms": round(max(turns)),
    }


def broken_promises(figures: Mapping[str, Any]) -> Iterator[str]:
    """Yield what these figures do not keep."""
    if figures["lines"] != LINES:
        yield f"{figures['lines']} lines were shown, {LINES} are drawn"
    for name, most in _MOST_MS.items():
        if figures[name] >= most:
            yield f"{name} is {figures[name]}, less than {most} is promised"


def main() -> int:
    """Measure against a server of our own, or one that runs already."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="a server that runs already")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url, server = (arguments.url, None) if arguments.url else _serve(Path(folder))
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
                page = browser.new_page()
                page.goto(f"{url}/")
                page.locator(".pill.ready").wait_for()
                figures = measure(page, arguments.rounds)
                browser.close()
        finally:
            if server is not None:
                server.terminate()
                server.wait(20)
    for name, value in figures.items():
        print(f"{name:16} {value}")
    broken = list(broken_promises(figures))
    for promise in broken:
        print(f"not kept: {promise}")
    return 1 if broken else 0


def _serve(folder: Path) -> tuple[str, subprocess.Popen[str]]:
    program = str(Path(sys.executable).with_name("steadyocr"))
    environment = {"PATH": "/usr/bin:/bin", "STEADYOCR_DATA_DIR": str(folder), "STEADYOCR_LOGGING__FORMAT": "console"}
    server = subprocess.Popen(
        [program, "serve", "--port", "0"], env=environment, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
    )
    assert server.stderr is not None
    for line in server.stderr:
        if "Ready" in line and "url=" in line:
            return line.rpartition("url=")[2].split()[0], server
    raise SystemExit("the server did not start")


if __name__ == "__main__":
    raise SystemExit(main())
