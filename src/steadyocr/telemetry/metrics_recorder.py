"""Counts what the event bus tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from steadyocr.errors import ERRORS_BY_CODE
from steadyocr.telemetry import metrics
from steadyocr.telemetry.events import Event
from steadyocr.telemetry.metrics import Registry

_METHODS: Final = frozenset({"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"})
_CODES: Final = frozenset(ERRORS_BY_CODE) | {"ok"}
# A label that grows without bound would fill the memory of whoever scrapes, and ours.
_MAX_STEPS: Final = 64
_MAX_ROUTES: Final = 200

Fields = Mapping[str, Any]


class Recorder:
    """A listener on the bus. Belongs to the event loop's thread.

    Args:
        registry: Where its counters and histograms live.
        death_causes: What can end an engine; each is exposed from the start, so that its first increase is seen.
        levels: Names of the steps of the pressure ladder, likewise.
    """

    def __init__(self, registry: Registry, *, death_causes: tuple[str, ...], levels: tuple[str, ...]) -> None:
        self._requests = registry.counter(metrics.REQUESTS)
        self._request_seconds = registry.histogram(metrics.REQUEST_SECONDS)
        self._items = registry.counter(metrics.ITEMS)
        self._refused = registry.counter(metrics.REFUSED)
        self._retries = registry.counter(metrics.RETRIES)
        self._wait_seconds = registry.histogram(metrics.WAIT_SECONDS)
        self._service_seconds = registry.histogram(metrics.SERVICE_SECONDS)
        self._stage_seconds = registry.histogram(metrics.STAGE_SECONDS)
        self._lines = registry.counter(metrics.LINES)
        self._pixels = registry.counter(metrics.PIXELS)
        self._degraded = registry.counter(metrics.DEGRADED)
        self._prediction_error = registry.histogram(metrics.PREDICTION_ERROR)
        self._engine_deaths = registry.counter(metrics.ENGINE_DEATHS)
        self._memory_events = registry.counter(metrics.MEMORY_EVENTS)
        self._pressure_changes = registry.counter(metrics.PRESSURE_CHANGES)
        self._quarantined = registry.counter(metrics.QUARANTINED)
        self._queue_full = registry.counter(metrics.QUEUE_FULL)
        self._loop_deaths = registry.counter(metrics.LOOP_DEATHS)
        self._golden_checks = registry.counter(metrics.GOLDEN_CHECKS)
        self._golden_ok = registry.gauge(metrics.GOLDEN_OK)
        # The first engine is ready only after it has read the golden picture rightly.
        self._golden_ok.set(1)
        self._events = registry.counter(metrics.EVENTS)
        self._steps: set[str] = set()
        self._routes: set[str] = set()
        self._by_name: dict[str, Callable[[Fields], None]] = {
            "item_finished": self._item_finished,
            "item_refused": lambda fields: self._refused.labels(_code(fields["code"])).inc(),
            "queue_full": lambda _: self._queue_full.inc(),
            "engine_died": lambda fields: self._engine_deaths.labels(fields["cause"]).inc(),
            "memory_event": lambda fields: self._memory_events.labels(fields["where"], fields["reason"]).inc(),
            "pressure_changed": lambda fields: self._pressure_changes.labels(fields["after"]).inc(),
            "quarantined": lambda _: self._quarantined.inc(),
            "loop_died": lambda _: self._loop_deaths.inc(),
            "golden_checked": self._golden_checked,
        }
        self._show_at_zero(death_causes, levels)

    def _show_at_zero(self, death_causes: tuple[str, ...], levels: tuple[str, ...]) -> None:
        for cause in death_causes:
            self._engine_deaths.labels(cause)
        for level in levels:
            self._pressure_changes.labels(level)
        for outcome in ("ok", "failed"):
            self._golden_checks.labels(outcome)
        for where, reason in (
            ("engine", "killed"),
            ("engine", "allocator"),
            ("engine", "memory_pressure"),
            ("admission", "memory_pressure"),
        ):
            self._memory_events.labels(where, reason)
        for code in ("queue_full", "rate_limited", "not_ready", "draining", "memory_pressure", "quarantined"):
            self._refused.labels(code)
        for code in ("ok", "internal", "engine_died", "deadline_exceeded"):
            self._items.labels(code, "interactive")

    def __call__(self, event: Event) -> None:
        """Count one event."""
        count = self._by_name.get(event.name)
        # Names come from our own code; those of listeners that are not known here are still few.
        self._events.labels(event.name).inc()
        if count is not None:
            count(event.fields)

    def request(self, method: str, route: str, status: int | None, seconds: float) -> None:
        """Count one answered request.

        Args:
            method: As it was sent.
            route: The template that matched, never the path that was asked for.
            status: Of the answer; ``None`` when the client left before there was one.
            seconds: From the request's head to the end of the answer.
        """
        route = _bounded(route, self._routes, _MAX_ROUTES)
        known = method if method in _METHODS else "other"
        self._requests.labels(route, known, "none" if status is None else str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def _item_finished(self, fields: Fields) -> None:
        if fields["kind"] != "run":
            return
        self._items.labels(_code(fields["code"]), fields["priority"]).inc()
        self._retries.inc(_retries_of(fields))
        self._wait_seconds.labels(fields["priority"]).observe(fields["wait_s"])
        if not fields["ok"]:
            return
        self._service_seconds.observe(fields["service_s"] or 0.0)
        for stage, milliseconds in fields["timings_ms"].items():
            self._stage_seconds.labels(stage).observe(milliseconds / 1000)
        self._lines.inc(fields["lines"])
        self._pixels.inc((fields["width"] or 0) * (fields["height"] or 0))
        for step in fields["degraded"]:
            self._degraded.labels(_bounded(step, self._steps, _MAX_STEPS)).inc()
        if fields["predicted_bytes"] and fields["peak_bytes"]:
            self._prediction_error.observe(fields["predicted_bytes"] / fields["peak_bytes"] - 1.0)

    def _golden_checked(self, fields: Fields) -> None:
        self._golden_checks.labels("ok" if fields["ok"] else "failed").inc()
        self._golden_ok.set(bool(fields["ok"]))


def _retries_of(fields: Fields) -> int:
    """How often a picture was handed on; the last death of one that was given up is followed by nothing."""
    given_up = fields["code"] in ("quarantined", "engine_died")
    return max(0, int(fields["attempts"]) - given_up)


def _code(code: str) -> str:
    return code if code in _CODES else "other"


def _bounded(value: str, seen: set[str], limit: int) -> str:
    if value in seen or len(seen) < limit:
        seen.add(value)
        return value
    return "other"
