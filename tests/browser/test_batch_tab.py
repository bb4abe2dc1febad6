"""The second tab: many pictures as one job, against the real job engine."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from browser_support import PHONE, OpenPage, RunningJob, Watched, needs_chromium
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
    # The page has forgotten the files; the server has not. What it cannot show has no empty square.
    expect(page.locator(".items .thumb")).to_have_count(0)
    expect(page.locator("dialog.reader .sheet img")).to_be_visible()
    assert page.locator("dialog.reader .lines .text").all_text_contents() == english.texts


def test_the_list_of_batches_leads_to_each(open_page: OpenPage, english: KnownPicture) -> None:
    page = open_page()
    send(page, [picture("one.png", english.data)])
    page.locator(ENDED).wait_for()
    page.get_by_role("link", name="All batches").click()
    page.locator("#panel-batch .card").first.click()
    expect(row(page, "one.png")).to_be_visible()
    delete = page.locator(".job .actions").get_by_role("button", name="Delete")
    delete.click()
    question = page.get_by_role("dialog")
    expect(question).to_contain_text("1 picture and its text are deleted for good")
    question.get_by_role("button", name="Cancel").click()
    expect(question).to_have_count(0)
    expect(row(page, "one.png")).to_be_visible()
    delete.click()
    question.get_by_role("button", name="Delete").click()
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


@pytest.mark.parametrize(
    ("details", "sentence"), [({"limit_bytes": 4 << 30}, "at most 4.3 GB"), ({"limit": 10_000}, "at most 10,000")]
)
def test_too_much_is_said_with_the_limit_and_not_tried_again(
    open_page: OpenPage, english: KnownPicture, details: dict[str, int], sentence: str
) -> None:
    page = open_page("#batch")
    body = {"code": "payload_too_large", "detail": "a job may have so much", "retryable": False, **details}

    def refuse(route: Route) -> None:
        route.fulfill(status=413, json=body) if route.request.method == "POST" else route.fallback()

    page.route("**/v1/jobs", refuse)
    page.locator("#panel-batch input[data-role=files]").set_input_files([picture("one.png", english.data)])  # type: ignore[arg-type]
    problem = page.get_by_role("alert")
    expect(problem).to_contain_text(sentence)
    expect(problem.get_by_role("button")).to_have_count(0)


def test_a_bad_picture_is_not_offered_to_be_tried_again(open_page: OpenPage) -> None:
    page = open_page()
    send(page, [picture("bad.png", b"words and no pixels")])
    page.locator(ENDED).wait_for()
    expect(row(page, "bad.png").get_by_role("button")).to_have_count(0)


def test_rows_show_the_number_of_lines(open_page: OpenPage, english: KnownPicture) -> None:
    page = open_page()

    def count(route: Route) -> None:
        answer = route.fetch().json()
        route.fulfill(json={**answer, "items": [{**item, "lines": 1234} for item in answer["items"]]})

    page.route("**/v1/jobs/*/items?*", count)
    send(page, [picture("one.png", english.data)])
    expect(row(page, "one.png").locator("td").nth(2)).to_have_text("1,234")
    expect(page.get_by_role("columnheader", name="Lines")).to_be_visible()


def test_on_a_phone_a_row_is_one_line(open_page: OpenPage, english: KnownPicture) -> None:
    page = open_page(size=PHONE)
    send(page, [picture("one-with-a-rather-long-name.png", english.data)])
    page.locator(ENDED).wait_for()
    tops = [
        page.locator(f".items tbody tr {part}").first.bounding_box() for part in (".link", ".badge", ".last button")
    ]
    middles = [box["y"] + box["height"] / 2 for box in tops if box]
    assert len(middles) == 3
    assert max(middles) - min(middles) < 12, middles


def test_busy_is_a_wait_for_the_list_and_for_cancel_too(open_page: OpenPage, running_job: RunningJob) -> None:
    page = open_page()
    busy = {"code": "unavailable", "detail": "the store is busy", "retryable": True}

    def refuse(route: Route) -> None:
        route.fulfill(status=503, headers={"Retry-After": "2"}, json=busy)

    page.route("**/v1/jobs?*", refuse, times=1)
    page.locator("#tab-batch").click()
    expect(page.locator("#panel-batch > .wait")).to_contain_text("busy")
    expect(page.locator("#panel-batch > .wait")).to_be_hidden()
    page.locator(f"#panel-batch .card[href$='{running_job.id}']").click()
    page.route("**/v1/jobs/*/cancel", refuse, times=1)
    with page.expect_response(lambda answer: answer.url.endswith("/cancel") and answer.ok):
        page.get_by_role("button", name="Cancel the rest").click()
        expect(page.locator(".job .wait")).to_contain_text("busy")
    expect(page.locator(".job .wait")).to_be_hidden()
    assert page.locator(".toast").count() == 0


def test_a_tab_entered_while_the_server_is_down_fills_when_it_is_back(open_page: OpenPage, tmp_path: Path) -> None:
    port = free_port()
    with running_server(tmp_path, port=port, engines__count="1") as first:
        assert first.client.post("/v1/jobs", files={"files": ("one.png", b"words")}).status_code == 202
        page = open_page(base=first.url)
    page.locator("#tab-batch").click()
    expect(page.locator("#panel-batch > .wait")).to_contain_text("does not answer")
    with running_server(tmp_path, port=port, engines__count="1"):
        page.locator("#panel-batch .card").wait_for()
        expect(page.locator("#panel-batch > .wait")).to_be_hidden()


def test_a_dropped_folder_keeps_its_paths(open_page: OpenPage, english: KnownPicture, tmp_path: Path) -> None:
    for name in ("a/scan.png", "b/scan.png"):
        file = tmp_path / "scans" / name
        file.parent.mkdir(parents=True)
        file.write_bytes(english.data)
    page = open_page("#batch")
    devtools = page.context.new_cdp_session(page)
    what = {"items": [], "files": [str(tmp_path / "scans")], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        devtools.send("Input.dispatchDragEvent", {"type": kind, "x": 600, "y": 300, "data": what})
    for name in ("scans/a/scan.png", "scans/b/scan.png"):
        expect(row(page, name)).to_be_visible()


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
