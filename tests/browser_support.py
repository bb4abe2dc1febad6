"""A real browser for all tests of the page; each test has a fresh profile in it.

The fixtures reach the tests through the conftest beside them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, expect, sync_playwright

from ci_must import skipped_unless
from support import RunningServer

DESKTOP = {"width": 1360, "height": 860}
PHONE = {"width": 390, "height": 844}
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    # A page by name over plain http is no secure context: no locks, no clipboard. That is how most people have it.
    "--host-resolver-rules=MAP ocr.lan 127.0.0.1",
]
# On a busy machine everything takes longer; a test that fails waits this long once.
_PATIENCE_MS = 30_000


def by_name(url: str) -> str:
    """A local address as one that is reached over the network by name."""
    return url.replace("127.0.0.1", "ocr.lan")


def find_chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser")


# Ended with the last browser test: it keeps an event loop running in this thread, and asyncio.run() refuses that.
@pytest.fixture(scope="package")
def playwright() -> Iterator[Playwright]:
    expect.set_options(timeout=_PATIENCE_MS)
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="package")
def browser(playwright: Playwright) -> Iterator[Browser]:
    running = playwright.chromium.launch(executable_path=find_chromium(), args=_ARGUMENTS)
    yield running
    running.close()


@dataclass(slots=True)
class Watched:
    """What the pages of a context did that they must not do.

    Attributes:
        outside: Requests to anywhere but the server.
        violations: What the content security policy forbade.
        faults: Exceptions that nobody caught.
        requests: Every request to the server, in order.
    """

    origin: str
    outside: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def attach(self, context: BrowserContext) -> None:
        context.on("request", lambda request: self._note(request.url))
        context.on("console", lambda message: self._hear(message.text))
        context.on("weberror", lambda error: self.faults.append(str(error.error)))

    def _note(self, url: str) -> None:
        if url.startswith(self.origin):
            self.requests.append(url.removeprefix(self.origin))
        elif not url.startswith(("blob:", "data:")):
            self.outside.append(url)

    def _hear(self, text: str) -> None:
        if "Content Security Policy" in text:
            self.violations.append(text)

    def check(self) -> None:
        assert self.outside == []
        assert self.violations == []
        assert self.faults == []


OpenPage = Callable[..., Page]

needs_chromium = skipped_unless(
    find_chromium() is not None, "no Chromium is installed (Debian's package is named chromium)"
)


@pytest.fixture
def watched() -> list[Watched]:
    """All contexts of this test; checked when it ends."""
    return []


@pytest.fixture
def open_page(browser: Browser, server: RunningServer, watched: list[Watched]) -> Iterator[OpenPage]:
    """Open the page in a fresh profile. Whatever the test is about: no outside request, no violation, no exception."""
    contexts: list[BrowserContext] = []

    def open_one(
        place: str = "", *, size: dict[str, int] = DESKTOP, locale: str = "en-GB", base: str = "", dark: bool = False
    ) -> Page:
        base = base or server.url
        context = browser.new_context(
            viewport=size,  # type: ignore[arg-type]
            locale=locale,
            color_scheme="dark" if dark else "light",
            has_touch=size is PHONE,
            is_mobile=size is PHONE,
            reduced_motion="reduce",
        )
        contexts.append(context)
        context.set_default_timeout(_PATIENCE_MS)
        if "127.0.0.1" in base:
            context.grant_permissions(["clipboard-read", "clipboard-write"], origin=base)
        watch = Watched(base)
        watch.attach(context)
        watched.append(watch)
        page = context.new_page()
        page.goto(f"{base}/{place}")
        page.locator("html[data-ready]").wait_for()
        return page

    yield open_one
    for context in contexts:
        context.close()
    for watch in watched:
        watch.check()


@pytest.fixture
def axe() -> Callable[[Page], list[str]]:
    """Run axe on a page; returns what it has against it, rule and element."""
    engine = Axe()

    def run(page: Page) -> list[str]:
        found = engine.run(page).response["violations"]
        return [f"{rule['id']}: {node['html'][:160]}" for rule in found for node in rule["nodes"]]

    return run
