"""The first tab: picture in, text out, in a real browser."""

from __future__ import annotations

import base64
import contextlib
import csv
import io
import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Download, Page, Request, Route, expect

from browser_support import DESKTOP, PHONE, OpenPage, Watched, needs_chromium
from steadyocr.page_formats import render_page
from support import FIXTURES, KnownPicture, RunningServer, encoded

pytestmark = needs_chromium

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


@pytest.mark.parametrize("name", ["english", "chinese"])
def test_a_chosen_picture_becomes_text(open_page: OpenPage, name: str, request: pytest.FixtureRequest) -> None:
    known: KnownPicture = request.getfixturevalue(name)
    page = open_page()
    read(page, FIXTURES / f"{name}.png")
    assert lines_of(page) == known.texts
    assert page.locator(".quads polygon").count() == len(known.texts)
    expect(page.locator(".count")).to_have_text(f"{len(known.texts)} lines")


def test_the_example_is_read(open_page: OpenPage) -> None:
    page = open_page(locale="zh-CN")
    page.get_by_role("button", name="试试示例").click()
    page.locator(DONE).wait_for()
    assert "谢谢惠顾，欢迎再来" in lines_of(page)


def test_the_picture_is_shown_before_the_answer_comes(open_page: OpenPage) -> None:
    page = open_page()
    held: list[Route] = []
    page.route("**/v1/ocr?*", lambda route: held.append(route))
    page.locator("#panel-single input[data-role=files]").set_input_files(ENGLISH)
    expect(page.locator(".sheet img")).to_be_visible()
    expect(page.locator(".steps .now")).to_be_visible()
    assert page.locator(DONE).count() == 0
    while not held:  # the test's own time limit bounds this
        page.wait_for_timeout(20)
    held[0].continue_()
    page.locator(DONE).wait_for()
    expect(page.locator(".busy")).to_be_hidden()


def test_lines_and_quads_point_at_each_other(open_page: OpenPage) -> None:
    page = open_page()
    read(page)
    row = page.locator(".lines li").nth(1)
    quad = page.locator('.quads [data-line="1"]')
    row.hover()
    expect(quad).to_have_class("hovered")
    quad.hover(force=True)
    expect(row).to_have_class("hovered")
    page.locator('.quads [data-line="2"]').click(force=True)
    expect(page.locator('.lines [data-line="2"] .line')).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(page.locator('.lines [data-line="1"] .line')).to_be_focused()
    expect(quad).to_have_class("picked")


def test_the_keyboard_stays_where_it_is_when_other_lines_come(open_page: OpenPage) -> None:
    page = open_page()
    read(page)
    page.locator('.lines [data-line="1"] .line').focus()
    with page.expect_response("**/lines"):
        page.locator("#knob-unclip_ratio").evaluate(
            "(slider) => { slider.stepUp(); slider.dispatchEvent(new Event('input', { bubbles: true })); }"
        )
    expect(page.locator("#panel-single:not([data-applying])")).to_be_visible()
    expect(page.locator('.quads [data-line="1"]')).to_have_class("picked")
    page.keyboard.press("ArrowDown")
    expect(page.locator('.lines [data-line="2"] .line')).to_be_focused()


def test_the_keyboard_alone_reaches_everything(open_page: OpenPage) -> None:
    page = open_page()
    read(page)
    viewer = page.locator("#panel-single so-viewer")
    viewer.focus()
    scale = page.locator(".toolbar .scale")
    fitted = scale.inner_text()
    page.keyboard.press("+")
    expect(scale).not_to_have_text(fitted)
    page.keyboard.press("1")
    expect(scale).to_have_text("100%")
    page.keyboard.press("0")
    expect(scale).to_have_text(fitted)
    page.locator('.lines [data-line="0"] .line').focus()
    page.keyboard.press("c")
    assert page.evaluate("navigator.clipboard.readText()") == lines_of(page)[0]


def test_wheel_and_drag_move_the_picture(open_page: OpenPage) -> None:
    page = open_page()
    read(page)
    box = page.locator("#panel-single so-viewer").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    sheet = page.locator("#panel-single .sheet")
    before = sheet.bounding_box()
    page.mouse.move(x, y)
    page.mouse.wheel(0, -400)
    expect(page.locator("#panel-single so-viewer")).not_to_have_class(re.compile("fitted"))
    zoomed = sheet.bounding_box()
    assert before is not None
    assert zoomed is not None
    assert zoomed["width"] > before["width"] * 1.3
    page.mouse.down()
    page.mouse.move(x + 90, y + 40, steps=4)
    page.mouse.up()
    moved = sheet.bounding_box()
    assert moved is not None
    assert moved["x"] - zoomed["x"] == pytest.approx(90, abs=6)
    assert moved["y"] - zoomed["y"] == pytest.approx(40, abs=6)


