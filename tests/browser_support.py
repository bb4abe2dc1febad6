"""A real browser for all tests of the page; each test has a clean profile in it.

The fixtures reach the tests through the conftest beside them.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, Playwright, Request, expect, sync_playwright

from bench.chromium import find_chromium
from browser_profiles import DESKTOP, PATIENCE_MS, PHONE, READY, Look, Profile, Profiles, Watched
from ci_must import skipped_unless
from outside import Trap, trap
from steadyocr.errors import UndecodableImage
from steadyocr.jobs.models import Lease, NewItem, NewJob
from steadyocr.jobs.sql_store import open_job_store
from support import FIXTURES, RunningServer, running_server

_ARGUMENTS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    # A page by name over plain http is no secure context: no locks, no clipboard. That is how most people have it.
    "--host-resolver-rules=MAP ocr.lan 127.0.0.1",
]
# A longer one than the server's own would be taken for one of a clock that was set.
_LEASE_S = 30.0
_DAMAGED = UndecodableImage("damaged").to_wire()


def by_name(url: str) -> str:
    """A local address as one that is reached over the network by name."""
    return url.replace("127.0.0.1", "ocr.lan")


# Ended with the last browser test: it keeps an event loop running in this thread, and asyncio.run() refuses that.
@pytest.fixture(scope="package")
def playwright() -> Iterator[Playwright]:
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="package")
def outside() -> Iterator[Trap]:
    """What the browser wants of anywhere but this machine, whoever in it wants that."""
    with trap() as running:
        yield running


@pytest.fixture(scope="package")
def browser(playwright: Playwright, outside: Trap) -> Iterator[Browser]:
    running = playwright.chromium.launch(executable_path=find_chromium(), args=_ARGUMENTS + outside.arguments)
    yield running
    running.close()


@pytest.fixture(scope="package")
def server(remembering: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One server for all tests of the page that leave it as it was."""
    with running_server(tmp_path_factory.mktemp("server"), remembering, server__allowed_hosts="ocr.lan") as running:
        yield running


OpenPage = Callable[..., Page]

needs_chromium = skipped_unless(
    find_chromium() is not None, "no Chromium is installed (Debian's package is named chromium-headless-shell)"
)


@pytest.fixture(scope="package")
def profiles(browser: Browser) -> Iterator[Profiles]:
    """Browser profiles that one test after the other has for itself."""
    kept = Profiles(browser)
    yield kept
    kept.close()


@pytest.fixture
def watched() -> list[Watched]:
    """What is seen of the pages of this test, in the order of their opening; checked when it ends."""
    return []


@pytest.fixture
def open_page(profiles: Profiles, server: RunningServer, outside: Trap, watched: list[Watched]) -> Iterator[OpenPage]:
    """Open the page in a clean profile. Whatever the test is about: no outside request, no violation, no exception.

    The profile of an ordinary page is used by many tests, which saves half the time that a page takes to load; nothing
    of a test is left in it. With ``fresh`` it is a new one, whose cache is empty.
    """
    opened: list[Profile] = []

    def open_one(
        place: str = "",
        *,
        size: dict[str, int] = DESKTOP,
        locale: str = "en-GB",
        base: str = "",
        dark: bool = False,
        fresh: bool = False,
    ) -> Page:
        look = Look(size["width"], size["height"], locale, dark)
        profile = profiles.take(look, keep=not fresh)
        opened.append(profile)
        watched.append(profile.watch())
        return profile.open(base or server.url, place)

    yield open_one
    for profile in opened:
        profiles.give_back(profile)
    for watch in watched:
        watch.check()
    assert outside.take() == []


@pytest.fixture
def axe() -> Callable[[Page], list[str]]:
    """Run axe on a page, in light and in dark; returns what it has against it, rule and element.

    The two differ in colours alone, so that the dark page is asked about these only; and a phone has the same ones.
    """
    script = Axe().axe_script

    def violations(page: Page, **options: Any) -> list[Any]:
        found: list[Any] = page.evaluate(
            "async (options) => (await axe.run(options)).violations", {"resultTypes": ["violations"], **options}
        )
        return found

    def run(page: Page) -> list[str]:
        # Half a megabyte: once a page is enough.
        if not page.evaluate("'axe' in window"):
            page.evaluate(script)
        page.emulate_media(color_scheme="light")
        found = violations(page)
        if page.viewport_size != PHONE:
            page.emulate_media(color_scheme="dark")
            found += violations(page, runOnly=["color-contrast"])
        return [f"{rule['id']}: {node['html'][:160]}" for rule in found for node in rule["nodes"]]

    return run


