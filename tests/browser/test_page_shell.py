"""What holds for the page as a whole: weight, languages, themes, accessibility, keys, prefixes, many tabs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from browser_support import DESKTOP, PHONE, OpenPage, RunningJob, Watched, by_name, needs_chromium
from fake_lab import FakeLab
from prefix_proxy import prefix_proxy
from support import FIXTURES, RunningServer, running_server

pytestmark = needs_chromium

MAX_FIRST_REQUESTS = 30
MAX_FIRST_BYTES = 60_000
KEY = "open-sesame"
HAN = re.compile(r"[\u4e00-\u9fff]")


def read_one(page: Page, name: str = "english.png") -> None:
    page.locator("#panel-single input[data-role=files]").set_input_files(FIXTURES / name)
    page.locator("#panel-single[data-state=done]").wait_for()


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


LOOKS = pytest.mark.parametrize(
    ("size", "dark"), [(DESKTOP, False), (DESKTOP, True), (PHONE, False), (PHONE, True)], ids=str
)
AxeRun = Callable[[Page], list[str]]


@LOOKS
def test_axe_finds_nothing_in_readings(open_page: OpenPage, axe: AxeRun, size: dict[str, int], dark: bool) -> None:
    page = open_page(size=size, dark=dark)
    expect(page.locator(".pill.ready")).to_be_visible()
    assert axe(page) == []
    wrong = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"this is no picture at all"}
    page.locator("#panel-single input[data-role=files]").set_input_files(wrong)  # type: ignore[arg-type]
    page.get_by_role("alert").wait_for()
    assert axe(page) == []
    read_one(page)
    page.locator(".lines .line").first.focus()
    page.locator(".adjust").evaluate("(details) => { details.open = true; }")
    assert axe(page) == []
    page.get_by_role("button", name="Download").click()
    page.get_by_role("menuitem").first.wait_for()
    assert axe(page) == []
    page.keyboard.press("Escape")
    page.locator(".pill").click()
    expect(page.locator(".health .fact").first).to_be_visible()
    assert axe(page) == []
    page.keyboard.press("Escape")
    page.locator("#history-button").click()
    page.locator(".drawer .entry").first.wait_for()
    assert axe(page) == []
    page.locator(".drawer .entry").first.click()
    page.locator("dialog.reader .lines .line").first.wait_for()
    assert axe(page) == []


@LOOKS
def test_axe_finds_nothing_in_batch_and_laboratory(
    open_page: OpenPage, axe: AxeRun, running_job: RunningJob, size: dict[str, int], dark: bool
) -> None:
    page = open_page("#batch", size=size, dark=dark)
    FakeLab().attach(page)
    page.locator("#panel-batch .card").first.wait_for()
    assert axe(page) == []
    page.locator("#panel-batch .card").first.click()
    page.locator("#panel-batch[data-job=open] .items tbody tr").first.wait_for()
    assert axe(page) == []
    page.locator("#tab-tune").click()
    page.locator(".report .note").wait_for()
    page.locator("#panel-tune button[type=submit]").click()
    page.locator("#panel-tune[data-run=finished]").wait_for()
    assert axe(page) == []
    page.locator("#tab-export").click()
    page.get_by_role("button", name="fixed").click()
    page.locator("#panel-export button[type=submit]").click()
    page.locator("#panel-export .figures").wait_for()
    assert axe(page) == []


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


@pytest.mark.parametrize("name", ["127.0.0.1", "ocr.lan"])
def test_eight_tabs_at_once(open_page: OpenPage, server: RunningServer, running_job: RunningJob, name: str) -> None:
    """All of them work: none holds a connection that another one needs (browsers give six to a server)."""
    place = f"#batch/{running_job.id}"
    base = server.url.replace("127.0.0.1", name)
    first = open_page(place, base=base)
    assert first.evaluate("'locks' in navigator") == (name == "127.0.0.1")
    pages = [first]
    for _ in range(7):
        page = first.context.new_page()
        page.goto(f"{base}/{place}")
        pages.append(page)
    for page in pages:
        page.locator(".items tbody tr").first.wait_for()
        expect(page.locator("#panel-batch[data-job=open]")).to_be_visible()
        expect(page.locator(".pill.ready")).to_be_visible()
    # And each of them learns of what happens.
    running_job.end()
    for page in pages:
        expect(page.locator("#panel-batch[data-job=ended]")).to_be_visible()


def test_under_a_prefix_behind_a_proxy(open_page: OpenPage, server: RunningServer) -> None:
    with prefix_proxy(server.url, "/tools/ocr") as base:
        page = open_page(base=base)
        read_one(page)
        page.locator("#language-button").click()
        expect(page.get_by_role("tab", name="批量识别")).to_be_visible()


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


def test_history_brings_a_reading_back(open_page: OpenPage) -> None:
    page = open_page()
    read_one(page, "chinese.png")
    known = page.locator("#panel-single .lines .text").all_text_contents()
    page.reload()
    page.locator("#history-button").click()
    page.locator(".drawer .entry").first.click()
    reader = page.locator("dialog.reader")
    expect(reader.locator(".sheet img")).to_be_visible()
    assert reader.locator(".lines .text").all_text_contents() == known
    reader.get_by_role("button", name="Close").click()
    expect(reader).to_have_count(0)
    drawer = page.locator(".drawer")
    expect(drawer).to_contain_text("Seen by everybody who can open this page; deleted after 7 days")
    expect(drawer.locator(".entry .file-name").first).to_have_text(known[0])
    drawer.get_by_role("button", name="Delete all").click()
    page.get_by_role("dialog", name="Delete").get_by_role("button", name="Cancel").click()
    expect(drawer.locator("section").first.locator(".entry").first).to_be_visible()
    drawer.get_by_role("button", name="Delete all").click()
    page.get_by_role("dialog", name="Delete").get_by_role("button", name="Delete").click()
    expect(drawer.locator("section").first).to_be_hidden()


def test_a_history_that_is_busy_waits_and_one_that_is_off_says_so(open_page: OpenPage) -> None:
    page = open_page()
    busy = {"code": "unavailable", "detail": "busy", "retryable": True}
    off = {"enabled": False, "shared": True, "keep_s": 60, "entries": []}
    page.route("**/v1/history?*", lambda route: route.fulfill(json=off))
    page.route(
        "**/v1/history?*", lambda route: route.fulfill(status=503, headers={"Retry-After": "2"}, json=busy), times=1
    )
    page.locator("#history-button").click()
    drawer = page.locator(".drawer")
    expect(drawer.locator(".wait")).to_contain_text("busy")
    expect(drawer).to_contain_text("The history is switched off on this server")
    expect(drawer.get_by_label("Keep what I read")).to_be_hidden()
    expect(drawer.get_by_role("alert")).to_have_count(0)


def test_copying_works_in_a_dialog_and_over_plain_http(open_page: OpenPage, server: RunningServer) -> None:
    page = open_page(base=by_name(server.url))
    assert page.evaluate("navigator.clipboard === undefined")
    read_one(page)
    text = "\n".join(page.locator("#panel-single .lines .text").all_text_contents())
    page.locator("#history-button").click()
    page.locator(".drawer .entry").first.click()
    reader = page.locator("dialog.reader")
    copy = reader.get_by_role("button", name="Copy all")
    copy.click()
    # Below the dialog it would be neither seen nor read out.
    expect(reader.locator(".toast")).to_have_text("Copied")
    expect(copy).to_be_focused()
    other = open_page()
    other.bring_to_front()
    assert other.evaluate("navigator.clipboard.readText()") == text
    page.bring_to_front()
    page.evaluate("document.execCommand = () => false")
    copy.click()
    expect(reader.locator(".toast").last).to_contain_text("does not allow copying")


def test_the_history_can_be_left(open_page: OpenPage, watched: list[Watched]) -> None:
    page = open_page()
    page.locator("#history-button").click()
    page.get_by_label("Keep what I read").uncheck()
    page.keyboard.press("Escape")
    read_one(page)
    assert "keep=false" in next(path for path in watched[0].requests if path.startswith("/v1/ocr"))