def test_doubtful_lines_are_marked_and_found_by_key(
    open_page: OpenPage, server: RunningServer, english: KnownPicture
) -> None:
    answer = server.ocr(english.data)
    answer["lines"][2]["text_score"] = 0.41
    page = open_page()
    page.route("**/v1/ocr?*", lambda route: route.fulfill(json=answer))
    read(page)
    expect(page.locator(".lines li.doubtful")).to_have_count(1)
    expect(page.locator(".quads .doubtful")).to_have_count(1)
    page.locator("#panel-single so-viewer").focus()
    page.keyboard.press("n")
    expect(page.locator('.lines [data-line="2"] .line')).to_be_focused()


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=str)
def test_everything_can_be_taken_away(open_page: OpenPage, size: dict[str, int]) -> None:
    page = open_page(size=size)
    read(page)
    answer = json.loads(content(got := download(page, "JSON")))
    assert got.suggested_filename == "english.json"
    assert content(download(page, "Text")).decode() == render_page(answer, "text")
    assert content(download(page, "Markdown")).decode() == render_page(answer, "markdown")
    table = content(download(page, "Table")).decode("utf-8-sig")
    known = render_page(answer, "csv")
    assert [row[-2] for row in csv.reader(io.StringIO(table))] == [row[-2] for row in csv.reader(io.StringIO(known))]
    picture = content(download(page, "Annotated"))
    assert picture.startswith(b"\x89PNG")
    page.get_by_role("button", name="Copy all").click()
    assert page.evaluate("navigator.clipboard.readText()") == answer["text"]
    page.get_by_role("button", name="JSON", exact=True).click()
    assert json.loads(page.locator("pre.json").inner_text())["lines"] == answer["lines"]


def test_the_texts_files_follow_the_servers_rules(open_page: OpenPage) -> None:
    """What the page renders itself is byte for byte what the server would have rendered."""
    texts = ["=1+1", "1. first", "- item", "a*b_c", 'say "hi", now', "＝危险", "", "+49 30", "----"]
    quad = [[1.5, 2.25], [3.5, 2.25], [3.5, 4.75], [1.5, 4.75]]
    lines = [{"id": i, "quad": quad, "score": 0.5, "text": text, "text_score": 0.25} for i, text in enumerate(texts)]
    known = {"lines": lines, "text": "\n".join(filter(None, texts))}
    page = open_page()
    rendered = page.evaluate(
        """async (known) => {
            const { renderers } = await import('./ui/js/core/formats.js');
            return ['text', 'markdown', 'csv'].map((kind) => renderers[kind].render(known));
        }""",
        known,
    )
    expected = [render_page(known, "text"), render_page(known, "markdown"), "\ufeff" + render_page(known, "csv")]
    assert rendered == expected


def test_a_shrunk_picture_is_said_to_be(open_page: OpenPage, english: KnownPicture) -> None:
    page = open_page()
    large = english.image.convert("RGB").resize((1600, 933))
    read(page, as_file("large.png", encoded(large)))
    expect(page.locator(".notes .warn")).to_contain_text("80%")
    page.get_by_role("button", name="Read at full size").click()
    expect(page.locator(".notes .warn")).to_have_count(0)
    assert lines_of(page) == english.texts
    # That was for this picture; the next one is read as usual again.
    with page.expect_request("**/v1/ocr?*") as asked:
        read(page)
    assert "quality=tile" not in asked.value.url
    expect(page.locator("#tile")).not_to_be_checked()


