"""The alerts of one service: listens to the bus, runs the rules, keeps the spool, has notices delivered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from steadyocr.ops.alerts.channels import Channel
from steadyocr.ops.alerts.clock import Clock
from steadyocr.ops.alerts.delivery import Delivery
from steadyocr.ops.alerts.inbox import Inbox
from steadyocr.ops.alerts.incidents import Incidents
from steadyocr.ops.alerts.notices import Notice, NoticeKind, Severity, digest
from steadyocr.ops.alerts.quiet import QuietHours
from steadyocr.ops.alerts.remembered import Remembered, read_state, write_state
from steadyocr.ops.alerts.spool import Spool
from steadyocr.ops.files import forget_unfinished
from steadyocr.ops.repeating import repeat
from steadyocr.telemetry.events import Event, Events
from steadyocr.telemetry.loops import Loops

_log = logging.getLogger("steadyocr.alerts")

_PERIOD_S: Final = 1.0
_FAULT: Final = "A part of the alerts failed"


class Alerts:
    """Runs beside a service; nothing that goes wrong here reaches it.

    Args:
        events: The bus.
        incidents: The rules.
        spool: What waits to be sent.
        delivery: What sends it.
        channels: Where to.
        state_file: Where incidents and counts are remembered over a restart.
        clock: Of the process.
        source: Name of this machine in digests.
        quiet: When lesser notices wait.
        quiet_severity: What is sent at any hour, from here on.
        sample: Further events to feed the rules with once a second, for what is not told on the bus.
    """

    def __init__(
        self,
        *,
        events: Events,
        incidents: Incidents,
        spool: Spool,
        delivery: Delivery,
        channels: Sequence[Channel],
        state_file: Path,
        clock: Clock,
        source: str,
        quiet: QuietHours | None = None,
        quiet_severity: Severity = Severity.CRITICAL,
        sample: Callable[[], Iterable[Event]] = tuple,
    ) -> None:
        self.incidents = incidents
        self.spool = spool
        self._events = events
        self._delivery = delivery
        self._channels = [channel.name for channel in channels]
        self._state_file = state_file
        self._clock = clock
        self._source = source
        self._quiet = quiet
        self._quiet_severity = quiet_severity
        self._sample = sample
        self._inbox = Inbox()
        self._unsubscribe: Callable[[], None] = lambda: None

    def start(self, loops: Loops) -> None:
        """See :class:`~steadyocr.service.companions.Companion`."""
        self.resume()
        loops.start("alert-rules", repeat(self.look, _PERIOD_S, _log, _FAULT))
        loops.start("alert-delivery", repeat(self._delivery.round, _PERIOD_S, _log, _FAULT))

    def resume(self) -> None:
        """Take up what the last run left, and begin to listen."""
        forget_unfinished(self._state_file.parent)
        self.incidents.resume(read_state(self._state_file, self._clock.wall()))
        self.spool.forget_channels(self._channels)
        self._unsubscribe = self._events.subscribe(self._receive)

    async def stop(self) -> None:
        """See :class:`~steadyocr.service.companions.Companion`. What could not be sent waits for the next start."""
        self._unsubscribe()
        await self.look()

    def _receive(self, event: Event) -> None:
        if event.name in self.incidents.listens:
            self._inbox.put(event, self._clock.monotonic())

    async def look(self) -> None:
        """Feed the rules with what has happened and keep what they have to tell."""
        for event in self._sample():
            self._receive(event)
        for happened, event in self._inbox.take():
            self.incidents.observe(event, happened)
        notices = self.incidents.check()
        for notice in notices:
            self._say(notice)
        await asyncio.to_thread(self._keep, notices, self.incidents.unsaved())

    def _say(self, notice: Notice) -> None:
        level = logging.INFO if notice.kind is NoticeKind.RECOVERED else logging.WARNING
        extra = {"rule": notice.rule, "kind": notice.kind.value, "severity": notice.severity.label}
        _log.log(level, "Alert", extra=extra)

    def _keep(self, notices: Sequence[Notice], state: Remembered | None) -> None:
        quiet = self._quiet is not None and self._quiet.covers(self._clock.wall())
        for notice in notices:
            self.spool.add(notice, self._channels, held=quiet and notice.severity < self._quiet_severity)
        if not quiet:
            self.spool.release_held(partial(digest, source=self._source, now=self._clock.wall()))
        if state is not None:
            write_state(self._state_file, state)
