"""Live: the stream of events, in one tab, in eight, and behind a proxy with a prefix."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, Request, expect

from browser_support import OpenPage, RunningJob, needs_chromium, read_one
from prefix_proxy import prefix_proxy
from support import FIXTURES, RunningServer

pytestmark = needs_chromium


NO_POLLING = """() => {
    const set = window.setTimeout;
    window.setTimeout = (work, wait, ...rest) => set(work, wait >= 1000 ? 2 ** 31 - 1 : wait, ...rest);
}"""


class Streams:
    """The event streams of a page: how many were opened, and which of them are over."""

    def __init__(self, page: Page) -> None:
        self.opened: list[Request] = []
        self.over: list[Request] = []
        page.on("request", lambda request: self._note(request, self.opened))
        page.on("requestfinished", lambda request: self._note(request, self.over))
        page.on("requestfailed", lambda request: self._note(request, self.over))

    def _note(self, request: Request, there: list[Request]) -> None:
        if request.url.endswith("/events"):
            there.append(request)


def look_at_live(page: Page, job: RunningJob) -> Streams:
    """Open a running job on a page that never asks of itself again: a second never passes, only less than that."""
    streams = Streams(page)
    page.evaluate(NO_POLLING)
    with page.expect_response(lambda answer: answer.url.endswith("/events") and answer.ok):
        page.evaluate(f"location.hash = 'batch/{job.id}'")
    expect(page.locator(".items .badge.leased")).to_be_visible()
    return streams


@pytest.fixture
def prefixed(server: RunningServer) -> Iterator[str]:
    with prefix_proxy(server.url, "/tools/ocr") as base:
        yield base


def test_a_row_changes_by_the_stream_alone(open_page: OpenPage, running_job: RunningJob) -> None:
    page = open_page()
    streams = look_at_live(page, running_job)
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
    streams = look_at_live(page, running_job)
    running_job.end()
    expect(page.locator(".items .badge.failed")).to_be_visible()
    assert len(streams.opened) == 1