def test_a_wrong_file_gets_a_sentence_and_no_retry(open_page: OpenPage) -> None:
    page = open_page()
    page.locator("#panel-single input[data-role=files]").set_input_files(
        as_file("notes.txt", b"this is no picture at all", "text/plain")  # type: ignore[arg-type]
    )
    problem = page.get_by_role("alert")
    expect(problem).to_contain_text("not a picture")
    expect(problem.get_by_role("button")).to_have_count(0)
    # There is no text to show and no detection to adjust.
    expect(page.locator("#panel-single .side")).to_be_hidden()
    expect(page.locator("#knob-unclip_ratio")).to_be_hidden()
    read(page)
    expect(page.locator("#panel-single .side")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_busy_is_a_wait_and_not_an_error(open_page: OpenPage, english: KnownPicture) -> None:
    page = open_page()
    refusals = [
        {"code": "queue_full", "detail": "full", "retryable": True},
        {"code": "not_ready", "detail": "starting", "retryable": True},
    ]

    def refuse(route: Route) -> None:
        if refusals:
            route.fulfill(status=503, headers={"Retry-After": "1"}, json=refusals.pop(0))
        else:
            route.fallback()

    page.route("**/v1/ocr?*", refuse)
    page.locator("#panel-single input[data-role=files]").set_input_files(ENGLISH)
    expect(page.locator(".wait")).to_contain_text("busy")
    expect(page.locator(".wait")).to_contain_text("starting")
    assert page.get_by_role("alert").count() == 0
    page.locator(DONE).wait_for()
    assert lines_of(page) == english.texts
    expect(page.locator(".wait")).to_be_hidden()


def test_a_wait_can_be_given_up(open_page: OpenPage) -> None:
    page = open_page()
    page.route("**/v1/ocr?*", lambda route: route.fulfill(status=503, headers={"Retry-After": "30"}, json={}))
    page.locator("#panel-single input[data-role=files]").set_input_files(ENGLISH)
    expect(page.locator(".wait")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".problem")).to_contain_text("Stopped")
    page.unroute("**/v1/ocr?*")
    page.locator(".problem").get_by_role("button", name="Try again").click()
    page.locator(DONE).wait_for()


def test_pasting_and_dropping(open_page: OpenPage, english: KnownPicture) -> None:
    page = open_page()
    give = """([data, kind]) => {
        const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
        const transfer = new DataTransfer();
        transfer.items.add(new File([bytes], 'given.png', { type: 'image/png' }));
        const target = kind === 'paste' ? document.body : document.querySelector('#panel-single');
        const event = kind === 'paste' ? new ClipboardEvent('paste', { clipboardData: transfer, bubbles: true })
            : new DragEvent('drop', { dataTransfer: transfer, bubbles: true, cancelable: true });
        target.dispatchEvent(event);
    }"""
    data = base64.b64encode(english.data).decode()
    for kind in ("paste", "drop"):
        page.evaluate(give, [data, kind])
        expect(page.locator(".file-name").first).to_have_text("given.png")
        page.locator(DONE).wait_for()
        assert lines_of(page) == english.texts
        page.reload()


def test_the_camera_takes_a_picture(open_page: OpenPage) -> None:
    page = open_page()
    page.get_by_role("button", name="Camera").click()
    page.get_by_role("button", name="Take it").click()
    page.locator(DONE).wait_for()
    expect(page.locator(".file-name").first).to_have_text("camera.jpg")


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


def test_sliders_and_presets_run_no_network(
    open_page: OpenPage, server: RunningServer, english: KnownPicture, watched: list[Watched]
) -> None:
    page = open_page()
    read(page)
    asked = len([path for path in watched[0].requests if path.startswith("/v1/ocr")])
    quads = page.locator(".quads polygon")
    before = quads.first.get_attribute("points")
    set_slider(page, "unclip_ratio", 2.6)
    expect(quads.first).not_to_have_attribute("points", before or "")
    expect(page.locator("#panel-single:not([data-applying])")).to_be_visible()
    texts = page.locator("#panel-single .lines .text:not(.none)")
    assert 0 < texts.count() == quads.count(), "what was read is kept, and what is new is read"
    set_slider(page, "bin_threshold", 0.95)
    expect(page.locator("#panel-single:not([data-applying])")).to_be_visible()
    page.get_by_role("button", name="Standard").click()
    expect(page.locator("#panel-single:not([data-applying])")).to_be_visible()
    expect(quads.first).to_have_attribute("points", before or "")
    assert lines_of(page) == english.texts
    assert len([path for path in watched[0].requests if path.startswith("/v1/ocr")]) == asked == 1


def held(page: Page, path: str, *, when: Callable[[Request], bool] = lambda _: True) -> list[Route]:
    """Hold the answer to the first such request; returns where it is found once it is there."""
    waiting: list[Route] = []
    page.route(path, lambda route: route.fallback() if waiting or not when(route.request) else waiting.append(route))
    return waiting


def wait_for(page: Page, waiting: list[Route]) -> Route:
    while not waiting:  # the test's own time limit bounds this
        page.wait_for_timeout(20)
    return waiting[0]


