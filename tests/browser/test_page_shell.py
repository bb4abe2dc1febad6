"""What holds for the page as a whole: weight, languages, themes, keys, the pill."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from browser_support import OpenPage, needs_chromium, read_one, reload
from fake_lab import FakeLab
from support import FIXTURES, RunningServer, running_server

pytestmark = needs_chromium

MAX_FIRST_REQUESTS = 30
MAX_FIRST_BYTES = 60_000
KEY = "open-sesame"
HAN = re.compile(r"[\u4e00-\u9fff]")


def test_the_first_visit_is_light(open_page: OpenPage) -> None:
    page = open_page(fresh=True)
    expect(page.locator(".pill.ready")).to_be_visible()
    sizes = page.evaluate("performance.getEntriesByType('resource').map((one) => one.encodedBodySize)")
    assert 10 < 1 + len(sizes) <= MAX_FIRST_REQUESTS, "the page itself and what it brings"
    assert 10_000 < sum(sizes) < MAX_FIRST_BYTES


def test_a_second_visit_loads_nothing_again(open_page: OpenPage) -> None:
    page = open_page()
    reload(page)
    kept = page.evaluate(
        "performance.getEntriesByType('resource').filter((one) => one.name.includes('/ui/'))"
        ".map((one) => [one.name, one.transferSize])"
    )
    assert len(kept) > 10
    assert {travelled for _, travelled in kept} == {0}, kept


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


def test_a_language_that_does_not_come_changes_nothing(open_page: OpenPage) -> None:
    page = open_page(locale="zh-CN")
    # As a proxy says it whose server is down.
    page.route("**/i18n/en.json", lambda route: route.fulfill(status=502, json={"code": "bad_gateway"}), times=1)
    page.locator("#language-button").click()
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_role("tab", name="批量识别")).to_be_visible()
    assert page.locator("html").get_attribute("lang") == "zh-CN"
    page.locator("#language-button").click()
    expect(page.get_by_role("tab", name="Batch")).to_be_visible()


def test_nothing_stays_behind_in_the_other_language(open_page: OpenPage) -> None:
    page = open_page(locale="zh-CN")
    FakeLab().attach(page)
    read_one(page)
    page.route("**/v1/maps/*/lines", lambda route: route.fulfill(status=500, json={"code": "internal"}))
    page.locator("#panel-single .chip[data-preset=hand]").click()
    expect(page.get_by_role("alert")).to_be_visible()
    for tab in ("batch", "tune", "export", "single"):
        page.locator(f"#tab-{tab}").click()
        expect(page.locator(f"#panel-{tab} h2:visible").first).to_be_visible()
    seen = page.locator("#panel-single")
    assert HAN.search(seen.inner_text())
    page.locator("#language-button").click()
    expect(page.get_by_role("tab", name="Batch")).to_be_visible()
    # The picture's own text is English, and its name too.
    assert [line for line in seen.inner_text().splitlines() if HAN.search(line)] == []
    named = page.evaluate(
        """() => [...document.querySelectorAll('header *, #panel-single :not(.lines *)')]
            .flatMap((one) => [one.getAttribute('aria-label'), one.getAttribute('title')]).filter(Boolean)"""
    )
    assert [name for name in named if HAN.search(name)] == ["切换到中文"] * 2
    # A tooltip over a whole picture would be in the way.
    expect(page.locator("#panel-single :is(so-viewer, aside, pre, .progress, [role=group])[title]")).to_have_count(0)


def test_a_chart_of_nothing_says_nothing(open_page: OpenPage) -> None:
    page = open_page()
    said = page.evaluate(
        """async () => {
            const base = document.querySelector('script[type=module]').src;
            await import(new URL('parts/chart.js', base));
            const { setLanguage } = await import(new URL('core/i18n.js', base));
            const chart = document.createElement('so-chart');
            chart.dataset.title = 'tune.loss';
            document.body.append(chart);
            const readout = chart.querySelector('.readout');
            const said = [];
            for (const points of [[{ x: 1, y: 0.5 }], []]) {
                chart.setPoints(points);
                said.push(readout.textContent);
            }
            await setLanguage('zh');
            return [...said, readout.textContent];
        }"""
    )
    assert said == ["0.500 at step 1", "", ""]


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


def test_the_bar_fits_windows_of_all_widths(open_page: OpenPage) -> None:
    page = open_page()
    expect(page.locator(".pill.ready")).to_be_visible()
    # As wide as it gets: with a key, and a long word about the service.
    page.evaluate("document.querySelector('#key-button').hidden = false")
    for width in (320, 836, 980, 1030):
        page.set_viewport_size({"width": width, "height": 600})
        page.locator(".pill .word").evaluate("(word) => { word.textContent = 'Short of memory'; }")
        assert page.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [width, width]


def test_tabs_are_tabs(open_page: OpenPage) -> None:
    page = open_page()
    FakeLab().attach(page)
    page.locator("#tab-single").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tab-batch")).to_be_focused()
    expect(page.locator("#panel-batch")).to_be_visible()
    page.get_by_role("link", name="Skip to content").press("Enter")
    expect(page.locator("main")).to_be_focused()
    expect(page.locator("#panel-batch")).to_be_visible()
    page.locator("#tab-batch").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#tab-export")).to_have_attribute("aria-selected", "true")
    page.go_back()
    expect(page.locator("#panel-single")).to_be_visible()


@pytest.fixture(scope="module")
def locked(remembering: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("locked")
    with running_server(folder, remembering, auth__api_keys=KEY, engines__count="1") as running:
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


def test_a_wrong_key_is_said_to_be(open_page: OpenPage, locked: RunningServer) -> None:
    page = open_page(base=locked.url)
    box = page.get_by_role("dialog", name="API key")
    field = page.get_by_label("Key", exact=True)
    expect(field).to_be_visible()
    expect(box.get_by_role("alert")).to_have_count(0)
    # Such a blank comes along with what is copied, unseen.
    field.fill(f"open\u200b{KEY}")
    page.get_by_role("button", name="Use this key").click()
    expect(box.get_by_role("alert")).to_have_text("The key is not accepted.")
    expect(page.locator("#banner")).to_be_hidden()
    field.fill("open-barley")
    page.get_by_role("button", name="Use this key").click()
    expect(box.get_by_role("alert")).to_have_text("The key is not accepted.")
    field.fill(KEY)
    page.get_by_role("button", name="Use this key").click()
    expect(box).to_be_hidden()
    expect(page.locator(".pill.ready")).to_be_visible()


def test_a_closed_key_dialog_stays_closed_until_something_needs_the_key(
    open_page: OpenPage, locked: RunningServer
) -> None:
    page = open_page(base=locked.url)
    box = page.get_by_role("dialog", name="API key")
    expect(box).to_be_visible()
    page.keyboard.press("Escape")
    expect(box).to_be_hidden()
    for _ in range(2):
        with page.expect_response("**/v1/info"):
            # As every few seconds.
            page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        page.wait_for_timeout(100)
        expect(box).to_be_hidden()
        page.locator("#theme-button").click()
    expect(page.locator(".pill.locked")).to_be_visible()
    page.locator("#panel-single input[data-role=files]").set_input_files(FIXTURES / "english.png")
    expect(box).to_be_visible()
    page.get_by_label("Key", exact=True).fill(KEY)
    page.keyboard.press("Enter")
    page.locator("#panel-single[data-state=done]").wait_for()


def opacity(page: Page) -> str:
    found: str = page.evaluate("getComputedStyle(document.body).opacity")
    return found


def test_a_page_that_does_not_start_says_so(browser: Browser, server: RunningServer) -> None:
    page = browser.new_page()
    page.route("**/i18n/*.json", lambda route: route.abort())
    page.goto(f"{server.url}/")
    assert opacity(page) == "0"
    # It takes its time.
    page.evaluate("document.getAnimations().forEach((one) => one.finish())")
    assert opacity(page) == "1"
    expect(page.locator("#banner")).to_contain_text("has not loaded")
    page.unroute("**/i18n/*.json")
    page.locator("#banner a").click()
    page.locator("html[data-ready]").wait_for()
    expect(page.locator("#banner")).to_be_hidden()
    page.close()


def test_a_page_whose_strings_come_at_the_third_try_starts(browser: Browser, server: RunningServer) -> None:
    page = browser.new_page()
    troubles = [lambda route: route.abort(), lambda route: route.fulfill(status=503, json={})]
    page.route("**/i18n/*.json", lambda route: troubles.pop()(route) if troubles else route.fallback())
    page.goto(f"{server.url}/")
    page.locator("html[data-ready]").wait_for()
    assert opacity(page) == "1"
    expect(page.locator("#tab-batch")).not_to_have_text("tab.batch")
    page.close()


def test_without_scripts_the_page_points_at_the_api(browser: Browser, server: RunningServer) -> None:
    page = browser.new_page(java_script_enabled=False)
    page.goto(f"{server.url}/")
    expect(page.locator("body")).to_have_css("opacity", "1")
    expect(page.locator("noscript")).to_be_visible()
    expect(page.locator("#banner")).to_be_hidden()
    page.close()


def test_the_pill_tells_the_truth(open_page: OpenPage) -> None:
    page = open_page()
    expect(page.locator(".pill.ready")).to_be_visible()
    page.locator(".pill").click()
    expect(page.locator(".health")).to_contain_text("pp-ocrv6-small-rec")
    page.locator(".pill").click()
    expect(page.locator(".health")).to_be_hidden()
    page.route("**/readyz", lambda route: route.fulfill(status=503, body="shutting down\n"))
    expect(page.locator(".pill.stopping")).to_be_visible(timeout=15_000)
