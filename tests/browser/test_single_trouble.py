"""The first tab when something is in its way, or goes faster or slower than expected."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from playwright.sync_api import Route, expect

from browser_support import OpenPage, needs_chromium, requests_of
from single_support import DONE, ENGLISH, as_file, held, lines_of, read, wait_for
from support import FIXTURES, KnownPicture, RunningServer

pytestmark = needs_chromium


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
    page.get_by_role("button", name="Cancel").press("Enter")
    expect(page.locator(".problem")).to_contain_text("Stopped")
    page.unroute("**/v1/ocr?*")
    # The keyboard goes on from there.
    expect(page.locator(".problem").get_by_role("button", name="Try again")).to_be_focused()
    page.keyboard.press("Enter")
    page.locator(DONE).wait_for()


def test_too_large_is_said_with_the_limit_and_not_tried_again(open_page: OpenPage) -> None:
    page = open_page()
    body: dict[str, Any] = {"code": "payload_too_large", "detail": "the body is too large", "retryable": False}
    told = {body["detail"]: {}, "at most 34 MB": {"max_bytes": 32 << 20}, "at most 10,000": {"limit": 10_000}}
    refusals = [body | details for details in told.values()]
    page.route("**/v1/ocr?*", lambda route: route.fulfill(status=413, json=refusals.pop(0)))
    problem = page.get_by_role("alert")
    for sentence in told:
        page.locator("#panel-single input[data-role=files]").set_input_files(ENGLISH)
        expect(problem).to_contain_text(sentence)
        expect(problem).not_to_contain_text("{")
        expect(problem.get_by_role("button")).to_have_count(0)


def test_a_proxys_refusal_is_told_with_its_status(open_page: OpenPage) -> None:
    page = open_page()
    page.route("**/v1/ocr?*", lambda route: route.fulfill(status=413, body="<html><h1>Request too large</h1></html>"))
    page.locator("#panel-single input[data-role=files]").set_input_files(ENGLISH)
    expect(page.get_by_role("alert")).to_contain_text("HTTP 413")


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


def test_where_nothing_is_found_nothing_is_copied(open_page: OpenPage, server: RunningServer) -> None:
    page = open_page()
    answer = server.ocr(ENGLISH.read_bytes()) | {"lines": [], "text": ""}
    page.route("**/v1/ocr?*", lambda route: route.fulfill(json=answer), times=1)
    page.locator("#panel-single").get_by_role("button", name="Choose a picture").focus()
    read(page)
    # The keyboard goes on where the picture is, not at the top of the page.
    expect(page.get_by_role("button", name="New picture")).to_be_focused()
    copy = page.get_by_role("button", name="Copy all")
    expect(copy).to_be_disabled()
    page.get_by_role("button", name="Read again").click()
    expect(copy).to_be_enabled()


def test_what_is_stopped_before_it_is_sent_is_not_sent(open_page: OpenPage) -> None:
    page = open_page()
    waiting = held(page, "**/v1/options")
    with requests_of(page, "/v1/ocr") as asked:
        page.locator("#panel-single input[data-role=files]").set_input_files(ENGLISH)
        route = wait_for(page, waiting)
        page.get_by_role("button", name="Cancel").click()
        route.continue_()
        expect(page.locator(".problem")).to_contain_text("Stopped")
    assert asked == []


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