def test_boxes_move_before_their_texts_are_read_and_a_new_move_calls_the_reading_off(open_page: OpenPage) -> None:
    page = open_page()
    read(page)
    waiting = held(page, "**/v1/maps/*/lines", when=lambda request: '"recognise":true' in (request.post_data or ""))
    quad = page.locator('.quads [data-line="0"]')
    before = quad.get_attribute("points") or ""
    page.get_by_role("button", name="Handwriting").click()
    expect(quad).not_to_have_attribute("points", before)
    wait_for(page, waiting)
    by_preset = quad.get_attribute("points") or ""
    with page.expect_event("requestfailed", lambda request: request.url.endswith("/lines")):
        set_slider(page, "unclip_ratio", 2.6, final=False)
    expect(quad).not_to_have_attribute("points", by_preset)
    set_slider(page, "unclip_ratio", 1.0)
    expect(page.locator("#panel-single:not([data-applying])")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_slider_that_works_again_takes_its_complaint_back(open_page: OpenPage) -> None:
    page = open_page()
    read(page)
    page.route("**/v1/maps/*/lines", lambda route: route.fulfill(status=500, json={"code": "internal"}))
    set_slider(page, "unclip_ratio", 2.6)
    expect(page.get_by_role("alert")).to_have_count(1)
    page.unroute("**/v1/maps/*/lines")
    set_slider(page, "unclip_ratio", 2)
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_slider_moved_while_the_picture_is_read_again_counts(open_page: OpenPage, watched: list[Watched]) -> None:
    page = open_page()
    read(page)
    quad = page.locator('.quads [data-line="0"]')
    before = quad.get_attribute("points") or ""
    waiting = held(page, "**/v1/ocr?*")
    page.get_by_role("button", name="Read again").click()
    wait_for(page, waiting)
    with page.expect_request("**/v1/ocr?*unclip_ratio=2*"):
        set_slider(page, "unclip_ratio", 2)
    page.locator(DONE).wait_for()
    expect(quad).not_to_have_attribute("points", before)
    assert not [path for path in watched[0].requests if path.endswith("/lines")]


def test_after_a_stopped_reading_the_page_before_is_still_adjusted(open_page: OpenPage) -> None:
    page = open_page()
    read(page)
    waiting = held(page, "**/v1/ocr?*")
    page.get_by_role("button", name="Read again").click()
    wait_for(page, waiting)
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".problem")).to_contain_text("Stopped")
    quad = page.locator('.quads [data-line="0"]')
    before = quad.get_attribute("points") or ""
    set_slider(page, "unclip_ratio", 2.6)
    expect(quad).not_to_have_attribute("points", before)
    expect(page.locator(".problem")).to_be_empty()


# The browser takes as long to decode a picture as the test wants; what is sent and how it goes is written down.
SLOW_DECODING = """() => {
    const decode = HTMLImageElement.prototype.decode;
    window.decoded = new Promise((resolve) => (window.letGo = resolve));
    HTMLImageElement.prototype.decode = async function () {
        await window.decoded;
        return decode.call(this);
    };
    window.sent = [];
    const send = XMLHttpRequest.prototype.send;
    XMLHttpRequest.prototype.send = function (body) {
        window.sent.push(body.name);
        send.call(this, body);
    };
    window.states = [];
    const panel = document.querySelector('#panel-single');
    const note = () => window.states.push(panel.dataset.state);
    new MutationObserver(note).observe(panel, { attributes: true, attributeFilter: ['data-state'] });
}"""


def test_a_picture_is_read_while_the_browser_still_decodes_it(open_page: OpenPage, english: KnownPicture) -> None:
    page = open_page()
    page.evaluate(SLOW_DECODING)
    read(page)
    quads = page.locator(".quads polygon")
    expect(quads).to_have_count(len(english.texts))
    page.evaluate("window.letGo()")
    expect(page.locator(".sheet img")).to_be_visible()
    assert quads.count() == len(english.texts)
    assert page.locator("so-viewer.without-picture, so-viewer.with-words").count() == 0


def test_a_second_picture_takes_the_place_of_the_first_at_once(open_page: OpenPage, chinese: KnownPicture) -> None:
    page = open_page()
    page.evaluate(SLOW_DECODING)
    held(page, "**/v1/ocr?*")
    page.locator("#panel-single input[data-role=files]").set_input_files(ENGLISH)
    page.wait_for_timeout(200)
    page.locator("#panel-single input[data-role=files]").set_input_files(FIXTURES / "chinese.png")
    expect(page.locator(".file-name").first).to_have_text("chinese.png")
    page.evaluate("window.letGo()")
    page.locator(DONE).wait_for()
    expect(page.locator(".sheet img")).to_be_visible()
    assert lines_of(page) == chinese.texts
    assert page.evaluate("window.sent") == ["english.png", "chinese.png"]
    assert "failed" not in page.evaluate("window.states")


