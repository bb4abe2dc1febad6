"""What holds for the page as a whole: weight, languages, themes, keys, the pill."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from browser_support import OpenPage, Watched, needs_chromium, read_one
from fake_lab import FakeLab
from support import RunningServer, running_server

pytestmark = needs_chromium

MAX_FIRST_REQUESTS = 30
MAX_FIRST_BYTES = 60_000
KEY = "open-sesame"
HAN = re.compile(r"[\u4e00-\u9fff]")


def test_the_first_visit_is_light(open_page: OpenPage, watched: list[Watched]) -> None:
    page = open_page()
    expect(page.locator(".pill.ready")).to_be_visible()
    assert len(watched[0].requests) <= MAX_FIRST_REQUESTS
    sizes = page.evaluate("performance.getEntriesByType('resource').map((one) => one.encodedBodySize)")
    assert 10_000 < sum(sizes) < MAX_FIRST_BYTES


def test_a_second_visit_asks_but_does_not_load(open_page: OpenPage) -> None:
    page = open_page()
    page.reload()
    page.locator("html[data-ready]").wait_for()
    moved = page.evaluate(
        "performance.getEntriesByType('resource').filter((one) => one.name.includes('/ui/'))"
        ".map((one) => [one.transferSize, one.encodedBodySize])"
    )
    # 304: headers travel, bodies do not.
    assert moved
    assert all(travelled < 1000 for travelled, _ in moved), moved


def test_the_page_speaks_the_browsers_language_and_changes_it(open_page: OpenPage) -> None:
    page = open_page(locale="zh-CN")
    assert page.locator("html").get_attribute("lang") == "zh-CN"
    expect(page.get_by_role("tab", name="批量识别")).to_be_visible()
    read_one(page)
    page.locator("#language-button").click()
    expect(page.get_by_role("tab", name="Batch")).to_be_visible()
    page.reload()
    expect(page.get_by_role("tab", name="Batch")).to_be_visible()
    assert page.locator("html").get_attribute("lang") == "en"


def test_nothing_stays_behind_in_the_other_language(open_page: OpenPage) -> None:
    page = open_page(locale="zh-CN")
    FakeLab().attach(page)
    read_one(page)
    for tab in ("batch", "tune", "export", "single"):
        page.locator(f"#tab-{tab}").click()
        expect(page.locator(f"#panel-{tab} h2:visible").first).to_be_visible()
    page.locator("#language-button").click()
    expect(page.get_by_role("tab", name="Batch")).to_be_visible()
    said = page.evaluate(
        """() => [...document.querySelectorAll('[data-said]')].flatMap((one) =>
            [one.children.length ? '' : one.textContent, one.getAttribute('aria-label'), one.title]).filter(Boolean)"""
    )
    left = [text for text in said if HAN.search(text) and text not in ("切换到中文", "中")]
    assert left == []


def test_the_theme_follows_the_system_and_then_the_button(open_page: OpenPage) -> None:
    page = open_page(dark=True)
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    page.locator("#theme-button").click()
    light = page.evaluate(background)
    assert dark != light
    page.reload()
    assert page.evaluate(background) == light


def test_a_wide_screen_is_used(open_page: OpenPage) -> None:
    page = open_page(size={"width": 3840, "height": 2160})
    read_one(page)
    box = page.locator("#panel-single so-viewer").bounding_box()
    assert box is not None
    assert box["width"] > 2400
    assert box["height"] > 1800
    assert page.evaluate("parseFloat(getComputedStyle(document.documentElement).fontSize)") > 18


def test_tabs_are_tabs(open_page: OpenPage) -> None:
    page = open_page()
    FakeLab().attach(page)
    page.locator("#tab-single").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tab-batch")).to_be_focused()
    expect(page.locator("#panel-batch")).to_be_visible()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#tab-export")).to_have_attribute("aria-selected", "true")
    page.go_back()
    expect(page.locator("#panel-single")).to_be_visible()


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("locked"), auth__api_keys=KEY, engines__count="1") as running:
        yield running


def test_a_key_is_asked_for_and_stays_in_the_tab(open_page: OpenPage, locked: RunningServer) -> None:
    page = open_page(base=locked.url)
    field = page.get_by_label("Key", exact=True)
    field.fill(KEY)
    page.get_by_role("button", name="Use this key").click()
    expect(page.locator(".pill.ready")).to_be_visible()
    read_one(page)
    page.get_by_role("button", name="Heat map").click()
    expect(page.locator("canvas.heat")).to_be_visible()
    stored = page.evaluate("[JSON.stringify(localStorage), document.cookie, location.href].join()")
    assert KEY not in stored
    page.reload()
    expect(page.locator(".pill.ready")).to_be_visible()
    other = page.context.browser.new_context().new_page()  # type: ignore[union-attr]
    other.goto(f"{locked.url}/")
    expect(other.locator(".pill.locked")).to_be_visible()
    other.context.close()


def test_the_pill_tells_the_truth(open_page: OpenPage) -> None:
    page = open_page()
    expect(page.locator(".pill.ready")).to_be_visible()
    page.locator(".pill").click()
    expect(page.locator(".health")).to_contain_text("pp-ocrv6-small-rec")
    page.keyboard.press("Escape")
    page.route("**/readyz", lambda route: route.fulfill(status=503, body="shutting down\n"))
    expect(page.locator(".pill.stopping")).to_be_visible(timeout=15_000)
