"""When old jobs may go, over months and under clocks that somebody sets."""

from __future__ import annotations

from steadyocr.jobs.retention import Pruning

HOUR = 3600.0
DAY = 24 * HOUR
KEEP = 7 * DAY


def test_a_machine_that_is_off_at_weekends_deletes_too() -> None:
    at: Pruning | None = None
    allowed = []
    for week in range(26):
        for hour in range(106):  # from Monday at eight to Friday at six
            at = Pruning.after(at, 1e9 + week * 7 * DAY + hour * HOUR, KEEP)
            allowed.append((week, at.allowed))
    weeks = sorted({week for week, may in allowed if may})
    assert max(later - earlier for earlier, later in zip(weeks, [*weeks[1:], 26], strict=True)) <= 2


def test_a_machine_that_is_on_once_a_week_deletes_too() -> None:
    at: Pruning | None = None
    allowed = []
    for week in range(26):
        at = Pruning.after(at, 1e9 + week * 7 * DAY, KEEP)
        allowed.append(at.allowed)
    assert sum(allowed) >= 5


def test_after_a_leap_ahead_a_whole_time_of_keeping_has_to_pass() -> None:
    at = Pruning.after(None, 0.0, KEEP)
    at = Pruning.after(at, 0.0 + HOUR, KEEP)
    assert at.allowed
    leapt = 50 * 365 * DAY
    hours = 0
    at = Pruning.after(at, leapt, KEEP)
    while not at.allowed:
        hours += 1
        at = Pruning.after(at, leapt + hours * HOUR, KEEP)
    assert hours * HOUR == KEEP
