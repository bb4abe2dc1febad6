"""The rules that are shipped, with the bounds of this configuration."""

from __future__ import annotations

import math
from typing import Final

from steadyocr.ops.alerts.memory_slope import MEMORY_SAMPLE, MemorySlopeRule
from steadyocr.ops.alerts.notices import Severity, say_span
from steadyocr.ops.alerts.rules import CountRule, Head, Rule, SignRule, StateRule
from steadyocr.ops.alerts.samples import JOB_STORE_SAMPLE
from steadyocr.settings.alerts import AlertSettings
from steadyocr.telemetry.events import Event

UNIT_FAILED: Final = "unit_failed"
_QUARANTINE_WINDOW_S: Final = 3600.0
_SERVICE_DEATHS: Final = 3
_SERVICE_DEATHS_WINDOW_S: Final = 3600.0
# Whoever asks for the deep check (the watchdog, a container's health check, a load balancer) asks at least so often.
_GOLDEN_GAP_S: Final = 180.0
_GOLDEN_CALM_S: Final = 300.0
_CALM_S: Final = 30.0
_MIB: Final = 1 << 20


def build_rules(settings: AlertSettings, now: float) -> list[Rule]:
    """Return all rules.

    Args:
        settings: Their bounds.
        now: The monotonic clock; the service counts as not ready until it says otherwise.
    """
    return [
        CountRule(
            _OUT_OF_MEMORY,
            settings.out_of_memory_count,
            settings.out_of_memory_window_s,
            # A picture refused at the door because it would not fit is the contract at work, not a failure.
            lambda event: event.fields.get("where") == "engine",
        ),
        CountRule(_RESTARTS, settings.restarts_count, settings.restarts_window_s),
        SignRule(_QUEUE_FULL, settings.queue_full_s),
        StateRule(_NOT_READY, _is_unready, settings.unready_s, _CALM_S, bad_since=now),
        StateRule(_SHEDDING, _is_shedding, settings.unready_s, _CALM_S),
        StateRule(_DISK_LOW, lambda event: event.name == "disk_low", calm_s=_CALM_S),
        # Not a state that a right reading ends: of two engines, one may be healthy. And no reading at all is none,
        # because traffic that is answered makes it unnecessary.
        SignRule(
            _GOLDEN,
            settings.unready_s,
            gap_s=_GOLDEN_GAP_S,
            calm_s=_GOLDEN_CALM_S,
            sign=lambda event: not event.fields.get("ok"),
        ),
        StateRule(_JOB_STORE, _is_without_store, settings.unready_s, _CALM_S),
        CountRule(_SERVICE_DIED, _SERVICE_DEATHS, _SERVICE_DEATHS_WINDOW_S),
        CountRule(_QUARANTINE, 1, _QUARANTINE_WINDOW_S),
        StateRule(_LOOP_DIED, lambda _: True),
        MemorySlopeRule(_MEMORY_SLOPE, settings.memory_slope_bytes_per_hour, settings.memory_slope_window_s),
        # Raised by the command that systemd runs, never from here; here it ends.
        StateRule(_UNIT, _unit_is_down, math.inf, _CALM_S, bad_since=now),
    ]


def _is_unready(event: Event) -> bool | None:
    # Stopping on purpose is no incident.
    if event.name == "drain_started" or event.fields.get("reason") == "shutting down":
        return False
    return not event.fields.get("ready")


def _is_shedding(event: Event) -> bool:
    return event.fields.get("after") == "shed"


def _is_without_store(event: Event) -> bool:
    return not event.fields.get("ok")


def _unit_is_down(event: Event) -> bool:
    # After a stop on purpose as well, being ready has to last anew.
    return not event.fields.get("ready")


def _say_death(event: Event) -> str:
    item = event.fields.get("item") or {}
    picture = f" with a picture of {item['width']}x{item['height']} in hand" if item.get("width") else ""
    stage = f", in {event.fields['stage']}" if event.fields.get("stage") else ""
    return f"engine {event.fields.get('slot')}: {event.fields.get('cause')}{picture}{stage}"


def _say_service_death(event: Event) -> str:
    uptime = event.fields.get("uptime_s")
    lived = f" after {say_span(uptime)}" if isinstance(uptime, int | float) else ""
    return f"process {event.fields.get('pid')}{lived}, {event.fields.get('reason')}"


