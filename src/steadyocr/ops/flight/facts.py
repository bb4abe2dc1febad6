"""What of an event may be written down: known fields, numbers and short names.

Never a picture, text, a file name or a key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from steadyocr.telemetry.events import Event

_MAX_TEXT: Final = 120
_MAX_PARTS: Final = 24

# A field that is not here is left out, so that one added to the bus later has to be allowed first.
_FIELDS: Final = frozenset(
    {
        "after", "attempts", "before", "budget_bytes", "cap", "cause", "clean", "code", "deaths", "degraded", "done",
        "exit_code", "failed", "floor_bytes", "free_bytes", "height", "item", "job_id", "kind", "lines", "loop",
        "max_size", "ok", "peak_bytes", "pid", "predicted_bytes", "priority", "ready", "reason", "request_id",
        "rss_bytes", "running_s", "seconds", "service_s", "sha256", "signal", "slot", "stage", "state", "step",
        "timings_ms", "uptime_s", "used", "wait_s", "waiting", "where", "width",
    }
)  # fmt: skip
_INNER: Final = _FIELDS | {"decode", "detect", "order", "recognise", "overlay"}


def facts_of(event: Event) -> dict[str, Any]:
    """Return an event as plain values, less what may not be written down."""
    return {"at": round(event.at, 3), "event": event.name[:_MAX_TEXT], **_allowed(event.fields, _FIELDS)}


def _allowed(fields: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    kept = [(name, value) for name, value in fields.items() if name in names]
    return {name: _plain(value) for name, value in kept[:_MAX_PARTS]}


def _plain(value: object) -> Any:  # noqa: ANN401 - plain values of any kind
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return _allowed(value, _INNER)
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value[:_MAX_PARTS]]
    return str(value)[:_MAX_TEXT]
