"""The second tab when something is in its way: a busy server, one that is down, too much at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from browser_support import ENDED, OpenPage, RunningJob, needs_chromium, picture, send
from support import KnownPicture, free_port, running_server

pytestmark = needs_chromium


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
    open_page: OpenPage, chinese: KnownPicture, tmp_path: Path
) -> None:
    port, count = free_port(), 4
    with running_server(tmp_path, port=port, engines__count="1", jobs__lease_s="2") as first:
        page, other = open_page(base=first.url), open_page(base=first.url)
        send(page, [picture(f"{number}.png", chinese.data) for number in range(count)])
        page.locator(".items .badge.done").first.wait_for()
        first.process.kill()
        first.process.wait(10)
        expect(page.locator("#banner")).to_be_visible()
        other.locator("#tab-batch").click()
        expect(other.locator("#panel-batch > .wait")).to_contain_text("does not answer")
    with running_server(tmp_path, port=port, engines__count="1", jobs__lease_s="2"):
        other.locator("#panel-batch .card").wait_for()
        expect(other.locator("#panel-batch > .wait")).to_be_hidden()
        page.locator(ENDED).wait_for()
        expect(page.locator("#banner")).to_be_hidden()
        expect(page.locator(".items .badge.done")).to_have_count(count)
