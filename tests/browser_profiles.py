"""Browser profiles for the tests of the page: clean ones, used again by one test after the other, and watched."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Frame, Page, WebError

DESKTOP = {"width": 1360, "height": 860}
PHONE = {"width": 390, "height": 844}
READY = "html[data-ready]"
# On a busy machine everything takes longer; a test that fails waits this long once.
PATIENCE_MS = 60_000
# Returns whether the page is shown as for the dark.
_FORGET = """() => {
  localStorage.clear();
  sessionStorage.clear();
  return matchMedia("(prefers-color-scheme: dark)").matches;
}"""


@dataclass(slots=True)
class Watched:
    """What a page and those beside it did that they must not do.

    Attributes:
        violations: What the content security policy forbade.
        faults: Exceptions that nobody caught.
    """

    violations: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def hear(self, told: ConsoleMessage | WebError) -> None:
        """Take notice of what a page has done."""
        if isinstance(told, WebError):
            self.faults.append(str(told.error))
        elif "Content Security Policy" in told.text:
            self.violations.append(told.text)

    def check(self) -> None:
        assert self.violations == []
        assert self.faults == []


def watch(context: BrowserContext, who: Callable[[], Watched]) -> None:
    """Have someone watch all pages of a context; who it is may change, as telling the browser so takes its time."""
    context.on("console", lambda message: who().hear(message))
    context.on("weberror", lambda error: who().hear(error))


class Look(NamedTuple):
    """What a page is seen with."""

    width: int
    height: int
    locale: str
    dark: bool

    @property
    def scheme(self) -> Any:
        return "dark" if self.dark else "light"


class Profile:
    """One page in a browser profile of its own."""

    def __init__(self, browser: Browser, look: Look, *, keep: bool) -> None:
        size = {"width": look.width, "height": look.height}
        self.look = look
        self.keep = keep
        self._watched = Watched()
        self._context = browser.new_context(
            viewport=size,  # type: ignore[arg-type]
            locale=look.locale,
            color_scheme=look.scheme,
            has_touch=size == PHONE,
            is_mobile=size == PHONE,
            reduced_motion="reduce",
        )
        self._context.set_default_timeout(PATIENCE_MS)
        self.page = self._context.new_page()
        self._granted: set[str] = set()
        # What differs in the place only is not loaded again, and a way round by a blank page doubles what it costs.
        self._marks = itertools.cycle(["", "?"])
        # Until a test's own page is there, it is the page of the test before that does something.
        self._base = ""
        self._address = ""
        self._arrived = False
        self.page.on("framenavigated", self._arrive)
        watch(self._context, lambda: self._watched if self._arrived else Watched())

    def open(self, base: str, place: str = "") -> Page:
        """Load a server's page anew, at a place on it."""
        self._context.set_offline(False)
        if "127.0.0.1" in base and base not in self._granted:
            self._context.grant_permissions(["clipboard-read", "clipboard-write"], origin=base)
            self._granted.add(base)
        self._base = base
        self._address = f"{base}/{next(self._marks)}"
        self.page.goto(self._address + place)
        self.page.locator(READY).wait_for()
        return self.page

    def watch(self) -> Watched:
        """Begin to watch what its pages do, from the one on that is opened next."""
        self._watched = Watched()
        self._address = ""
        self._arrived = False
        return self._watched

    def _arrive(self, frame: Frame) -> None:
        mine = frame == self.page.main_frame and frame.url.partition("#")[0] == self._address
        self._arrived = self._arrived or mine

    def clean(self) -> bool:
        """Forget all that a test has left; returns whether it is as good as new."""
        if not self.keep or self.page.is_closed() or not self.page.url.startswith(f"{self._base}/"):
            return False
        for page in self._context.pages:
            if page != self.page:
                page.close()
        # It is there until the next one loads; what it still wants must not reach the server that others use.
        self._context.set_offline(True)
        dark = self.page.evaluate(_FORGET)
        self.page.unroute_all(behavior="ignoreErrors")
        # Either makes the whole page be styled and drawn anew, also where it changes nothing.
        size = {"width": self.look.width, "height": self.look.height}
        if self.page.viewport_size != size:
            self.page.set_viewport_size(size)  # type: ignore[arg-type]
        if dark != self.look.dark:
            self.page.emulate_media(color_scheme=self.look.scheme)
        return True

    def close(self) -> None:
        self._context.close()


class Profiles:
    """Profiles that are free: at most one for each way to look at a page."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._free: dict[Look, Profile] = {}

    def take(self, look: Look, *, keep: bool = True) -> Profile:
        """Have a clean profile for oneself; one that is not kept is a new one."""
        free = self._free.pop(look, None) if keep else None
        return free or Profile(self._browser, look, keep=keep)

    def give_back(self, profile: Profile) -> None:
        """Keep it for the next who wants such a one, or close it."""
        if profile.clean() and profile.look not in self._free:
            self._free[profile.look] = profile
        else:
            profile.close()

    def close(self) -> None:
        for profile in self._free.values():
            profile.close()