def _say_disk(event: Event) -> str:
    free, floor = event.fields.get("free_bytes"), event.fields.get("floor_bytes")
    if not isinstance(free, int) or not isinstance(floor, int):
        return ""
    return f"{free // _MIB} MiB free, the floor is {floor // _MIB} MiB"


_OUT_OF_MEMORY = Head(
    name="out_of_memory",
    severity=Severity.CRITICAL,
    title="engines run out of memory",
    hint="steadyocr flight show tells which picture and how much; lower limits.max_pixels or raise the memory limit",
    listens=frozenset({"memory_event"}),
    detail=lambda event: f"{event.fields.get('where')}, {event.fields.get('reason')}",
)
_RESTARTS = Head(
    name="engine_restarts",
    severity=Severity.CRITICAL,
    title="engines die again and again",
    hint="steadyocr flight show tells how the last one ended",
    listens=frozenset({"engine_died"}),
    detail=_say_death,
)
_QUEUE_FULL = Head(
    name="queue_full",
    severity=Severity.WARNING,
    title="the queue is full and pictures are refused",
    hint="more engines or cores, or fewer senders; see /v1/info",
    listens=frozenset({"queue_full"}),
    detail=lambda event: f"{event.fields.get('waiting')} wait, {event.fields.get('max_size')} may",
)
_NOT_READY = Head(
    name="not_ready",
    severity=Severity.CRITICAL,
    title="the service is not ready",
    hint="/readyz says why; see the log and steadyocr flight show",
    listens=frozenset({"readiness_changed", "drain_started"}),
    detail=lambda event: str(event.fields.get("reason", "")),
)
_SHEDDING = Head(
    name="memory_pressure",
    severity=Severity.CRITICAL,
    title="memory is short and new pictures are refused",
    hint="see memory in /v1/info, and what else runs on this machine",
    listens=frozenset({"pressure_changed"}),
    detail=lambda event: f"{event.fields.get('used')} of the budget in use",
)
_GOLDEN = Head(
    name="golden",
    severity=Severity.CRITICAL,
    title="the known picture is not read rightly",
    hint="/healthz names the difference; answers may be wrong: steadyocr models verify, then restart",
    listens=frozenset({"golden_checked"}),
    detail=lambda event: str(event.fields.get("problem", "")),
)
_JOB_STORE = Head(
    name="job_store",
    severity=Severity.CRITICAL,
    title="the job store cannot be used",
    hint="single pictures are read as ever, jobs are refused; steadyocr doctor tries the database",
    listens=frozenset({JOB_STORE_SAMPLE}),
    detail=lambda event: str(event.fields.get("code", "")),
)
_SERVICE_DIED = Head(
    name="service_deaths",
    severity=Severity.CRITICAL,
    title="the service itself is killed again and again",
    hint="steadyocr flight show tells how it was just before; journalctl -u steadyocr and dmesg tell who killed it",
    listens=frozenset({"service_died"}),
    detail=_say_service_death,
)
_DISK_LOW = Head(
    name="disk_low",
    severity=Severity.WARNING,
    title="the disk is nearly full",
    hint="delete old jobs, or free space where the data folder is",
    listens=frozenset({"disk_low", "disk_recovered"}),
    detail=_say_disk,
)
_QUARANTINE = Head(
    name="quarantine",
    severity=Severity.WARNING,
    title="a picture that ends engines was quarantined",
    hint="GET /v1/quarantine lists them; steadyocr flight show tells how it went",
    listens=frozenset({"quarantined"}),
    detail=lambda event: (
        f"{event.fields.get('width')}x{event.fields.get('height')}, "
        f"{event.fields.get('deaths')} deaths, {event.fields.get('cause')}"
    ),
)
_LOOP_DIED = Head(
    name="loop_died",
    severity=Severity.CRITICAL,
    title="a part of the service ended although nobody stopped it",
    hint="this is a fault of ours: see the log, restart the service, report it",
    listens=frozenset({"loop_died"}),
    detail=lambda event: str(event.fields.get("loop", "")),
)
_MEMORY_SLOPE = Head(
    name="memory_slope",
    severity=Severity.WARNING,
    title="memory climbs while idle",
    hint="engines are replaced before it hurts; if the front itself climbs, report it",
    listens=frozenset({MEMORY_SAMPLE}),
)
_UNIT = Head(
    name=UNIT_FAILED,
    severity=Severity.CRITICAL,
    title="systemd gave the service up",
    hint="journalctl shows why; systemctl reset-failed and start when it is mended",
    listens=frozenset({"readiness_changed"}),
)
