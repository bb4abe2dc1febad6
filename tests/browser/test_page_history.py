"""The drawer of what was read before, and copying out of it."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Page, Route, expect

from browser_support import COUNT_URLS, OpenPage, by_name, needs_chromium, read_one, reload, requests_of
from support import FIXTURES, RunningServer

pytestmark = needs_chromium

HAN = re.compile(r"[\u4e00-\u9fff]")


def test_history_brings_a_reading_back(open_page: OpenPage) -> None:
    page = open_page()
    read_one(page, "chinese.png")
    known = page.locator("#panel-single .lines .text").all_text_contents()
    reload(page)
    page.locator("#history-button").click()
    page.locator(".drawer section").first.locator(".entry").first.click()
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


def test_all_there_is_is_listed_and_a_picture_comes_when_it_is_scrolled_to(open_page: OpenPage) -> None:
    page = open_page()
    same = {"at": 1_795_480_000, "lines": 3, "width": 40, "height": 30}
    entries = [
        {"id": f"e{number}", "first_line": f"line {number}", "thumb_url": f"v1/history/e{number}/thumb", **same}
        for number in range(90)
    ]

    def tell(route: Route) -> None:
        limit = int(parse_qs(urlsplit(route.request.url).query)["limit"][0])
        route.fulfill(json={"enabled": True, "shared": True, "keep_s": 60, "entries": entries[:limit]})

    picture = (FIXTURES / "english.png").read_bytes()
    page.route("**/v1/history?*", tell)
    page.route("**/v1/history/*/thumb", lambda route: route.fulfill(body=picture, content_type="image/png"))
    page.evaluate(COUNT_URLS)
    rows = page.locator(".drawer section").first.locator("li")
    with requests_of(page, "/thumb") as asked:
        page.locator("#history-button").click()
        expect(rows).to_have_count(90)
        expect(rows.first.locator("img.thumb")).to_be_visible()
        assert 0 < len(asked) < 50
        rows.last.scroll_into_view_if_needed()
        expect(rows.last.locator("img.thumb")).to_be_visible()
        assert "/v1/history/e89/thumb" in asked
        assert len(asked) < 80
    # What is shown is not kept a second time.
    while page.evaluate("urls.size"):  # the test's own time limit bounds this
        page.wait_for_timeout(20)


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
    page.locator(".drawer section").first.locator(".entry").first.click()
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


def read_unkept(page: Page) -> str:
    """Leave the history and read a picture; returns the address that it was sent to."""
    page.locator("#history-button").click()
    page.get_by_label("Keep what I read").uncheck()
    page.keyboard.press("Escape")
    with requests_of(page, "/v1/ocr?") as asked:
        read_one(page)
    return asked[0]


def test_the_history_can_be_left(open_page: OpenPage) -> None:
    page = open_page()
    assert "keep=false" in read_unkept(page)


def test_the_history_speaks_the_new_language_before_it_is_asked_for_again(open_page: OpenPage) -> None:
    page = open_page(locale="zh-CN")
    entry = {"id": "1", "at": 1_795_480_000, "first_line": "", "lines": 3, "width": 40, "height": 30}
    known = {"enabled": True, "shared": True, "keep_s": 604_800, "entries": [entry]}
    job = {"id": "1", "created_at": 1_795_480_000, "state": "finished", "done": 2, "total": 2}
    page.route("**/v1/history?*", lambda route: route.fulfill(json=known), times=1)
    page.route("**/v1/jobs?*", lambda route: route.fulfill(json={"jobs": [job]}), times=1)
    page.locator("#history-button").click()
    drawer = page.locator(".drawer")
    expect(drawer.locator(".entry")).to_have_count(2)
    assert HAN.search(drawer.locator(".entries").first.inner_text())
    page.keyboard.press("Escape")
    page.locator("#language-button").click()
    expect(page.get_by_role("tab", name="Batch")).to_be_visible()
    for path in ("**/v1/history?*", "**/v1/jobs?*"):
        page.route(path, lambda _: None)
    page.locator("#history-button").click()
    expect(drawer.locator(".entry")).to_have_count(2)
    assert [line for line in drawer.inner_text().splitlines() if HAN.search(line)] == []


def test_a_choice_lasts_as_long_as_the_page_where_nothing_may_be_stored(open_page: OpenPage) -> None:
    page = open_page(fresh=True)
    page.evaluate("Object.defineProperty(window, 'localStorage', { get() { throw new Error('refused'); } })")
    assert "&keep=false" in read_unkept(page)
    modes = []
    for _ in range(3):
        page.locator("#theme-button").click()
        modes.append(page.evaluate("document.documentElement.dataset.theme ?? 'auto'"))
    assert sorted(modes) == ["auto", "dark", "light"]


def test_a_choice_lasts_as_long_as_the_page_where_the_store_is_full(open_page: OpenPage) -> None:
    page = open_page(fresh=True)
    page.evaluate(
        """() => {
            for (const size of [1 << 20, 1 << 10, 1]) {
                for (let n = 0; ; n += 1) {
                    try { localStorage.setItem(`full-${size}-${n}`, 'x'.repeat(size)); } catch { break; }
                }
            }
        }"""
    )
    assert "keep=false" in read_unkept(page)
    page.locator("#history-button").click()
    expect(page.get_by_label("Keep what I read")).not_to_be_checked()


def test_another_tab_s_choice_is_shown_when_the_history_is_opened(open_page: OpenPage) -> None:
    page = open_page()
    page.locator("#history-button").click()
    expect(page.get_by_label("Keep what I read")).to_be_checked()
    page.keyboard.press("Escape")
    page.evaluate("localStorage.setItem('steadyocr.history', 'off')")
    page.locator("#history-button").click()
    expect(page.get_by_label("Keep what I read")).not_to_be_checked()


def test_the_health_panel_does_not_lie_over_another_place(open_page: OpenPage) -> None:
    page = open_page("#batch")
    page.locator("#tab-single").click()
    page.locator(".pill").click()
    expect(page.locator(".health .fact").first).to_be_visible()
    page.go_back()
    expect(page.locator("#panel-batch")).to_be_visible()
    expect(page.locator(".health .fact").first).to_be_hidden()
