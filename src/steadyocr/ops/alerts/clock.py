"""The two clocks of the alerts, handed in so that tests need not wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """Where time comes from.

    Attributes:
        monotonic: Seconds for spans: windows, back-off, reminders. Never jumps.
        wall: Seconds since the epoch, to be shown to people and for quiet hours only.
    """

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
