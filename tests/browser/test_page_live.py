"""Live: the stream of events, in one tab, in eight, and behind a proxy with a prefix."""

from __future__ import annotations

import contextlib
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Request, Route, expect

from browser_support import OpenPage, RunningJob, hurry, needs_chromium, read_one
from prefix_proxy import prefix_proxy
from support import FIXTURES, RunningServer

pytestmark = needs_chromium


NO_POLLING = """() => {
    const set = window.setTimeout;
    window.setTimeout = (work, wait, ...rest) => set(work, wait >= 1000 ? 2 ** 31 - 1 : wait, ...rest);
}"""


HASTE = 20


class LongJob:
    """A job that goes on for ever, without a stream; looks at it are counted. Its second picture is read meanwhile."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.looks: list[float] = []
        self.streams = 0
        page.route("**/v1/jobs/long", self._job)
        page.route("**/v1/jobs/long/items?*", self._items)
        page.route("**/v1/jobs/long/events", self._events)

    def look_on(self, times: int) -> None:
        """Wait for so many more looks."""
        for _ in range(times):
            with self.page.expect_response(lambda answer: "/v1/jobs/long/items" in answer.url):
                pass

    def _job(self, route: Route) -> None:
        self.looks.append(time.monotonic())
        counts = {"total": 60, "done": 1, "failed": 0, "dead": 0, "expired": 0, "cancelled": 0}
        times = {"created_at": 1_795_480_000, "started_at": 1_795_480_001, "finished_at": None, "eta_s": 60}
        route.fulfill(json={"id": "long", "state": "running", **counts, **times})

    def _items(self, route: Route) -> None:
        states = ["done", "done" if len(self.looks) > 3 else "leased", "queued"]
        same: dict[str, Any] = {"kind": "ocr", "attempts": 1, "parent": None, "error": None, "size_bytes": 1000}
        items = [{"position": at, "name": f"{at}.png", "state": state, **same} for at, state in enumerate(states)]
        route.fulfill(json={"items": items})

    def _events(self, route: Route) -> None:
        self.streams += 1
        route.fulfill(status=500, json={"code": "internal", "detail": "no stream"})


class Streams:
    """The event streams of a page: how many were opened, and which of them are over."""

    def __init__(self) -> None:
        self.opened: list[Request] = []
        self.over: list[Request] = []

    def note_start(self, request: Request) -> None:
        if request.url.endswith("/events"):
            self.opened.append(request)

    def note_end(self, request: Request) -> None:
        if request.url.endswith("/events"):
            self.over.append(request)


@contextlib.contextmanager
def live(page: Page, job: RunningJob) -> Iterator[Streams]:
    """Open a running job on a page that never asks of itself again: a second never passes, only less than that."""
    streams = Streams()
    page.on("request", streams.note_start)
    ends = ("requestfinished", "requestfailed")
    for event in ends:
        page.on(event, streams.note_end)  # type: ignore[call-overload]
    page.evaluate(NO_POLLING)
    with page.expect_response(lambda answer: answer.url.endswith("/events") and answer.ok):
        page.evaluate(f"location.hash = 'batch/{job.id}'")
    expect(page.locator(".items .badge.leased")).to_be_visible()
    yield streams
    page.remove_listener("request", streams.note_start)
    for event in ends:
        page.remove_listener(event, streams.note_end)


@pytest.fixture
def prefixed(server: RunningServer) -> Iterator[str]:
    with prefix_proxy(server.url, "/tools/ocr") as base:
        yield base


def test_a_row_changes_by_the_stream_alone(open_page: OpenPage, running_job: RunningJob) -> None:
    page = open_page()
    with live(page, running_job) as streams:
        assert (len(streams.opened), streams.over) == (1, [])
        running_job.end()
        expect(page.locator(".items .badge.failed")).to_be_visible()
        expect(page.locator("#panel-batch[data-job=ended]")).to_be_visible()
        assert len(streams.opened) == 1


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


def test_under_a_prefix_behind_a_proxy(open_page: OpenPage, prefixed: str) -> None:
    page = open_page(base=prefixed)
    read_one(page)
    page.locator("#language-button").click()
    expect(page.get_by_role("tab", name="批量识别")).to_be_visible()


def test_a_batch_under_a_prefix_is_live_and_is_taken_away(
    open_page: OpenPage, prefixed: str, running_job: RunningJob
) -> None:
    page = open_page("#batch", base=prefixed)
    page.locator("#panel-batch input[data-role=files]").set_input_files(FIXTURES / "english.png")
    page.locator("#panel-batch[data-job=ended]").wait_for()
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download all").click()
    with zipfile.ZipFile(Path(waiting.value.path())) as archive:
        assert "results.jsonl" in archive.namelist()
    page.locator(".items").get_by_role("button", name="Open").click()
    expect(page.locator("dialog.reader .sheet img")).to_be_visible()
    page.keyboard.press("Escape")
    with live(page, running_job) as streams:
        running_job.end()
        expect(page.locator(".items .badge.failed")).to_be_visible()
        assert len(streams.opened) == 1


@pytest.mark.parametrize("name", ["Open", "Next page"])
def test_focus_stays_where_it_is_while_a_batch_goes_on(open_page: OpenPage, name: str) -> None:
    page = open_page()
    hurry(page, HASTE)
    job = LongJob(page)
    page.evaluate("location.hash = 'batch/long'")
    button = page.locator("#panel-batch").get_by_role("button", name=name, exact=True).first
    button.focus()
    button.evaluate("(one) => { one.mark = 'the same'; }")
    expect(page.locator(".items .badge.done")).to_have_count(2)
    job.look_on(1)
    expect(button).to_be_focused()
    assert button.evaluate("(one) => one.mark") == "the same"


def test_a_stream_that_fails_is_tried_again_and_again(open_page: OpenPage) -> None:
    page = open_page()
    job = LongJob(page)
    hurry(page, HASTE)
    page.evaluate("location.hash = 'batch/long'")
    for _ in range(100):
        job.look_on(1)
        if job.streams == 5:
            break
    assert job.streams == 5


def test_a_busy_server_is_asked_again_when_it_says(open_page: OpenPage) -> None:
    page = open_page()
    hurry(page, HASTE)
    job = LongJob(page)
    refused: list[float] = []

    def refuse(route: Route) -> None:
        refused.append(time.monotonic())
        route.fulfill(status=503, headers={"Retry-After": "20"}, json={"code": "unavailable", "detail": "busy"})

    page.route("**/v1/jobs/long", refuse, times=1)
    page.evaluate("location.hash = 'batch/long'")
    expect(page.locator(".items tbody tr")).to_have_count(3)
    assert job.looks[0] - refused[0] >= 20 / HASTE
    # A fault of the server's is said once, and the batch is looked at all the same.
    faults: list[Route] = []

    def fail(route: Route) -> None:
        faults.append(route)
        route.fulfill(status=500, json={"code": "internal", "detail": "oh", "request_id": str(len(faults))})

    page.route("**/v1/jobs/long", fail)
    fault = page.locator(".job").get_by_role("alert")
    expect(fault).to_contain_text("The service has a fault")
    first = fault.text_content()
    while len(faults) < 3:  # the test's own time limit bounds this
        page.wait_for_timeout(20)
    assert fault.text_content() == first
    page.unroute("**/v1/jobs/long", fail)
    job.look_on(2)
    expect(fault).to_have_count(0)


def test_a_server_that_never_answers_is_one_that_does_not_answer(open_page: OpenPage) -> None:
    page = open_page()
    hurry(page, HASTE)
    page.route("**/v1/jobs?*", lambda _: None)
    page.locator("#tab-batch").click()
    expect(page.locator("#panel-batch > .wait")).to_contain_text("does not answer")
    page.unroute("**/v1/jobs?*")
    expect(page.locator("#panel-batch > .wait")).to_be_hidden()
