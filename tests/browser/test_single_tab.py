"""The first tab: picture in, text out, in a real browser."""

from __future__ import annotations

import base64
import csv
import io
import json
import re

import pytest
from PIL import Image
from playwright.sync_api import expect

from browser_profiles import DESKTOP, PHONE
from browser_support import OpenPage, needs_chromium, reload
from single_support import DONE, as_file, content, download, lines_of, read
from steadyocr.page_formats import render_page
from support import FIXTURES, KnownPicture, RunningServer, encoded

pytestmark = needs_chromium


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
    # A line is found in the list.
    page.get_by_role("button", name="JSON", exact=True).click()
    page.locator("#panel-single .chip.warn").click()
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
            const base = document.querySelector('script[type=module]').src;
            const { renderers } = await import(new URL('core/formats.js', base));
            return ['text', 'markdown', 'csv'].map((kind) => renderers[kind].render(known));
        }""",
        known,
    )
    expected = [render_page(known, "text"), render_page(known, "markdown"), "\ufeff" + render_page(known, "csv")]
    assert rendered == expected


def test_a_shrunk_picture_is_said_to_be(open_page: OpenPage, english: KnownPicture) -> None:
    page = open_page()
    line = english.first_line()
    wide = line.image.convert("RGB").resize((1600, 1600 * line.image.height // line.image.width))
    read(page, as_file("wide.png", encoded(wide)))
    expect(page.locator(".notes .warn")).to_contain_text("80%")
    page.get_by_role("button", name="Read at full size").click()
    expect(page.locator(".notes .warn")).to_have_count(0)
    assert lines_of(page) == line.texts
    # That was for this picture; the next one is read as usual again.
    with page.expect_request("**/v1/ocr?*") as asked:
        read(page)
    assert "quality=tile" not in asked.value.url
    expect(page.locator("#tile")).not_to_be_checked()


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
        if kind == "paste":
            # What lies on top goes: nobody would see the picture.
            page.locator("#history-button").click()
            expect(page.locator(".drawer")).to_be_visible()
        page.evaluate(give, [data, kind])
        expect(page.locator(".file-name").first).to_have_text("given.png")
        page.locator(DONE).wait_for()
        assert lines_of(page) == english.texts
        expect(page.locator("dialog:modal")).to_have_count(0)
        reload(page)
    # One picture at a time: what becomes of the others is said.
    page.evaluate(
        give.replace("target.dispatch", "for (const n of 'ab') transfer.items.add(new File([n], n)); target.dispatch"),
        [data, "drop"],
    )
    expect(page.locator(".file-name").first).to_have_text("given.png")
    expect(page.locator(".toast")).to_contain_text("2 files were left out")
    page.locator(DONE).wait_for()


def test_the_camera_takes_a_picture(open_page: OpenPage) -> None:
    page = open_page()
    page.get_by_role("button", name="Camera").click()
    page.get_by_role("button", name="Take it").click()
    page.locator(DONE).wait_for()
    expect(page.locator(".file-name").first).to_have_text("camera.jpg")


def test_a_picture_that_the_browser_cannot_draw_shows_its_text_and_is_drawn_by_the_server(
    open_page: OpenPage, english: KnownPicture
) -> None:
    page = open_page()
    line = english.first_line()
    read(page, as_file("page.tif", encoded(line.image, "TIFF"), "image/tiff"))
    words = page.locator("#panel-single .words text")
    expect(words).to_have_count(len(line.texts))
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


def test_a_picture_that_only_the_server_turns_shows_its_text(open_page: OpenPage, english: KnownPicture) -> None:
    """Chromium does not turn WebP as its EXIF says; drawn in the page's size it would be squeezed, lines beside it."""
    page = open_page()
    line = english.first_line()
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    line.image.rotate(90, expand=True).save(stream, "WEBP", lossless=True, exif=exif)
    read(page, as_file("turned.webp", stream.getvalue(), "image/webp"))
    assert lines_of(page) == line.texts
    expect(page.locator("#panel-single .words text")).to_have_count(len(line.texts))
    expect(page.locator(".sheet img")).to_be_hidden()


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