def hurry(page: Page, times: int = 5) -> None:
    """Let whatever takes the page a second or more pass so many times as fast until it is loaded anew.

    How long it waits for an answer is among it, so a lot is for pages whose answers are scripted; and what is shown
    meanwhile is shown for so much less, too short to be seen for sure on a busy machine.
    """
    page.evaluate(
        """(times) => {
            const [set, now, start] = [window.setTimeout, Date.now, Date.now()];
            window.setTimeout = (work, wait, ...rest) => set(work, wait >= 1000 ? wait / times : wait, ...rest);
            Date.now = () => start + (now() - start) * times;
        }""",
        times,
    )


@contextlib.contextmanager
def requests_of(page: Page, where: str = "") -> Iterator[list[str]]:
    """The addresses of a page's requests meanwhile, without host, in which this is.

    To be told of all requests always would cost a tenth of what a page costs.
    """
    asked: list[str] = []

    def note(request: Request) -> None:
        address = urlsplit(request.url)._replace(scheme="", netloc="").geturl()
        if where in address:
            asked.append(address)

    page.on("request", note)
    try:
        yield asked
    finally:
        page.remove_listener("request", note)


def reload(page: Page) -> None:
    """Reload the page and wait until it listens: what is done to it before that moment is lost."""
    page.reload()
    page.locator(READY).wait_for()


def read_one(page: Page, name: str = "english.png") -> None:
    """Read one of the known pictures in the first tab."""
    page.locator("#panel-single input[data-role=files]").set_input_files(FIXTURES / name)
    page.locator("#panel-single[data-state=done]").wait_for()


# What is made and not revoked.
COUNT_URLS = """() => {
    window.urls = new Set();
    const { createObjectURL: make, revokeObjectURL: revoke } = URL;
    URL.createObjectURL = (blob) => { const url = make(blob); urls.add(url); return url; };
    URL.revokeObjectURL = (url) => { urls.delete(url); revoke(url); };
}"""

ENDED = "#panel-batch[data-job=ended]"


def picture(name: str, data: bytes, kind: str = "image/png") -> dict[str, Any]:
    """Describe a file as a file input takes it."""
    return {"name": name, "mimeType": kind, "buffer": data}


def send(page: Page, files: list[dict[str, Any]]) -> None:
    """Send files as one job and wait for its rows."""
    page.locator("#tab-batch").click()
    page.locator("#panel-batch input[data-role=files]").set_input_files(files)  # type: ignore[arg-type]
    page.locator(".items tbody tr").first.wait_for()


def row(page: Page, name: str) -> Locator:
    """Find the row of a file."""
    return page.locator(".items tbody tr").filter(has_text=name)


class RunningJob(NamedTuple):
    """A job under way; how to end it, and how to give it up, so that it may be tried again."""

    id: str
    end: Callable[[], bool]
    give_up: Callable[[], bool]


@pytest.fixture
def running_job(server: RunningServer) -> Iterator[RunningJob]:
    """A job that goes on until the test ends it, on a machine of any speed: another node holds its only item."""
    store = open_job_store(f"sqlite:///{Path(server.info()['settings']['data_dir']) / 'jobs' / 'jobs.db'}")
    item = NewItem(input_ref="0" * 64, name="elsewhere.png", size_bytes=100)
    try:
        leases: list[Lease] = []
        while not leases:  # else the server's own runner was there first
            store.submit(NewJob(items=(item,)))
            leases = store.claim("another node", lease_s=_LEASE_S)
        (lease,) = leases
        over = threading.Event()

        def hold() -> None:
            while not over.wait(_LEASE_S / 6):
                store.heartbeat(leases, lease_s=_LEASE_S)

        holder = threading.Thread(target=hold, name="another-node")
        holder.start()
        try:
            yield RunningJob(
                lease.job_id,
                lambda: store.fail(lease, _DAMAGED),
                lambda: store.fail(lease, _DAMAGED, dead=True),
            )
        finally:
            over.set()
            holder.join()
            store.fail(lease, _DAMAGED)
    finally:
        store.close()
