"""What lies on top of the page: how it comes up, what is in it at once, what closes it and what does not."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, Route, expect

from browser_support import COUNT_URLS, OpenPage, needs_chromium, read_one
from fake_lab import FakeLab
from single_support import held, wait_for

pytestmark = needs_chromium


def press_twice(page: Page, target: Locator) -> None:
    """Click twice at one place, as a double click does; what the first click does shows before the second one."""
    box = target.bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.click(x, y)
    page.wait_for_timeout(200)
    page.mouse.down(click_count=2)
    page.mouse.up(click_count=2)


def open_drawer(page: Page) -> Locator:
    """Open the history; returns the rows of its readings."""
    page.locator("#history-button").click()
    rows = page.locator(".drawer section").first.locator("li")
    rows.first.wait_for()
    return rows


def test_a_dialog_is_closed_by_a_click_beside_it_only(open_page: OpenPage) -> None:
    page = open_page()
    # In one go: without keys the page hides the button whenever it has asked the server how it is.
    page.locator("#key-button").evaluate("(button) => { button.hidden = false; button.click(); }")
    box, field = page.get_by_role("dialog", name="API key"), page.get_by_label("Key", exact=True)
    expect(field).to_be_focused()
    page.keyboard.type("open-sesame")
    place, outer = field.bounding_box(), box.bounding_box()
    assert place
    assert outer
    # The text is selected with the mouse, which is let go beside the dialog.
    page.mouse.move(place["x"] + 80, place["y"] + 10)
    page.mouse.down()
    page.mouse.move(outer["x"] - 40, place["y"] + 10)
    page.mouse.up()
    page.wait_for_timeout(50)
    expect(box).to_be_visible()
    expect(field).to_have_value("open-sesame")
    page.mouse.click(outer["x"] - 40, place["y"] + 10)
    expect(box).to_be_hidden()
    # The history is higher than what is in it: what other tests have left in it would lie where is clicked.
    nothing = {"enabled": True, "shared": True, "keep_s": 604_800, "entries": []}
    page.route("**/v1/history?*", lambda route: route.fulfill(json=nothing))
    page.route("**/v1/jobs?*", lambda route: route.fulfill(json={"jobs": []}))
    page.locator("#history-button").click()
    drawer = page.locator(".drawer")
    expect(drawer).to_contain_text("Nothing has been read yet")
    place = drawer.bounding_box()
    assert place
    page.mouse.click(place["x"] + 60, place["y"] + place["height"] - 10)
    page.wait_for_timeout(50)
    expect(drawer).to_be_visible()
    page.mouse.click(place["x"] - 60, place["y"] + place["height"] / 2)
    expect(drawer).to_be_hidden()


def test_two_clicks_on_delete_delete_one_reading(open_page: OpenPage) -> None:
    page = open_page()
    entries = [
        {"id": name, "at": 1_795_480_000, "first_line": name, "lines": 3, "width": 40, "height": 30}
        for name in ("first", "second", "third")
    ]
    gone: list[str] = []

    def answer(route: Route) -> None:
        if route.request.method == "DELETE":
            gone.append(route.request.url.rsplit("/", 1)[1])
            # The last one was deleted in another tab already.
            missing = {"code": "not_found", "detail": "gone"}
            route.fulfill(status=204) if len(gone) < 3 else route.fulfill(status=404, json=missing)
        else:
            left = [entry for entry in entries if entry["id"] not in gone]
            route.fulfill(json={"enabled": True, "shared": True, "keep_s": 604_800, "entries": left})

    for path in ("**/v1/history?*", "**/v1/history/*"):
        page.route(path, answer)
    page.route("**/v1/jobs?*", lambda route: route.fulfill(json={"jobs": []}))
    rows = open_drawer(page)
    press_twice(page, rows.first.get_by_role("button", name="Delete"))
    expect(rows).to_have_count(2)
    page.wait_for_timeout(100)
    assert gone == ["first"]
    # The keyboard stays where rows are deleted; with the last one goes what is said about them.
    expect(rows.first.get_by_role("button", name="Delete")).to_be_focused()
    page.keyboard.press("Enter")
    expect(rows).to_have_count(1)
    expect(rows.first.get_by_role("button", name="Delete")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".drawer")).to_contain_text("Nothing has been read yet")
    expect(page.get_by_role("button", name="Delete all")).to_be_hidden()
    assert gone == ["first", "second", "third"]


def test_a_reading_is_there_before_its_picture(open_page: OpenPage) -> None:
    page = open_page()
    read_one(page)
    texts = page.locator("#panel-single .lines .text").all_text_contents()
    entry = open_drawer(page).first.locator(".entry")
    expect(page.locator(".drawer span.thumb")).to_have_count(0)
    page.evaluate(COUNT_URLS)
    waiting = held(page, "**/v1/history/*/image")
    entry.click()
    reader = page.locator("dialog.reader")
    image = wait_for(page, waiting)
    assert reader.locator(".lines .text").all_text_contents() == texts
    reader.get_by_role("button", name="Copy all").click()
    assert page.evaluate("navigator.clipboard.readText()") == "\n".join(texts)
    reader.locator(".line").nth(1).focus()
    image.continue_()
    expect(reader.locator(".sheet img")).to_be_visible()
    expect(reader.locator(".quads polygon")).to_have_count(len(texts))
    expect(reader.locator('.quads [data-line="1"]')).to_have_class("picked")
    expect(reader.locator(".line").nth(1)).to_be_focused()
    page.keyboard.press("Escape")
    # Closed before the picture comes: nothing of it is kept.
    waiting.clear()
    entry.click()
    image = wait_for(page, waiting)
    page.keyboard.press("Escape")
    expect(reader).to_have_count(0)
    image.continue_()
    page.wait_for_timeout(200)
    assert page.evaluate("urls.size") == 0


def test_two_clicks_ask_once_and_open_one_reader_which_going_back_closes(open_page: OpenPage) -> None:
    page = open_page()
    page.locator("#tab-batch").click()
    page.locator("#tab-single").click()
    read_one(page)
    entry = open_drawer(page).first.locator(".entry")
    clear = page.get_by_role("button", name="Delete all")
    question = page.get_by_role("dialog", name="Delete")
    press_twice(page, clear)
    expect(question).to_be_visible()
    question.get_by_role("button", name="Cancel").click()
    expect(question).to_have_count(0)
    expect(clear).to_be_focused()
    late: list[Route] = []
    page.route("**/v1/history/*", lambda route: late.append(route))
    entry.dblclick()
    while len(late) < 2:  # the test's own time limit bounds this
        page.wait_for_timeout(20)
    for route in late:
        route.continue_()
    reader = page.locator("dialog.reader")
    reader.locator(".sheet img").wait_for()
    page.wait_for_timeout(100)
    expect(reader).to_have_count(1)
    page.go_back()
    expect(page.locator("#panel-batch")).to_be_visible()
    expect(page.locator("dialog:modal")).to_have_count(0)


def test_two_clicks_on_history_open_one_drawer(open_page: OpenPage) -> None:
    page = open_page(fresh=True)
    waiting: list[Route] = []
    page.route("**/parts/history.js", lambda route: waiting.append(route))
    page.locator("#history-button").dblclick()
    wait_for(page, waiting).continue_()
    drawer = page.locator(".drawer")
    expect(drawer.get_by_label("Keep what I read")).to_be_visible()
    page.wait_for_timeout(100)
    expect(drawer).to_have_count(1)
    page.keyboard.press("Escape")
    expect(drawer).to_be_hidden()


def test_a_wait_is_over_when_nothing_waits(open_page: OpenPage) -> None:
    page = open_page()
    job = {"id": "1", "created_at": 1_795_480_000, "state": "finished", "done": 2, "total": 2}
    page.route("**/v1/jobs?*", lambda route: route.fulfill(json={"jobs": [job]}))
    waiting = held(page, "**/v1/history?*")
    page.locator("#history-button").click()
    drawer = page.locator(".drawer")
    expect(drawer.locator(".badge")).to_be_visible()
    late = wait_for(page, waiting)
    late.fulfill(status=503, headers={"Retry-After": "1"}, json={"code": "unavailable", "detail": "busy"})
    expect(drawer.locator(".wait")).to_be_visible()
    expect(drawer).to_contain_text("Seen by everybody")
    expect(drawer.locator(".wait")).to_be_hidden()


def test_a_missing_laboratory_changes_its_language(open_page: OpenPage) -> None:
    page = open_page()
    FakeLab(available=False).attach(page)
    page.locator("#tab-tune").click()
    expect(page.locator("#panel-tune")).to_contain_text("There is no training")
    page.locator("#language-button").click()
    expect(page.locator("#panel-tune")).not_to_contain_text("There is no training")
