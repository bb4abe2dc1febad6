"""Getting waiting notices to their channels: one at a time, with back-off for each channel."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from steadyocr.ops.alerts.channels import Channel
from steadyocr.ops.alerts.clock import Clock
from steadyocr.ops.alerts.notices import Notice
from steadyocr.ops.alerts.spool import Spool

_log = logging.getLogger("steadyocr.alerts")

_MAX_DOUBLINGS: Final = 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one attempt went.

    Attributes:
        problem: What went wrong, without the channel's secret; empty when nothing did.
        refused: The far side was reached and did not take this notice; it might take another.
    """

    problem: str = ""
    refused: bool = False


class Sender(Protocol):
    """What carries one notice over one channel."""

    async def send(self, channel: Channel, notice: Notice) -> Outcome:
        """Send. Ends within a bounded time and never raises."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long a failing channel is left alone.

    Attributes:
        first_s: After the first failure, in seconds; doubled with each further one.
        max_s: At most.
    """

    first_s: float
    max_s: float

    def after(self, failures: int) -> float:
        """Return the pause after so many failures in a row, in seconds."""
        return min(self.first_s * 2.0 ** min(failures - 1, _MAX_DOUBLINGS), self.max_s)


@dataclass(slots=True)
class _Line:
    """A channel and how it does."""

    channel: Channel
    failures: int = 0
    next_try: float = 0.0


class Delivery:
    """Empties the spool. The back-off belongs to the channel: a dead one is not asked once for each notice.

    A notice is taken off the spool after it was sent, so one that is under way when the service stops comes twice.
    """

    def __init__(
        self, spool: Spool, channels: Sequence[Channel], sender: Sender, clock: Clock, backoff: Backoff
    ) -> None:
        self._spool = spool
        self._sender = sender
        self._clock = clock
        self._backoff = backoff
        self._lines = [_Line(channel) for channel in channels]

    async def round(self) -> None:
        """Send to each channel that may be tried, until it has had everything or fails."""
        for line in self._lines:
            while self._clock.monotonic() >= line.next_try:
                # The spool's lock may be held by who waits for the disk.
                entry = await asyncio.to_thread(self._spool.next_for, line.channel.name)
                if entry is None:
                    break
                outcome = await self._sender.send(line.channel, entry.notice)
                if not outcome.problem:
                    line.failures, line.next_try = 0, 0.0
                    await asyncio.to_thread(self._spool.delivered, entry, line.channel.name)
                    continue
                line.failures += 1
                pause_s = self._backoff.after(line.failures)
                line.next_try = self._clock.monotonic() + pause_s
                if outcome.refused:
                    await asyncio.to_thread(self._spool.refused, entry, line.channel.name)
                _log.warning(
                    "An alert could not be delivered; it is kept and tried again",
                    extra={"channel": line.channel.name, "problem": outcome.problem, "retry_in_s": round(pause_s, 1)},
                )
