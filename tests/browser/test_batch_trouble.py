"""The second tab when something is in its way: a busy server, one that is down, too much at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, Route, expect

from browser_profiles import DESKTOP, PHONE
from browser_support import ENDED, OpenPage, RunningJob, hurry, needs_chromium, picture, row, send
from fake_lab import FakeLab
from single_support import wait_for
from support import LIGHT, PATIENCE_S, KnownPicture, free_port, running_server

pytestmark = needs_chromium

FILES = "#panel-batch input[data-role=files]"


def sent_by(page: Page) -> list[Route]:
    """Hold what is sent as a job from now on; who releases it calls ``fallback``."""
    held: list[Route] = []
    page.route("**/v1/jobs", lambda route: held.append(route) if route.request.method == "POST" else route.fallback())
    return held


def with_limits(page: Page, **limits: int) -> None:
    """Let the service say from now on that jobs have these limits."""

    def change(route: Route) -> None:
        answer = route.fetch()
        info = answer.json()
        info["settings"]["jobs"].update(limits)
        route.fulfill(response=answer, json=info)

    page.route("**/v1/info", change)
    page.reload()
    expect(page.locator(".pill.ready")).to_be_visible()


def may_leave(page: Page) -> bool:
    return bool(page.evaluate("dispatchEvent(new Event('beforeunload', { cancelable: true }))"))


def test_busy_is_a_wait_and_the_job_is_made_once(open_page: OpenPage, english: KnownPicture) -> None:
    page = open_page()
    hurry(page)
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


def test_too_much_is_said_with_the_limit_and_not_tried_again(open_page: OpenPage, english: KnownPicture) -> None:
    page = open_page("#batch")
    held = sent_by(page)
    problem = page.get_by_role("alert")
    refusals = {"at most 4.3 GB": {"limit_bytes": 4 << 30}, "at most 10,000": {"limit": 10_000}}
    for sentence, details in refusals.items():
        page.locator(FILES).set_input_files([picture("one.png", english.data)])  # type: ignore[arg-type]
        sent = wait_for(page, held)
        held.clear()
        body = {"code": "payload_too_large", "detail": "a job may have so much", "retryable": False, **details}
        sent.fulfill(status=413, json=body)
        expect(problem).to_contain_text(sentence)
        expect(problem.get_by_role("button")).to_have_count(0)


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


def test_a_restart_is_survived_by_a_job_and_by_a_tab_entered_meanwhile(
    open_page: OpenPage, english: KnownPicture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, count = free_port(), 4
    monkeypatch.setenv("LIGHT_ENGINE_WORK_S", "1")
    with running_server(tmp_path, LIGHT, port=port, engines__count="1", jobs__lease_s="2") as first:
        page, other = open_page(base=first.url), open_page(base=first.url)
        send(page, [picture(f"{number}.png", english.data) for number in range(count)])
        page.locator(".items .badge.done").first.wait_for()
        first.process.kill()
        first.process.wait(PATIENCE_S)
        expect(page.locator("#banner")).to_be_visible()
        other.locator("#tab-batch").click()
        expect(other.locator("#panel-batch > .wait")).to_contain_text("does not answer")
    monkeypatch.delenv("LIGHT_ENGINE_WORK_S")
    with running_server(tmp_path, LIGHT, port=port, engines__count="1", jobs__lease_s="2"):
        other.locator("#panel-batch .card").wait_for()
        expect(other.locator("#panel-batch > .wait")).to_be_hidden()
        page.locator(ENDED).wait_for()
        expect(page.locator("#banner")).to_be_hidden()
        expect(page.locator(".items .badge.done")).to_have_count(count)


def test_a_file_that_changed_meanwhile_is_named_and_not_sent_again(
    open_page: OpenPage, english: KnownPicture, tmp_path: Path
) -> None:
    page = open_page("#batch")
    hurry(page)
    file = tmp_path / "late.png"
    file.write_bytes(english.data)

    def change_and_refuse(route: Route) -> None:
        file.write_bytes(english.data[:100])
        os.utime(file, (1, 1))
        route.fulfill(status=503, headers={"Retry-After": "1"}, json={"code": "queue_full", "detail": "full"})

    page.route("**/v1/jobs", change_and_refuse, times=1)
    page.locator(FILES).set_input_files(file)
    problem = page.get_by_role("alert")
    expect(problem).to_contain_text("cannot read late.png")
    expect(problem.get_by_role("button")).to_have_count(0)
    expect(page.locator(".sending")).to_be_hidden()
    expect(page.locator("#banner")).to_be_hidden()


def test_what_is_dropped_meanwhile_is_sent_next(open_page: OpenPage, english: KnownPicture) -> None:
    page = open_page("#batch")
    held = sent_by(page)
    assert may_leave(page)
    with page.expect_request("**/v1/jobs"):
        page.locator(FILES).set_input_files([picture("first.png", english.data)])  # type: ignore[arg-type]
    page.locator(FILES).set_input_files([picture("second.png", english.data)])  # type: ignore[arg-type]
    expect(page.locator(".toast")).to_contain_text("after the ones under way")
    assert len(held) == 1
    # Browsers ask only where somebody has done something on the page.
    page.locator(".sending .row span").first.click()
    with page.expect_event("dialog") as asked:
        page.evaluate("void setTimeout(() => location.reload())")
    assert asked.value.type == "beforeunload"
    asked.value.dismiss()
    with page.expect_request("**/v1/jobs"):
        held[0].fallback()
    expect(page.locator(".sending")).to_be_visible()
    expect(row(page, "first.png")).to_be_visible()
    assert not may_leave(page)
    held[1].fallback()
    expect(row(page, "second.png")).to_be_visible()
    expect(page.locator(".sending")).to_be_hidden()
    assert may_leave(page)


def test_sending_that_fails_says_so_over_an_open_batch_too(
    open_page: OpenPage, english: KnownPicture, running_job: RunningJob
) -> None:
    page = open_page(f"#batch/{running_job.id}")
    held = sent_by(page)
    expect(page.locator(".items .badge.leased")).to_be_visible()
    with page.expect_request("**/v1/jobs"):
        page.locator(FILES).set_input_files([picture("one.png", english.data)])  # type: ignore[arg-type]
    expect(page.locator(".sending")).to_be_visible()
    held[0].fulfill(status=507, json={"code": "insufficient_storage", "detail": "full"})
    problem = page.get_by_role("alert")
    expect(problem).to_contain_text("nearly full")
    assert may_leave(page)
    with page.expect_request("**/v1/jobs"):
        problem.get_by_role("button", name="Try again").click()
    expect(problem).to_have_count(0)
    held[1].fallback()
    expect(row(page, "one.png")).to_be_visible()


def test_an_answer_that_is_none_is_said(open_page: OpenPage, english: KnownPicture) -> None:
    page = open_page("#batch")
    held = sent_by(page)
    with page.expect_request("**/v1/jobs"):
        page.locator(FILES).set_input_files([picture("one.png", english.data)])  # type: ignore[arg-type]
    expect(page.locator(".sending")).to_be_visible()
    held[0].fulfill(status=200, body="<html>Please log in</html>")
    expect(page.get_by_role("alert")).to_contain_text("answered with an error")
    expect(page.locator(".sending")).to_be_hidden()


def test_what_the_server_would_refuse_is_not_sent(open_page: OpenPage, english: KnownPicture) -> None:
    page = open_page("#batch")
    held = sent_by(page)
    for limits, sentence in (
        ({"max_files": 1}, "Too many files at once; at most 1."),
        ({"max_upload_bytes": 2000}, "too large together; at most 2.0 kB"),
    ):
        with_limits(page, **limits)
        page.locator(FILES).set_input_files([picture(f"{name}.png", english.data) for name in "ab"])  # type: ignore[arg-type]
        expect(page.get_by_role("alert")).to_contain_text(sentence)
    assert held == []


def test_a_thousand_and_one_pictures_may_be_too_many_and_are_pictures(open_page: OpenPage) -> None:
    page = open_page("#batch")
    with_limits(page, max_files=1000)
    held = sent_by(page)
    page.locator(FILES).evaluate(
        """(input) => {
            const held = new DataTransfer();
            for (let n = 0; n <= 1000; n += 1) held.items.add(new File(['x'], `${n}.png`, { type: 'image/png' }));
            input.files = held.files;
            input.dispatchEvent(new Event('change'));
        }"""
    )
    expect(page.get_by_role("alert")).to_contain_text("at most 1,000")
    expect(page.locator(".toast")).to_have_count(0)
    assert held == []


def test_a_batch_that_is_gone_shows_nothing_of_the_one_before(open_page: OpenPage, running_job: RunningJob) -> None:
    page = open_page(f"#batch/{running_job.id}")
    expect(page.locator(".items .badge.leased")).to_be_visible()
    page.evaluate("location.hash = 'batch/none'")
    expect(page.get_by_role("alert")).to_contain_text("not there any more")
    expect(page.locator(".job").get_by_role("button")).to_have_count(0)
    expect(page.locator(".job h2")).to_be_hidden()


class EndedJob:
    """A job of many pictures that has ended; half of them failed. Names tell where they stand."""

    def __init__(self, page: Page, name: str = "ended", total: int = 120) -> None:
        self.total = total
        counts = {"total": total, "done": total // 2, "failed": total - total // 2, "dead": 0, "cancelled": 0}
        times = {"created_at": 1_795_480_000, "started_at": 1_795_480_001, "finished_at": 1_795_480_009}
        self.job: dict[str, Any] = {"id": name, "state": "done", "expired": 0, **counts, **times}
        page.route(f"**/v1/jobs/{name}", lambda route: route.fulfill(json=self.job))
        page.route(f"**/v1/jobs/{name}/items?*", self.answer)

    def answer(self, route: Route) -> None:
        asked = parse_qs(urlsplit(route.request.url).query)
        places = range(0, 2 * self.job["failed"], 2) if "state" in asked else range(self.total)
        start = int(asked["offset"][0])
        route.fulfill(json={"items": [self._item(place) for place in places[start : start + 50]]})

    def _item(self, place: int) -> dict[str, Any]:
        same = {"kind": "ocr", "attempts": 1, "parent": None, "size_bytes": 1000}
        error = {"code": "undecodable_image", "message": "damaged", "details": {}}
        state = {"state": "done", "error": None} if place % 2 else {"state": "failed", "error": error}
        return {"position": place, "name": f"{place + 1}-{'without_a_blank_' * 12}.png", **same, **state}


def test_turning_pages_fast_ends_at_the_page_that_is_named(open_page: OpenPage) -> None:
    page = open_page()
    ended = EndedJob(page)
    page.evaluate("location.hash = 'batch/ended'")
    first = page.locator(".items tbody tr .file-cell").first
    expect(first).to_contain_text("1-without")
    late: list[Route] = []
    page.route("**/v1/jobs/ended/items?offset=50*", lambda route: late.append(route), times=1)
    after = page.get_by_role("button", name="Next page")
    after.click()
    wait_for(page, late)
    after.click()
    expect(first).to_contain_text("101-without")
    with page.expect_response("**/items?offset=50*"):
        ended.answer(late[0])
    page.wait_for_timeout(50)
    expect(first).to_contain_text("101-without")
    expect(page.locator(".pager")).to_contain_text("101–120 / 120")
    # Busy is a wait here too, and nobody is at a page that is not shown.
    busy = {"code": "unavailable", "detail": "the store is busy"}
    page.route(
        "**/items?offset=50*", lambda route: route.fulfill(status=503, headers={"Retry-After": "1"}, json=busy), times=1
    )
    page.get_by_role("button", name="Previous page").click()
    expect(page.locator(".job .wait")).to_contain_text("busy")
    expect(first).to_contain_text("51-without")
    expect(page.locator(".job .wait")).to_be_hidden()
    # What was looked for in one batch is not looked for in the next one.
    page.get_by_role("button", name="Failed", exact=True).click()
    expect(page.locator(".pager")).to_contain_text("1–50 / 60")
    EndedJob(page, "other", 1)
    page.evaluate("location.hash = 'batch/other'")
    expect(page.locator(".items tbody tr")).to_have_count(1)
    expect(page.get_by_role("button", name="All", exact=True)).to_have_attribute("aria-pressed", "true")


def test_a_page_of_what_failed_that_is_gone_gives_way_to_the_last_one(open_page: OpenPage) -> None:
    page = open_page()
    hurry(page)
    ended = EndedJob(page, total=320)

    def retry(route: Route) -> None:
        ended.job.update(state="running", failed=60, finished_at=None)
        route.fulfill(json=ended.job)

    page.route("**/v1/jobs/ended/retry", retry)
    page.evaluate("location.hash = 'batch/ended'")
    page.get_by_role("button", name="Failed", exact=True).click()
    pager = page.locator(".pager")
    for start in (1, 51, 101):
        expect(pager).to_contain_text(f"{start}–{start + 49} / 160")
        page.get_by_role("button", name="Next page").press("Enter")
    expect(pager).to_contain_text("151–160 / 160")
    # Where a button is off or gone the keyboard stays nearby.
    expect(page.get_by_role("button", name="Previous page")).to_be_focused()
    page.get_by_role("button", name="Retry failed").press("Enter")
    expect(pager).to_contain_text("51–60 / 60")
    expect(page.locator(".items tbody tr")).to_have_count(10)
    # Others try again too, and what they do is seen here without a click.
    ended.job["failed"] = 20
    expect(page.locator(".items tbody tr")).to_have_count(20)
    ended.job["failed"] = 0
    expect(page.get_by_role("link", name="All batches")).to_be_focused()
    # Taken up elsewhere after its end, it is followed again.
    ended.job.update(state="done", finished_at=1_795_480_009)
    page.locator(ENDED).wait_for()
    ended.job.update(state="running", failed=10, finished_at=None)
    page.get_by_role("button", name="All", exact=True).click()
    page.locator("#panel-batch[data-job=open]").wait_for()
    ended.job.update(state="done", finished_at=1_795_480_019)
    page.locator(ENDED).wait_for()


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_long_names_stay_on_the_page(open_page: OpenPage, size: dict[str, int]) -> None:
    page = open_page(size=size)
    EndedJob(page, total=3)
    lab = FakeLab()
    lab.datasets = [{"name": "receipts_of_the_year_2026_" * 5}]
    lab.attach(page)
    # Whatever is cut off or hangs out, at its right.
    beyond = """(tab) => [...document.querySelectorAll(`#panel-${tab} *`)]
        .filter((one) => one.getBoundingClientRect().right > innerWidth + 1).map((one) => one.outerHTML.slice(0, 80))"""
    page.evaluate("location.hash = 'batch/ended'")
    expect(page.locator(".items tbody tr")).to_have_count(3)
    assert page.evaluate(beyond, "batch") == []
    page.locator("#tab-tune").click()
    page.locator(".report .note").wait_for()
    form, choice = page.locator("#panel-tune .bench-form"), page.locator("#tune-dataset")
    widths = [one.evaluate("(one) => one.getBoundingClientRect().right") for one in (form, choice)]
    assert widths[1] < widths[0]
    page.get_by_role("button", name="Start training").click()
    page.locator("#panel-tune[data-run=finished]").wait_for()
    assert page.evaluate(beyond, "tune") == []
    page.locator("#tab-export").click()
    expect(page.locator("#export-model option")).to_have_count(3)
    assert page.evaluate(beyond, "export") == []


def test_a_batch_is_opened_and_left_by_keyboard(open_page: OpenPage) -> None:
    page = open_page("#batch")
    ended = EndedJob(page, total=3)
    page.route("**/v1/jobs?*", lambda route: route.fulfill(json={"jobs": [ended.job]}))
    page.locator("#tab-single").click()
    page.locator("#tab-batch").click()
    page.locator("#panel-batch .card[href$=ended]").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="All batches")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Choose files")).to_be_focused()


def test_whoever_looks_at_something_else_is_not_fetched_back(open_page: OpenPage, english: KnownPicture) -> None:
    page = open_page("#batch")
    held = sent_by(page)
    page.locator(FILES).set_input_files([picture("one.png", english.data)])  # type: ignore[arg-type]
    wait_for(page, held)
    page.locator("#tab-single").click()
    with page.expect_response("**/v1/jobs") as accepted:
        held[0].fallback()
    expect(page.locator(".toast")).to_contain_text("was sent")
    expect(page.locator("#panel-single")).to_be_visible()
    page.locator("#tab-batch").click()
    page.locator(f"#panel-batch .card[href$='{accepted.value.json()['id']}']").click()
    expect(row(page, "one.png")).to_be_visible()
