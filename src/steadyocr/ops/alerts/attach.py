"""Putting the alerts of one service together from its settings."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from steadyocr.ops.alerts.catalogue import build_rules
from steadyocr.ops.alerts.channels import Channel, load_channels
from steadyocr.ops.alerts.clock import Clock
from steadyocr.ops.alerts.delivery import Backoff, Delivery, Sender
from steadyocr.ops.alerts.incidents import Incidents
from steadyocr.ops.alerts.manager import Alerts
from steadyocr.ops.alerts.memory_slope import MEMORY_SAMPLE
from steadyocr.ops.alerts.notices import parse_severity
from steadyocr.ops.alerts.quiet import QuietHours
from steadyocr.ops.alerts.sender import ProcessSender
from steadyocr.ops.alerts.spool import Spool, SpoolBounds
from steadyocr.runtime.memory import rss_bytes
from steadyocr.scheduling.engine import EngineState
from steadyocr.service import Service
from steadyocr.settings import Settings
from steadyocr.telemetry.events import Event

_SAMPLE_PERIOD_S: Final = 20.0


def folder_of(settings: Settings) -> Path:
    """Return where alerts keep their state."""
    return settings.data_dir / "alerts"


def state_file_of(settings: Settings) -> Path:
    """Return where open incidents are remembered."""
    return folder_of(settings) / "incidents.json"


def source_of(settings: Settings) -> str:
    """Return how this machine is called in alerts."""
    return settings.alerts.source or socket.gethostname()


def open_spool(settings: Settings, clock: Clock) -> Spool:
    """Return the spool of a service."""
    alerts = settings.alerts
    bounds = SpoolBounds(notices=alerts.spool_notices, bytes=alerts.spool_bytes, age_s=alerts.spool_age_s)
    return Spool(folder_of(settings) / "spool", bounds, clock)


def build_delivery(
    settings: Settings, spool: Spool, channels: tuple[Channel, ...], clock: Clock, sender: Sender | None = None
) -> Delivery:
    """Return what empties a spool."""
    alerts = settings.alerts
    carrier = sender or ProcessSender(alerts.send_timeout_s)
    return Delivery(spool, channels, carrier, clock, Backoff(alerts.retry_first_s, alerts.retry_max_s))


def attach_alerts(service: Service, *, clock: Clock | None = None, sender: Sender | None = None) -> Alerts:
    """Return the alerts of a service.

    Raises:
        ConfigError: The channels cannot be used.
    """
    clock = clock or Clock()
    settings, alerts = service.settings, service.settings.alerts
    channels = load_channels(alerts)
    spool = open_spool(settings, clock)
    return Alerts(
        events=service.events,
        incidents=Incidents(
            build_rules(alerts, clock.monotonic()),
            clock,
            source=source_of(settings),
            remind_s=alerts.remind_s,
            cooldown_s=alerts.cooldown_s,
        ),
        spool=spool,
        delivery=build_delivery(settings, spool, channels, clock, sender),
        channels=channels,
        state_file=state_file_of(settings),
        clock=clock,
        source=source_of(settings),
        quiet=QuietHours.parse(alerts.quiet_hours),
        quiet_severity=parse_severity(alerts.quiet_severity),
        sample=_MemorySamples(service, clock),
    )


class _MemorySamples:
    """The memory of the front and of its idle engines, every so often."""

    def __init__(self, service: Service, clock: Clock) -> None:
        self._service = service
        self._clock = clock
        self._next_at = clock.monotonic()

    def __call__(self) -> Iterator[Event]:
        if self._clock.monotonic() < self._next_at or not self._service.started:
            return
        self._next_at = self._clock.monotonic() + _SAMPLE_PERIOD_S
        yield self._sample("front", os.getpid(), rss_bytes())
        for slot in self._service.scheduler.slots:
            engine = slot.engine
            if engine is not None and engine.pid is not None and engine.state is EngineState.READY:
                yield self._sample(f"engine {slot.index}", engine.pid, engine.rss_bytes)

    def _sample(self, who: str, pid: int, rss: int) -> Event:
        return Event(MEMORY_SAMPLE, self._clock.wall(), {"who": who, "pid": pid, "rss_bytes": rss})
