"""A canary: what every test of the page asserts by the way can fail."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from browser_profiles import DESKTOP, PHONE, Look, Profiles, Watched
from browser_support import by_name, needs_chromium
from outside import Trap
from support import RunningServer

pytestmark = needs_chromium

LOOK = Look(DESKTOP["width"], DESKTOP["height"], "en-GB", dark=False)
INLINE = "document.body.append(Object.assign(document.createElement('script'), { textContent: 'window.ran = true' }))"


@pytest.fixture
def seen(profiles: Profiles, server: RunningServer) -> Iterator[tuple[Page, Watched]]:
    """The page as it is, and what is seen of it, which nobody checks but the test."""
    profile = profiles.take(LOOK)
    seen = profile.watch()
    page = profile.open(server.url)
    seen.check()
    yield page, seen
    profiles.give_back(profile)


def test_an_inline_script_does_not_run_and_is_noticed(seen: tuple[Page, Watched]) -> None:
    page, watch = seen
    with page.expect_console_message(lambda message: "Content Security Policy" in message.text):
        page.evaluate(INLINE)
    assert page.evaluate("window.ran") is None
    assert watch.violations
    with pytest.raises(AssertionError):
        watch.check()


def test_an_outside_request_is_forbidden_and_noticed(seen: tuple[Page, Watched], outside: Trap) -> None:
    page, watch = seen
    elsewhere = "http://elsewhere.example/"
    with page.expect_console_message(lambda message: "Content Security Policy" in message.text):
        assert page.evaluate("(url) => fetch(url).then(() => 'came', () => 'refused')", elsewhere) == "refused"
    with pytest.raises(AssertionError):
        watch.check()
    assert outside.take() == []
    # And where no policy keeps it back, it goes into the trap.
    other = page.context.new_page()
    for url in (elsewhere, "https://secret.example/"):
        other.evaluate("(url) => fetch(url).catch(() => null)", url)
    assert outside.take() == [f"GET {elsewhere}", "CONNECT secret.example:443"]


def test_an_exception_that_nobody_catches_is_noticed(seen: tuple[Page, Watched]) -> None:
    page, watch = seen
    with page.expect_event("pageerror"):
        page.evaluate("setTimeout(() => { throw new Error('oh'); })")
    with pytest.raises(AssertionError):
        watch.check()


def test_a_profile_that_is_used_again_is_as_good_as_new(browser: Browser, server: RunningServer) -> None:
    profiles = Profiles(browser)
    first = profiles.take(LOOK)
    page = first.open(server.url, "#batch")
    page.evaluate("localStorage.setItem('a', '1'); sessionStorage.setItem('b', '2'); window.c = 3")
    page.route("**/v1/options", lambda route: route.abort())
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    page.emulate_media(color_scheme="dark")
    profiles.give_back(first)
    # What the page before still wants does not reach the server.
    assert page.evaluate("fetch('livez').then(() => 'came', () => 'lost')") == "lost"
    again = profiles.take(LOOK)
    assert again is first
    page = again.open(server.url, "#batch")
    assert page.evaluate("[localStorage.length, sessionStorage.length, typeof window.c]") == [0, 0, "undefined"]
    assert page.evaluate("fetch('v1/options').then((answer) => answer.status)") == 200
    assert page.viewport_size == DESKTOP
    assert not page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    # A page beside it is closed; and it may have been at another server's.
    page.context.new_page()
    page = again.open(by_name(server.url))
    page.evaluate("localStorage.setItem('a', '1')")
    profiles.give_back(again)
    assert profiles.take(LOOK) is first
    assert page.context.pages == [page]
    page = again.open(by_name(server.url))
    assert page.evaluate("localStorage.length") == 0
    # One without its page is not used again; nor is a fresh one.
    page.close()
    profiles.give_back(again)
    fresh = profiles.take(LOOK, keep=False)
    profiles.give_back(fresh)
    last = profiles.take(LOOK)
    assert last not in (first, fresh)
    profiles.give_back(last)
    profiles.close()


def test_what_the_page_of_the_test_before_still_does_is_not_this_tests(browser: Browser, server: RunningServer) -> None:
    profiles = Profiles(browser)
    first = profiles.take(LOOK)
    watched = first.watch()
    page = first.open(server.url)
    fault = "setInterval(() => { throw new Error('late'); }, 20)"
    with page.expect_event("pageerror"):
        page.evaluate(fault)
    assert watched.faults
    profiles.give_back(first)
    with page.expect_event("pageerror"):
        again = profiles.take(LOOK).watch()
    page.evaluate("location.hash = 'batch'")
    first.open(server.url)
    again.check()
    with page.expect_event("pageerror"):
        page.evaluate(fault)
    assert again.faults
    profiles.close()