def test_what_is_stopped_before_it_is_sent_is_not_sent(open_page: OpenPage, watched: list[Watched]) -> None:
    page = open_page()
    waiting = held(page, "**/v1/options")
    page.locator("#panel-single input[data-role=files]").set_input_files(ENGLISH)
    route = wait_for(page, waiting)
    page.get_by_role("button", name="Cancel").click()
    route.continue_()
    expect(page.locator(".problem")).to_contain_text("Stopped")
    assert not [path for path in watched[0].requests if path.startswith("/v1/ocr")]


def test_a_late_heat_map_is_not_laid_over_the_next_picture(open_page: OpenPage, english: KnownPicture) -> None:
    page = open_page()
    waiting = held(page, "**/heat.png")
    read(page, as_file("wide.png", encoded(english.image.resize((640, 64)))))
    late = wait_for(page, waiting)
    read(page)
    heat = page.get_by_role("button", name="Heat map")
    expect(heat).to_be_visible()
    size = page.locator("canvas.heat").evaluate("(canvas) => [canvas.width, canvas.height]")
    with page.expect_response("**/heat.png"):
        late.continue_()
    page.wait_for_timeout(200)
    assert page.locator("canvas.heat").evaluate("(canvas) => [canvas.width, canvas.height]") == size


def test_a_picture_that_the_browser_cannot_draw_shows_its_text_and_is_drawn_by_the_server(
    open_page: OpenPage, english: KnownPicture
) -> None:
    page = open_page()
    read(page, as_file("page.tif", encoded(english.image, "TIFF"), "image/tiff"))
    words = page.locator("#panel-single .words text")
    expect(words).to_have_count(len(english.texts))
    page.locator("#max-side").select_option("960")
    page.get_by_label("in tiles").check()
    page.get_by_role("button", name="Read again").click()
    page.locator(DONE).wait_for()
    with page.expect_request("**/v1/ocr?format=overlay.png*") as asked:
        assert content(download(page, "Annotated")).startswith(b"\x89PNG")
    assert "max_side=960" in asked.value.url
    assert "quality=tile" in asked.value.url
    read(page)
    expect(page.locator(".sheet img")).to_be_visible()
    expect(page.locator("#panel-single so-viewer")).not_to_have_class(re.compile("with-words"))


def test_what_is_saved_names_the_knobs_it_was_found_with(open_page: OpenPage) -> None:
    page = open_page()
    read(page)
    set_slider(page, "unclip_ratio", 2.6)
    expect(page.locator("#panel-single:not([data-applying])")).to_be_visible()
    answer = json.loads(content(download(page, "JSON")))
    assert answer["options"]["unclip_ratio"] == 2.6
    assert answer["options"]["recognise"] is True


def test_a_slider_waits_for_a_busy_server_and_sends_no_picture(
    open_page: OpenPage, english: KnownPicture, watched: list[Watched]
) -> None:
    page = open_page()
    read(page)
    busy = {"code": "queue_full", "detail": "full", "retryable": True}
    path = "**/v1/maps/*/lines"
    page.route(path, lambda route: route.fulfill(status=503, headers={"Retry-After": "1"}, json=busy), times=3)
    quad = page.locator(".quads polygon").first
    before = quad.get_attribute("points") or ""
    set_slider(page, "unclip_ratio", 2.6)
    expect(page.locator(".wait")).to_contain_text("busy")
    expect(quad).not_to_have_attribute("points", before)
    expect(page.locator(".wait")).to_be_hidden()
    assert len(lines_of(page)) == len(english.texts)
    assert len([path for path in watched[0].requests if path.startswith("/v1/ocr")]) == 1


@pytest.mark.parametrize(
    ("details", "sentence"),
    [({"max_bytes": 32 << 20}, "at most 34 MB"), ({}, "the body is too large"), ({"limit": 10_000}, "at most 10,000")],
)
def test_too_large_is_said_with_the_limit_and_not_tried_again(
    open_page: OpenPage, details: dict[str, int], sentence: str
) -> None:
    page = open_page()
    body = {"code": "payload_too_large", "detail": "the body is too large", "retryable": False, **details}
    page.route("**/v1/ocr?*", lambda route: route.fulfill(status=413, json=body))
    page.locator("#panel-single input[data-role=files]").set_input_files(ENGLISH)
    problem = page.get_by_role("alert")
    expect(problem).to_contain_text(sentence)
    expect(problem).not_to_contain_text("{")
    expect(problem.get_by_role("button")).to_have_count(0)


