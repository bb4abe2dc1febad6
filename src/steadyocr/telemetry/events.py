"""What happens in the service, told to whoever listens: metrics, alerts, the flight recorder.

The bus is a list of callbacks and nothing more: no queue, no thread, nothing to fill up or to stop. Listeners are
called at once, in the emitter's own thread (the event loop's), so they must be quick; a failing one is logged and harms
neither the emitter nor the other listeners.

Names and fields, plain values only:

========================  ==========================================================================================
``item_finished``         kind, ok, code, width, height, lines, predicted_bytes, peak_bytes, rss_bytes, wait_s,
                          service_s, timings_ms, degraded (steps), priority, slot, attempts, request_id
``item_refused``          code
``queue_full``            waiting, max_size
``engine_state``          slot, pid, before, after
``engine_died``           slot, pid, cause, signal, exit_code, stage, rss_bytes, peak_bytes (with its last item, or
                          ``None``), uptime_s, item (facts or ``None``): kind, width, height, predicted_bytes,
                          running_s, step, cap, attempts, request_id
``memory_event``          where (engine, admission), reason (killed, allocator, memory_pressure)
``pressure_changed``      before, after, used
``quarantined``           sha256, width, height, deaths, cause
``loop_died``             loop, error
``readiness_changed``     ready, reason
``golden_checked``        ok, problem, source
``disk_low``              free_bytes, floor_bytes; again every 15 s while it lasts
``disk_recovered``        free_bytes, floor_bytes
``service_died``          pid, reason, uptime_s, rss_bytes, waiting: the service before this one, which was killed
``drain_started``         nothing
``drain_ended``           clean
========================  ==========================================================================================
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

_log = logging.getLogger("steadyocr.events")


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Attributes:
        name: What, from the table above.
        at: When, in seconds since the epoch.
        fields: Plain values: never a picture, a client's file name, text that was read, or a key.
    """

    name: str
    at: float
    fields: Mapping[str, Any] = field(default_factory=dict)


class Events:
    """A bus. One belongs to each service."""

    def __init__(self) -> None:
        self._listeners: tuple[Callable[[Event], None], ...] = ()

    def emit(self, name: str, **fields: Any) -> None:  # noqa: ANN401 - the fields of an event are any plain values
        """Tell all listeners. Never raises."""
        event = Event(name, time.time(), fields)
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:  # noqa: BLE001 - whatever a listener does must not harm what it listens to
                _log.exception("A listener failed on an event", extra={"event": name})

    def subscribe(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Add a listener.

        Returns:
            What ends the subscription; calling it twice is harmless.
        """
        # A new tuple each time, so that a listener may come or go while an event is told.
        self._listeners = (*self._listeners, listener)

        def unsubscribe() -> None:
            self._listeners = tuple(known for known in self._listeners if known is not listener)

        return unsubscribe
