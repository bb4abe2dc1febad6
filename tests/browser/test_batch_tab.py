"""The second tab: many pictures as one job, against the real job engine."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from browser_profiles import DESKTOP, PHONE
from browser_support import ENDED, OpenPage, RunningJob, hurry, needs_chromium, picture, requests_of, row, send
from support import KnownPicture, RunningServer

pytestmark = needs_chromium


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


def test_what_was_left_out_of_a_page_is_said_in_a_batch_too(open_page: OpenPage, english: KnownPicture) -> None:
    image, stream = english.first_line().image.convert("RGB"), io.BytesIO()
    large = image.resize((1600, 1600 * image.height // image.width))
    large.save(stream, "TIFF", compression="tiff_deflate", save_all=True, append_images=[large])
    page = open_page()
    send(page, [picture("pages.tif", stream.getvalue(), "image/tiff")])
    row(page, "pages.tif").get_by_role("button", name="Open").click()
    notes = page.locator("dialog.reader .notes")
    expect(notes).to_contain_text("Only the first of 2 pages was read")
    expect(notes).to_contain_text("of its size")
    expect(notes.get_by_role("button")).to_have_count(0)


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
    job_id = page.url.rsplit("/", 1)[1]
    page.get_by_role("link", name="All batches").click()
    page.locator(f"#panel-batch .card[href$='{job_id}']").click()
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


def test_without_a_stream_it_asks(open_page: OpenPage, running_job: RunningJob) -> None:
    page = open_page()
    hurry(page)
    page.route("**/v1/jobs/*/events", lambda route: route.abort())
    page.evaluate(f"location.hash = 'batch/{running_job.id}'")
    expect(page.locator(".items .badge.leased")).to_be_visible()
    running_job.end()
    expect(page.locator(".items .badge.failed")).to_be_visible()
    page.locator(ENDED).wait_for()


def test_what_is_no_picture_is_left_out_before_it_travels(open_page: OpenPage, english: KnownPicture) -> None:
    page = open_page()
    send(page, [picture("one.png", english.data), picture("notes.docx", b"words", "application/msword")])
    expect(page.locator(".items tbody tr")).to_have_count(1)


def test_a_bad_picture_is_not_offered_to_be_tried_again(open_page: OpenPage) -> None:
    page = open_page()
    send(page, [picture("bad.png", b"words and no pixels")])
    page.locator(ENDED).wait_for()
    expect(row(page, "bad.png").get_by_role("button")).to_have_count(0)


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


def drop_on(page: Page, *paths: Path) -> None:
    """Drop files or folders from the file manager on the page."""
    # The module of a tab comes after the page is ready, and nobody listens before.
    page.locator("[role=tabpanel]:visible .drop").wait_for()
    devtools = page.context.new_cdp_session(page)
    what = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        devtools.send("Input.dispatchDragEvent", {"type": kind, "x": 600, "y": 300, "data": what})


def test_a_dropped_folder_keeps_its_paths(open_page: OpenPage, english: KnownPicture, tmp_path: Path) -> None:
    for name in ("a/scan.png", "b/scan.png"):
        file = tmp_path / "scans" / name
        file.parent.mkdir(parents=True)
        file.write_bytes(english.data)
    page = open_page("#batch")
    drop_on(page, tmp_path / "scans")
    for name in ("scans/a/scan.png", "scans/b/scan.png"):
        expect(row(page, name)).to_be_visible()


def test_rows_show_the_number_of_lines(open_page: OpenPage, english: KnownPicture) -> None:
    page = open_page()
    send(page, [picture("bad.png", b"words and no pixels")])
    page.locator(ENDED).wait_for()
    expect(page.get_by_role("columnheader", name="Lines")).to_be_hidden()
    send(page, [picture("one.png", english.data), picture("bad.png", b"words and no pixels")])
    expect(row(page, "one.png").locator("td").nth(2)).to_have_text(str(len(english.texts)))
    expect(page.get_by_role("columnheader", name="Lines")).to_be_visible()
    expect(row(page, "bad.png").locator("td").nth(2)).to_have_text("")


def test_a_long_batch_tells_its_time_and_the_rest_is_cancelled(open_page: OpenPage, english: KnownPicture) -> None:
    """More pictures than any machine reads before the first seconds of it are measured."""
    count = 120
    page = open_page()
    send(page, [picture(f"{number}.png", english.data) for number in range(count)])
    expect(page.locator(".job")).to_contain_text(re.compile(r"\d+ of 120 pictures · about \d.* left"))
    # The rate may be known from the batch before, so the time may come before the first text.
    expect(page.locator(".items .badge.done").first).to_be_visible()
    page.get_by_role("button", name="Cancel the rest").click()
    page.locator(ENDED).wait_for()
    expect(page.locator(".job .badge").first).to_have_text("cancelled")
    expect(page.locator(".job")).to_contain_text(re.compile(r"\d+ cancelled"))
    expect(page.get_by_role("button", name="Cancel the rest")).to_be_hidden()
    # What has been read stays.
    expect(page.locator(".items .badge.done").first).to_be_visible()
    expect(page.get_by_role("button", name="Download all")).to_be_visible()
    with page.expect_response(lambda answer: "offset=50" in answer.url and answer.ok):
        page.get_by_role("button", name="Next page").click()
    expect(row(page, "119.png")).to_have_count(0)
    expect(row(page, "99.png")).to_be_visible()


@pytest.mark.parametrize(
    ("size", "name", "body"), [(DESKTOP, "Try again", {"positions": [0]}), (PHONE, "Retry failed", {})], ids=str
)
def test_what_failed_is_read_again_all_or_one(
    open_page: OpenPage, running_job: RunningJob, size: dict[str, int], name: str, body: dict[str, Any]
) -> None:
    page = open_page(f"#batch/{running_job.id}", size=size)
    expect(page.locator(".items .badge.leased")).to_be_visible()
    button = page.get_by_role("button", name=name)
    expect(button).to_have_count(0)
    running_job.give_up()
    expect(page.locator(".items .badge.dead")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    with page.expect_response(lambda answer: answer.url.endswith("/retry") and answer.ok) as waiting:
        button.click()
    assert waiting.value.request.post_data_json == body
    assert waiting.value.json()["dead"] == 0
    # The service takes it up where the other node gave up, and finds that its picture is gone.
    expect(page.locator(".items .why")).to_contain_text("not there any more")


def test_the_rows_of_an_ended_job_are_its_last(
    open_page: OpenPage, running_job: RunningJob, server: RunningServer
) -> None:
    page = open_page(f"#batch/{running_job.id}")
    expect(page.locator(".items .badge.leased")).to_be_visible()
    before = server.client.get(f"/v1/jobs/{running_job.id}/items").text
    told = []

    def tell_of_the_job(route: Route) -> None:
        answer = route.fetch()
        told.append(answer.json()["state"])
        route.fulfill(response=answer)

    def tell_of_items(route: Route) -> None:
        # Who has asked for the job already was not told by us.
        if not told or told[-1] == "done":
            route.continue_()
        else:
            route.fulfill(body=before, content_type="application/json")

    page.route(f"**/v1/jobs/{running_job.id}", tell_of_the_job)
    page.route(f"**/v1/jobs/{running_job.id}/items?*", tell_of_items)
    running_job.give_up()
    expect(page.locator(".items .badge.dead")).to_be_visible()


def test_the_list_of_batches_goes_with_what_happens(open_page: OpenPage, running_job: RunningJob) -> None:
    page = open_page()
    hurry(page)

    def tell_of_this_one(route: Route) -> None:
        jobs = route.fetch().json()["jobs"]
        route.fulfill(json={"jobs": [job for job in jobs if job["id"] == running_job.id]})

    page.route("**/v1/jobs?*", tell_of_this_one)
    page.locator("#tab-batch").click()
    card = page.locator(f"#panel-batch .card[href$='{running_job.id}']")
    expect(card.locator(".badge.running")).to_be_visible()
    card.focus()
    running_job.end()
    expect(card.locator(".badge.done")).to_be_visible()
    expect(card).to_contain_text("1 failed")
    expect(card).to_be_focused()
    # From then on nobody asks.
    with requests_of(page, "/v1/jobs") as asked:
        page.wait_for_timeout(500)
    assert asked == []


def test_a_chosen_folder_keeps_its_paths(open_page: OpenPage, english: KnownPicture, tmp_path: Path) -> None:
    names = ("scans/a/1.png", "scans/b/1.png", "scans/2.png")
    for name in (*names, "scans/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(english.data)
    page = open_page("#batch")
    page.locator("#panel-batch input[data-role=folder]").set_input_files(tmp_path / "scans")
    for name in names:
        expect(row(page, name)).to_be_visible()
    expect(page.locator(".items tbody tr")).to_have_count(len(names))
    page.locator(ENDED).wait_for()
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Download all").click()
    with zipfile.ZipFile(Path(waiting.value.path())) as archive:
        read = [name for name in archive.namelist() if name.endswith("1.png.txt")]
    assert len(read) == 2, "files of one name in two folders stay apart"


def test_what_cannot_be_read_is_left_out_of_a_dropped_folder(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page("#batch")
    page.evaluate(
        """() => {
            const no = (take, refuse) => refuse(new DOMException('locked', 'NotReadableError'));
            const file = (name, read) => ({ name, isFile: true, fullPath: `/scans/${name}`, file: read });
            const folder = (name, readEntries) => ({ name, isDirectory: true, createReader: () => ({ readEntries }) });
            const good = file('good.png', (take) => take(new File(['x'], 'good.png', { type: 'image/png' })));
            const parts = [[file('locked.png', no), good, folder('locked', no)], []];
            const scans = folder('scans', (take) => take(parts.shift()));
            DataTransferItem.prototype.webkitGetAsEntry = () => scans;
        }"""
    )
    drop_on(page, tmp_path)
    expect(page.locator(".toast")).to_contain_text("2 items cannot be read")
    expect(row(page, "scans/good.png")).to_be_visible()
    expect(page.locator(".items tbody tr")).to_have_count(1)


def test_a_folder_is_no_picture(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    drop_on(page, tmp_path)
    expect(page.locator(".toast")).to_contain_text("1 item cannot be read")
    expect(page.locator("#panel-single .drop")).to_be_visible()


def test_a_phone_is_not_asked_for_a_photograph_where_there_is_no_camera(open_page: OpenPage) -> None:
    page = open_page("#batch", size=PHONE)
    expect(page.locator("#panel-batch .drop h2")).to_have_text("Drop pictures, a zip or a folder")
    expect(page.locator("#panel-single .drop h2")).to_have_text("Choose or take a picture")


def test_rows_and_cards_change_their_language(open_page: OpenPage) -> None:
    page = open_page()
    page.locator("#tab-batch").click()
    send(page, [picture("bad.png", b"words and no pixels")])
    page.locator(ENDED).wait_for()
    page.locator("#language-button").click()
    expect(row(page, "bad.png").locator(".why")).to_contain_text("不支持此文件")
    page.get_by_role("link", name="全部批次").click()
    expect(page.locator("#panel-batch .card").first).to_contain_text("1 张图片")
    page.locator("#language-button").click()
    expect(page.locator("#panel-batch .card").first).to_contain_text("1 picture")


def test_a_line_without_text_is_not_copied(open_page: OpenPage, english: KnownPicture) -> None:
    page = open_page()
    send(page, [picture("one.png", english.data)])
    row(page, "one.png").get_by_role("button", name="Open").click()
    lines = page.locator("dialog.reader so-lines")
    lines.locator(".line").first.wait_for()
    lines.evaluate("(one) => one.setLines([{ id: 0, text: null, text_score: null, score: 0.9 }])")
    lines.locator(".line").focus()
    page.keyboard.press("c")
    lines.evaluate("(one) => one.setLines([{ id: 0, text: 'words', text_score: 0.9, score: 0.9 }])")
    page.keyboard.press("c")
    expect(page.locator(".toast")).to_have_text(["Copied"])
    assert page.evaluate("navigator.clipboard.readText()") == "words"
