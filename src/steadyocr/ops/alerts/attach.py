"""Putting the alerts of one service together from its settings."""

from __future__ import annotations

import socket
from pathlib import Path

from steadyocr.ops.alerts.catalogue import build_rules
from steadyocr.ops.alerts.channels import Channel, load_channels
from steadyocr.ops.alerts.clock import Clock
from steadyocr.ops.alerts.delivery import Backoff, Delivery, Sender
from steadyocr.ops.alerts.incidents import Incidents
from steadyocr.ops.alerts.manager import Alerts
from steadyocr.ops.alerts.notices import parse_severity
from steadyocr.ops.alerts.quiet import QuietHours
from steadyocr.ops.alerts.samples import Samples
from steadyocr.ops.alerts.sender import ProcessSender
from steadyocr.ops.alerts.spool import Spool, SpoolBounds
from steadyocr.service import Service
from steadyocr.settings import Settings


def folder_of(settings: Settings) -> Path:
    """Return where alerts keep their state."""
    return settings.data_dir / "alerts"


def state_file_of(settings: Settings) -> Path:
    """Return where incidents and counts are remembered."""
    return folder_of(settings) / "incidents.json"


def source_of(settings: Settings) -> str:
    """Return how this machine is called in alerts."""
    return settings.alerts.source or socket.gethostname()


def spool_folder_of(settings: Settings) -> Path:
    """Return where notices wait."""
    return folder_of(settings) / "spool"


def open_spool(settings: Settings, clock: Clock) -> Spool:
    """Return the spool of a service."""
    alerts = settings.alerts
    bounds = SpoolBounds(notices=alerts.spool_notices, bytes=alerts.spool_bytes, age_s=alerts.spool_age_s)
    return Spool(spool_folder_of(settings), bounds, clock)


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
        sample=Samples(service, clock),
    )