def test_the_annotated_picture_has_the_lists_numbers(open_page: OpenPage) -> None:
    page = open_page()
    page.evaluate(
        """() => {
            window.written = [];
            const write = OffscreenCanvasRenderingContext2D.prototype.fillText;
            OffscreenCanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
                window.written.push(text);
                write.call(this, text, ...rest);
            };
        }"""
    )
    read(page)
    download(page, "Annotated")
    assert page.evaluate("window.written") == page.locator(".lines .number").all_text_contents()


def test_the_steps_are_those_of_the_server(open_page: OpenPage, server: RunningServer, english: KnownPicture) -> None:
    answer = server.ocr(english.data)
    info = server.info()
    page = open_page()
    now: dict[str, Any] = {"waiting": 3, "stages": ["detect", "recognise"]}

    def tell(route: Route) -> None:
        engines = [{**info["engines"][0], "stage": stage} for stage in now["stages"]]
        route.fulfill(json={**info, "engines": engines, "queue": {**info["queue"], "waiting": now["waiting"]}})

    page.route("**/v1/info", tell)
    with held_answers(answer) as (address, let_go):
        page.route("**/v1/ocr?*", lambda route: route.continue_(url=address))
        page.locator("#panel-single input[data-role=files]").set_input_files(ENGLISH)
        step = page.locator(".steps .now")
        expect(step).to_have_text("Queue, 3 waiting")
        now.update(waiting=0, stages=["detect", None])
        expect(step).to_have_text("Find lines")
        now.update(stages=[None, "recognise"])
        expect(step).to_have_text("Read text")
        assert page.locator(DONE).count() == 0
        let_go.set()
        page.locator(DONE).wait_for()
    assert lines_of(page) == english.texts


@contextlib.contextmanager
def held_answers(answer: dict[str, Any]) -> Iterator[tuple[str, threading.Event]]:
    """A server that takes what is sent at once, and answers when it is let go."""
    let_go = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            let_go.wait(60)
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Access-Control-Allow-Origin", "*")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as holding:
        thread = threading.Thread(target=holding.serve_forever, name="held-answers", daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{holding.server_port}/v1/ocr", let_go
        finally:
            let_go.set()
            holding.shutdown()
            thread.join(5)


def test_an_expired_map_is_made_again(open_page: OpenPage, english: KnownPicture) -> None:
    page = open_page()
    read(page)
    gone = {"code": "map_expired", "detail": "gone"}
    page.route("**/v1/maps/*/lines", lambda route: route.fulfill(status=404, json=gone), times=1)
    with page.expect_request("**/v1/ocr?*unclip_ratio=2*"):
        set_slider(page, "unclip_ratio", 2)
    page.locator(DONE).wait_for()
    assert len(lines_of(page)) == len(english.texts)


def test_the_heat_map_lies_over_the_picture(open_page: OpenPage) -> None:
    page = open_page()
    read(page)
    page.get_by_role("button", name="Heat map").click()
    heat = page.locator("canvas.heat")
    expect(heat).to_be_visible()
    # Where the first line is, the map is bright; in the corner there is nothing.
    bright = heat.evaluate(
        """(canvas) => {
            const at = (x, y) => canvas.getContext('2d').getImageData(x, y, 1, 1).data[3];
            const points = document.querySelector('.quads polygon').getAttribute('points').split(' ');
            const middle = points.map((point) => point.split(',').map(Number));
            const mean = (axis) => middle.reduce((sum, point) => sum + point[axis], 0) / 4;
            const scale = canvas.width / parseFloat(canvas.style.width);
            return [at(mean(0) * scale, mean(1) * scale), at(1, 1)];
        }"""
    )
    assert bright[0] > 150
    assert bright[1] < 20


def test_on_a_phone(open_page: OpenPage, chinese: KnownPicture) -> None:
    page = open_page(size=PHONE, locale="zh-CN")
    read(page, FIXTURES / "chinese.png")
    assert lines_of(page) == chinese.texts
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    box = page.locator("#panel-single so-viewer").bounding_box()
    assert box is not None
    assert box["height"] <= 0.41 * PHONE["height"], "the text needs room too"
    page.locator(".lines .line").first.tap()
    expect(page.locator('.quads [data-line="0"]')).to_have_class("picked")
