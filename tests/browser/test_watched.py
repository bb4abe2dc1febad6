"""A canary: what every test of the page asserts by the way can fail."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from browser_profiles import Watched, watch
from browser_support import needs_chromium
from support import RunningServer, free_port

pytestmark = needs_chromium

INLINE = "document.body.append(Object.assign(document.createElement('script'), { textContent: 'window.ran = true' }))"


@pytest.fixture
def seen(browser: Browser, server: RunningServer) -> Iterator[tuple[Page, Watched]]:
    """The page as it is, and what is seen of it, which nobody checks but the test."""
    context = browser.new_context()
    seen = Watched(server.url)
    watch(context, lambda: seen)
    page = context.new_page()
    page.goto(f"{server.url}/")
    page.locator("html[data-ready]").wait_for()
    seen.check()
    yield page, seen
    context.close()


def test_an_inline_script_does_not_run_and_is_noticed(seen: tuple[Page, Watched]) -> None:
    page, watch = seen
    with page.expect_console_message(lambda message: "Content Security Policy" in message.text):
        page.evaluate(INLINE)
    assert page.evaluate("window.ran") is None
    assert watch.violations
    with pytest.raises(AssertionError):
        watch.check()


def test_an_outside_request_is_forbidden_and_noticed(seen: tuple[Page, Watched]) -> None:
    page, watch = seen
    elsewhere = f"http://127.0.0.1:{free_port()}/"
    with page.expect_console_message(lambda message: "Content Security Policy" in message.text):
        assert page.evaluate("(url) => fetch(url).then(() => 'came', () => 'refused')", elsewhere) == "refused"
    with pytest.raises(AssertionError):
        watch.check()
    # And where no policy keeps it back, it is seen as what it is.
    other = page.context.new_page()
    watch.violations.clear()
    with other.expect_request(elsewhere):
        other.evaluate("(url) => fetch(url).catch(() => null)", elsewhere)
    assert elsewhere in watch.outside
    with pytest.raises(AssertionError):
        watch.check()


def test_an_exception_that_nobody_catches_is_noticed(seen: tuple[Page, Watched]) -> None:
    page, watch = seen
    with page.expect_event("pageerror"):
        page.evaluate("setTimeout(() => { throw new Error('oh'); })")
    with pytest.raises(AssertionError):
        watch.check()
