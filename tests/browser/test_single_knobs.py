"""The first tab's sliders, presets and heat map: what was read once is adjusted."""

from __future__ import annotations

import json

from playwright.sync_api import Route, expect

from browser_support import OpenPage, needs_chromium, requests_of
from single_support import DONE, ENGLISH, as_file, content, download, held, lines_of, read, set_slider, wait_for
from support import KnownPicture, encoded

pytestmark = needs_chromium


def test_sliders_and_presets_run_no_network(open_page: OpenPage, english: KnownPicture) -> None:
    page = open_page()
    with requests_of(page) as asked:
        read(page)
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
    assert any(address.endswith("/lines") for address in asked)
    assert len([address for address in asked if address.startswith("/v1/ocr")]) == 1


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


def test_a_slider_moved_while_the_picture_is_read_again_counts(open_page: OpenPage) -> None:
    page = open_page()
    read(page)
    quad = page.locator('.quads [data-line="0"]')
    before = quad.get_attribute("points") or ""
    waiting = held(page, "**/v1/ocr?*")
    page.get_by_role("button", name="Read again").click()
    wait_for(page, waiting)
    with requests_of(page, "/lines") as asked:
        with page.expect_request("**/v1/ocr?*unclip_ratio=2*"):
            set_slider(page, "unclip_ratio", 2)
        page.locator(DONE).wait_for()
        expect(quad).not_to_have_attribute("points", before)
    assert asked == []


def test_a_preset_chosen_while_the_first_picture_is_read_counts(open_page: OpenPage) -> None:
    page = open_page()
    waiting = held(page, "**/v1/ocr?*")
    page.locator("#panel-single input[data-role=files]").set_input_files(ENGLISH)
    wait_for(page, waiting)
    with page.expect_request("**/v1/ocr?*unclip_ratio=*"):
        page.get_by_role("button", name="Handwriting").click()
    page.locator(DONE).wait_for()
    expect(page.locator("#panel-single .lines .line").first).to_be_visible()


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


def test_what_is_saved_names_the_knobs_it_was_found_with(open_page: OpenPage) -> None:
    page = open_page()
    read(page)
    set_slider(page, "unclip_ratio", 2.6)
    expect(page.locator("#panel-single:not([data-applying])")).to_be_visible()
    answer = json.loads(content(download(page, "JSON")))
    assert answer["options"]["unclip_ratio"] == 2.6
    assert answer["options"]["recognise"] is True


def test_a_slider_waits_for_a_busy_server_and_sends_no_picture(open_page: OpenPage, english: KnownPicture) -> None:
    page = open_page()
    busy = {"code": "queue_full", "detail": "full", "retryable": True}
    path = "**/v1/maps/*/lines"
    page.route(path, lambda route: route.fulfill(status=503, headers={"Retry-After": "1"}, json=busy), times=3)
    with requests_of(page, "/v1/ocr") as asked:
        read(page)
        quad = page.locator(".quads polygon").first
        before = quad.get_attribute("points") or ""
        set_slider(page, "unclip_ratio", 2.6)
        expect(page.locator(".wait")).to_contain_text("busy")
        expect(quad).not_to_have_attribute("points", before)
        expect(page.locator(".wait")).to_be_hidden()
        assert len(lines_of(page)) == len(english.texts)
    assert len(asked) == 1


def test_an_expired_map_is_made_again(open_page: OpenPage, english: KnownPicture) -> None:
    page = open_page()
    read(page)
    gone = {"code": "map_expired", "detail": "gone"}
    page.route("**/v1/maps/*/lines", lambda route: route.fulfill(status=404, json=gone), times=1)
    with page.expect_request("**/v1/ocr?*unclip_ratio=2*"):
        set_slider(page, "unclip_ratio", 2)
    page.locator(DONE).wait_for()
    assert len(lines_of(page)) == len(english.texts)


def test_another_model_brings_its_own_values(open_page: OpenPage) -> None:
    page = open_page()
    read(page)
    side = page.locator("#max-side")
    side.select_option("960")
    set_slider(page, "unclip_ratio", 2)
    expect(page.locator("#panel-single:not([data-applying])")).to_be_visible()

    def change_options(route: Route) -> None:
        answer = route.fetch()
        known = answer.json()
        next(one for one in known["options"] if one["name"] == "box_threshold")["default"] = 0.7
        route.fulfill(response=answer, json=known)

    def change_info(route: Route) -> None:
        answer = route.fetch()
        info = answer.json()
        info["models"]["detector"]["sha256"] = "0" * 64
        route.fulfill(response=answer, json=info)

    page.route("**/v1/options", change_options)
    page.route("**/v1/info", change_info)
    with page.expect_response("**/v1/info"):
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator(".pill.ready")).to_be_visible()
    with page.expect_request("**/v1/ocr?*") as asked:
        page.get_by_role("button", name="Read again").click()
    expect(page.locator("#knob-box_threshold")).to_have_value("0.7")
    # What was chosen by hand stays chosen.
    assert "box_threshold" not in asked.value.url
    assert "unclip_ratio=2" in asked.value.url
    assert "max_side=960" in asked.value.url
    page.locator(DONE).wait_for()


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
