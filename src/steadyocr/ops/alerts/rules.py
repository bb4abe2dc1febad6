"""When an incident begins and when it is over. Rules are told events and times; they read no clock and send nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

from steadyocr.ops.alerts.notices import Severity, say_span
from steadyocr.telemetry.events import Event

# Times that one window remembers; a storm beyond it is a storm all the same.
_MAX_REMEMBERED: Final = 1000

Sign = Callable[[Event], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What is said about a rule.

    Attributes:
        name: A stable name.
        severity: How bad it is.
        title: The incident in a few words.
        hint: What to look at first.
        listens: Names of the events it wants to be told.
        detail: Turns an event into a line about it; an empty one is left out.
    """

    name: str
    severity: Severity
    title: str
    hint: str
    listens: frozenset[str]
    detail: Callable[[Event], str] = lambda _: ""


class Rule(Protocol):
    """One kind of incident. Times are in seconds on a monotonic clock."""

    head: Head

    def observe(self, event: Event, now: float) -> None:
        """Take an event in."""

    def active(self, now: float) -> bool:
        """Whether an incident is to be raised if there is none."""

    def cleared(self, now: float) -> bool:
        """Whether an incident is over; not simply the opposite of active, so that nothing swings."""

    def told(self) -> None:
        """Take note that people were told: an incident was raised, or it is over."""

    def resume(self, now: float) -> None:
        """Take note that an incident from before a restart is still open."""

    def explain(self, now: float) -> str:
        """Say what was seen."""


@dataclass(slots=True)
class CountRule:
    """Raised by so many events within a sliding window; over when a whole window has passed without one.

    Whether there are enough is decided when an event comes and not when somebody looks, and that holds until it was
    told: neither the time between two looks nor a cool-down makes it go away.

    Attributes:
        head: What is said about it.
        threshold: Events that raise it.
        window_s: Length of the window, in seconds.
        sign: Which events count.
        due: There were enough, and nobody was told yet.
        last_at: When the last one came.
    """

    head: Head
    threshold: int
    window_s: float
    sign: Sign = lambda _: True
    due: bool = False
    last_at: float | None = None
    _times: deque[float] = field(default_factory=lambda: deque(maxlen=_MAX_REMEMBERED))
    _last_line: str = ""

    def observe(self, event: Event, now: float) -> None:
        """See :class:`Rule`."""
        if self.sign(event):
            self._forget(now)
            self._times.append(now)
            self.last_at = now
            self.due = self.due or len(self._times) >= self.threshold
            self._last_line = self.head.detail(event)

    def _forget(self, now: float) -> None:
        # An event exactly one window ago has left it.
        while self._times and now - self._times[0] >= self.window_s:
            self._times.popleft()

    def active(self, now: float) -> bool:  # noqa: ARG002 - decided when the events came
        """See :class:`Rule`."""
        return self.due

    def cleared(self, now: float) -> bool:
        """See :class:`Rule`."""
        return self.last_at is None or now - self.last_at >= self.window_s

    def told(self) -> None:
        """See :class:`Rule`."""
        self.due = False

    def resume(self, now: float) -> None:
        """See :class:`Rule`: it is over only after a whole quiet window from now on."""
        self.last_at = now
        self.due = False

    def times(self, now: float) -> list[float]:
        """Return when the events came that are within the window now."""
        return [at for at in self._times if now - at < self.window_s]

    def recall(self, times: Iterable[float], *, due: bool) -> None:
        """Take over what the window held before a restart.

        Args:
            times: As :meth:`times` gave them, on this process's clock.
            due: See the attribute.
        """
        self._times.extend(times)
        self.last_at = self._times[-1] if self._times else None
        self.due = due

    def explain(self, now: float) -> str:  # noqa: ARG002 - what was there when the last one came
        """See :class:`Rule`."""
        seen = f"{len(self._times)} within {say_span(self.window_s)}"
        return seen + (f"; last: {self._last_line}" if self._last_line else "")


@dataclass(slots=True)
class SignRule:
    """Raised when a sign has come again and again for a while; over when it has stayed away for a while.

    Attributes:
        head: What is said about it.
        hold_s: How long it must go on, in seconds.
        gap_s: A longer silence between two signs begins a new count.
        calm_s: Silence after which it is over.
        sign: Which events count.
    """

    head: Head
    hold_s: float
    gap_s: float = 10.0
    calm_s: float = 60.0
    sign: Sign = lambda _: True
    _since: float | None = None
    _last_at: float | None = None
    _last_line: str = ""

    def observe(self, event: Event, now: float) -> None:
        """See :class:`Rule`."""
        if not self.sign(event):
            return
        if self._since is None or self._last_at is None or now - self._last_at > self.gap_s:
            self._since = now
        self._last_at = now
        self._last_line = self.head.detail(event) or self._last_line

    def active(self, now: float) -> bool:
        """See :class:`Rule`."""
        if self._since is None or self._last_at is None:
            return False
        return self._last_at - self._since >= self.hold_s and now - self._last_at <= self.gap_s

    def cleared(self, now: float) -> bool:
        """See :class:`Rule`."""
        return self._last_at is None or now - self._last_at >= self.calm_s

    def told(self) -> None:
        """See :class:`Rule`; the events go on to tell."""

    def resume(self, now: float) -> None:
        """See :class:`Rule`."""
        self._last_at = now

    def explain(self, now: float) -> str:
        """See :class:`Rule`."""
        since = now if self._since is None else self._since
        return f"for {say_span(now - since)}" + (f"; {self._last_line}" if self._last_line else "")


@dataclass(slots=True)
class StateRule:
    """Raised when a bad state has lasted; over when a good one has.

    Attributes:
        head: What is said about it.
        bad: Tells of an event whether it begins the bad state (``True``), ends it (``False``) or says nothing.
        hold_s: How long the bad state must last, in seconds.
        calm_s: How long the good state must last, in seconds.
        bad_since: When the bad state began; set it to begin in it.
    """

    head: Head
    bad: Callable[[Event], bool | None]
    hold_s: float = 0.0
    calm_s: float = 0.0
    bad_since: float | None = None
    _good_since: float | None = None
    _last_line: str = ""

    def observe(self, event: Event, now: float) -> None:
        """See :class:`Rule`."""
        bad = self.bad(event)
        if bad:
            self._last_line = self.head.detail(event)
            self._good_since = None
            if self.bad_since is None:
                self.bad_since = now
        elif bad is not None:
            self.bad_since = None
            if self._good_since is None:
                self._good_since = now

    def active(self, now: float) -> bool:
        """See :class:`Rule`."""
        return self.bad_since is not None and now - self.bad_since >= self.hold_s

    def cleared(self, now: float) -> bool:
        """See :class:`Rule`."""
        return self._good_since is not None and now - self._good_since >= self.calm_s

    def told(self) -> None:
        """See :class:`Rule`; the events go on to tell."""

    def resume(self, now: float) -> None:
        """See :class:`Rule`."""
        if self.bad_since is None:
            self._good_since = now

    def explain(self, now: float) -> str:
        """See :class:`Rule`."""
        since = now if self.bad_since is None else self.bad_since
        return f"for {say_span(now - since)}" + (f"; {self._last_line}" if self._last_line else "")
