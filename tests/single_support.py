"""What the tests of the first tab do on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Download, Page, Request, Route

from support import FIXTURES

ENGLISH = FIXTURES / "english.png"

DONE = "#panel-single[data-state=done]"


def read(page: Page, file: Path | dict[str, Any] = ENGLISH) -> None:
    """Choose a file and wait for its text."""
    page.locator("#panel-single input[data-role=files]").set_input_files(file)  # type: ignore[arg-type]
    page.locator(DONE).wait_for()


def as_file(name: str, data: bytes, kind: str = "image/png") -> dict[str, Any]:
    return {"name": name, "mimeType": kind, "buffer": data}


def lines_of(page: Page) -> list[str]:
    return page.locator("#panel-single .lines .text").all_text_contents()


def download(page: Page, entry: str) -> Download:
    page.get_by_role("button", name="Download").click()
    with page.expect_download() as waiting:
        page.get_by_role("menuitem", name=entry).click()
    return waiting.value


def content(got: Download) -> bytes:
    return Path(got.path()).read_bytes()


def set_slider(page: Page, name: str, value: float, *, final: bool = True) -> None:
    slider = page.locator(f"#knob-{name}")
    slider.evaluate(
        """(slider, [value, final]) => {
            slider.value = value;
            slider.dispatchEvent(new Event('input', { bubbles: true }));
            if (final) slider.dispatchEvent(new Event('change', { bubbles: true }));
        }""",
        [value, final],
    )


def held(page: Page, path: str, *, when: Callable[[Request], bool] = lambda _: True) -> list[Route]:
    """Hold the answer to the first such request; returns where it is found once it is there."""
    waiting: list[Route] = []
    page.route(path, lambda route: route.fallback() if waiting or not when(route.request) else waiting.append(route))
    return waiting


def wait_for(page: Page, waiting: list[Route]) -> Route:
    while not waiting:  # the test's own time limit bounds this
        page.wait_for_timeout(20)
    return waiting[0]
