"""What axe has against the page, at each place of it: nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from browser_profiles import DESKTOP, PHONE
from browser_support import OpenPage, RunningJob, hurry, needs_chromium, read_one
from fake_lab import FakeLab

pytestmark = needs_chromium

SIZES = pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
_LOW = {"width": 1360, "height": 130}
AxeRun = Callable[[Page], list[str]]


@SIZES
def test_axe_finds_nothing_in_readings(open_page: OpenPage, axe: AxeRun, size: dict[str, int]) -> None:
    page = open_page(size=size)
    expect(page.locator(".pill.ready")).to_be_visible()
    assert axe(page) == []
    wrong = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"this is no picture at all"}
    page.locator("#panel-single input[data-role=files]").set_input_files(wrong)  # type: ignore[arg-type]
    page.get_by_role("alert").wait_for()
    assert axe(page) == []
    read_one(page)
    page.locator(".lines .line").first.focus()
    page.locator(".adjust").evaluate("(details) => { details.open = true; }")
    assert axe(page) == []
    page.get_by_role("button", name="Download").click()
    page.get_by_role("menuitem").first.wait_for()
    assert axe(page) == []
    page.keyboard.press("Escape")
    page.locator(".pill").click()
    expect(page.locator(".health .fact").first).to_be_visible()
    assert axe(page) == []
    page.keyboard.press("Escape")
    page.locator("#history-button").click()
    page.locator(".drawer section").first.locator(".entry").first.wait_for()
    assert axe(page) == []
    page.locator(".drawer section").first.locator(".entry").first.click()
    page.locator("dialog.reader .lines .line").first.wait_for()
    assert axe(page) == []


def test_axe_finds_nothing_in_a_drawer_that_goes_on_below_the_fold(
    open_page: OpenPage, axe: AxeRun, running_job: RunningJob
) -> None:
    page = open_page(size=_LOW)
    page.locator("#history-button").click()
    link = page.locator(f".drawer a[href$='#batch/{running_job.id}']")
    link.wait_for()
    place = link.bounding_box()
    assert place
    assert place["y"] >= _LOW["height"]
    assert axe(page) == []
    link.click()
    page.locator("#panel-batch[data-job=open]").wait_for()


@SIZES
def test_axe_finds_nothing_in_batch_and_laboratory(
    open_page: OpenPage, axe: AxeRun, running_job: RunningJob, size: dict[str, int]
) -> None:
    page = open_page("#batch", size=size)
    hurry(page)
    FakeLab().attach(page)
    page.locator("#panel-batch .card").first.wait_for()
    assert axe(page) == []
    page.locator("#panel-batch .card").first.click()
    page.locator("#panel-batch[data-job=open] .items tbody tr").first.wait_for()
    assert axe(page) == []
    page.locator("#tab-tune").click()
    page.locator(".report .note").wait_for()
    page.locator("#panel-tune button[type=submit]").click()
    page.locator("#panel-tune[data-run=finished]").wait_for()
    assert axe(page) == []
    page.locator("#tab-export").click()
    page.get_by_role("button", name="fixed").click()
    page.locator("#panel-export button[type=submit]").click()
    page.locator("#panel-export .figures").wait_for()
    assert axe(page) == []
