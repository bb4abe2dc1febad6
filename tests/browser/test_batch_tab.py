"""The second tab: many pictures as one job, against the real job engine."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from browser_support import PHONE, OpenPage, Watched, needs_chromium
from support import KnownPicture, free_port, running_server

pytestmark = needs_chromium

ENDED = "#panel-batch[data-job=ended]"


def picture(name: str, data: bytes, kind: str = "image/png") -> dict[str, Any]:
    return {"name": name, "mimeType": kind, "buffer": data}


def send(page: Page, files: list[dict[str, Any]]) -> None:
    page.locator("#tab-batch").click()
    page.locator("#panel-batch input[data-role=files]").set_input_files(files)  # type: ignore[arg-type]
    page.locator(".items tbody tr").first.wait_for()


def row(page: Page, name: str) -> Any:
    return page.locator(".items tbody tr").filter(has_text=name)


@pytest.mark.parametrize("size", [None, PHONE])
def test_from_pictures_to_archive(
    open_page: OpenPage, english: KnownPicture, chinese: KnownPicture, size: dict[str, int] | None
) -> None:
    page = open_page(**({"size": size} if size else {}))
    wrong = b"words and no pixels"
    send(page, [picture("one.png", english.data), picture("two.png", chinese.data), picture("bad.png", wrong)])
    page.locator(ENDED).wait_for()
    expect(page.locator(".job .badge").first).to_have_text("done")
    expect(row(page, "one.png").locator(".badge")).to_have_class(re.compile("done"))
    expect(row(page, "bad.png").locator(".why")).to_contain_text("not a picture")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    row(page, "two.png").get_by_role("button", name="Open").click()
    reader = page.locator("dialog.reader")
    expect(reader.locator(".lines .text")).to_have_count(len(chinese.texts))
    assert reader.locator(".lines .text").all_text_contents() == chinese.texts
    expect(reader.locator(".sheet img")).to_be_visible()
    page.keyboard.press("Escape")
    expect(reader).to_have_count(0)
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download all").click()
    with zipfile.ZipFile(Path(waiting.value.path())) as archive:
        assert english.texts[0] in "".join(
            archive.read(name).decode() for name in archive.namelist() if name.endswith(".txt")
        )
    page.get_by_role("button", name="Failed", exact=True).click()
    expect(page.locator(".items tbody tr")).to_have_count(1)


def test_a_zip_becomes_rows_and_a_reload_loses_nothing(open_page: OpenPage, english: KnownPicture) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for number in range(3):
            archive.writestr(f"scans/{number}.png", english.data)
    page = open_page()
    send(page, [picture("scans.zip", stream.getvalue(), "application/zip")])
    page.reload()
    page.locator(ENDED).wait_for()
    expect(row(page, "2.png").locator(".badge")).to_have_class(re.compile("done"))
    row(page, "2.png").get_by_role("button", name="Open").click()
    # The page has forgotten the files; the server has not.
    expect(page.locator("dialog.reader .sheet img")).to_be_visible()
    assert page.locator("dialog.reader .lines .text").all_text_contents() == english.texts


def test_the_list_of_batches_leads_to_each(open_page: OpenPage, english: KnownPicture) -> None:
    page = open_page()
    send(page, [picture("one.png", english.data)])
    page.locator(ENDED).wait_for()
    page.get_by_role("link", name="All batches").click()
    page.locator("#panel-batch .card").first.click()
    expect(row(page, "one.png")).to_be_visible()
    page.get_by_role("button", name="Delete").click()
    expect(page.locator("#panel-batch .drop")).to_be_visible()


def test_without_a_stream_it_asks(open_page: OpenPage, english: KnownPicture, watched: list[Watched]) -> None:
    page = open_page()
    page.route("**/v1/jobs/*/events", lambda route: route.abort())
    send(page, [picture("one.png", english.data)])
    page.locator(ENDED).wait_for()
    assert len([path for path in watched[0].requests if path.endswith("/items?offset=0&limit=50")]) >= 2


def test_busy_is_a_wait_and_the_job_is_made_once(open_page: OpenPage, english: KnownPicture) -> None:
    page = open_page()
    keys: list[str] = []

    def refuse_first(route: Route) -> None:
        if route.request.method != "POST":
            route.fallback()
            return
        keys.append(route.request.headers["idempotency-key"])
        if len(keys) == 1:
            route.fulfill(status=503, headers={"Retry-After": "1"}, json={"code": "queue_full", "detail": "full"})
        else:
            route.fallback()

    page.route("**/v1/jobs", refuse_first)
    send(page, [picture("one.png", english.data)])
    page.locator(ENDED).wait_for()
    assert len(keys) == 2
    assert len(set(keys)) == 1


def test_what_is_no_picture_is_left_out_before_it_travels(open_page: OpenPage, english: KnownPicture) -> None:
    page = open_page()
    send(page, [picture("one.png", english.data), picture("notes.docx", b"words", "application/msword")])
    expect(page.locator(".items tbody tr")).to_have_count(1)


def test_a_restart_in_the_middle_is_survived(open_page: OpenPage, chinese: KnownPicture, tmp_path: Path) -> None:
    port, count = free_port(), 6
    with running_server(tmp_path, port=port, engines__count="1", jobs__lease_s="2") as first:
        page = open_page(base=first.url)
        send(page, [picture(f"{number}.png", chinese.data) for number in range(count)])
        page.locator(".items .badge.done").first.wait_for()
        first.process.kill()
        first.process.wait(10)
        expect(page.locator("#banner")).to_be_visible()
    with running_server(tmp_path, port=port, engines__count="1", jobs__lease_s="2"):
        page.locator(ENDED).wait_for()
        expect(page.locator("#banner")).to_be_hidden()
        expect(page.locator(".items .badge.done")).to_have_count(count)
