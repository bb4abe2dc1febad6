"""The rule about memory that climbs: a robust slope of idle memory, for each process by itself."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from steadyocr.ops.alerts.notices import say_span
from steadyocr.ops.alerts.rules import Head
from steadyocr.ops.alerts.slope import robust_slope
from steadyocr.telemetry.events import Event

MEMORY_SAMPLE: Final = "memory_sample"
MAX_POINTS: Final = 180
_MAX_PROCESSES: Final = 64
_HOUR_S: Final = 3600.0
_MIB: Final = 1 << 20


@dataclass(slots=True)
class _Series:
    pid: int
    points: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=MAX_POINTS))
    slope: float = 0.0


@dataclass(slots=True)
class MemorySlopeRule:
    """Raised while the idle memory of a process climbs faster than allowed, seen over a long window.

    Samples are kept `window_s` / 180 apart at least, so that memory and the time for one slope are bounded. A slope
    counts once half the window is seen. A new process begins a new series.

    Attributes:
        head: What is said about it.
        limit_bytes_per_hour: Fastest growth allowed.
        window_s: Length of the window, in seconds.
    """

    head: Head
    limit_bytes_per_hour: float
    window_s: float
    _series: dict[str, _Series] = field(default_factory=dict)

    def observe(self, event: Event, now: float) -> None:
        """See :class:`~steadyocr.ops.alerts.rules.Rule`; takes samples: who, pid, rss_bytes."""
        who, pid = str(event.fields["who"]), int(event.fields["pid"])
        series = self._series.get(who)
        if series is None or series.pid != pid:
            self._series.pop(who, None)
            while len(self._series) >= _MAX_PROCESSES:
                self._series.pop(next(iter(self._series)))
            series = self._series[who] = _Series(pid)
        points = series.points
        if points and now - points[-1][0] < self.window_s / MAX_POINTS:
            return
        points.append((now, float(event.fields["rss_bytes"])))
        while now - points[0][0] > self.window_s:
            points.popleft()
        seen = points[-1][0] - points[0][0] >= self.window_s / 2
        series.slope = robust_slope(points) * _HOUR_S if seen else 0.0

    def active(self, now: float) -> bool:  # noqa: ARG002 - the rule's state says it
        """See :class:`~steadyocr.ops.alerts.rules.Rule`."""
        return self._steepest()[1] > self.limit_bytes_per_hour

    def cleared(self, now: float) -> bool:  # noqa: ARG002 - the rule's state says it
        """See :class:`~steadyocr.ops.alerts.rules.Rule`; half the limit, so that it does not swing."""
        return self._steepest()[1] <= self.limit_bytes_per_hour / 2

    def told(self) -> None:
        """See :class:`~steadyocr.ops.alerts.rules.Rule`; the slope goes on to tell."""

    def resume(self, now: float) -> None:
        """See :class:`~steadyocr.ops.alerts.rules.Rule`: the processes are new, so it is over."""

    def explain(self, now: float) -> str:  # noqa: ARG002 - the rule's state says it
        """See :class:`~steadyocr.ops.alerts.rules.Rule`."""
        who, slope = self._steepest()
        return f"{who} grows by {slope / _MIB:.1f} MiB an hour while idle, over {say_span(self.window_s)}"

    def _steepest(self) -> tuple[str, float]:
        steepest = max(self._series.items(), key=lambda entry: entry[1].slope, default=None)
        return (steepest[0], steepest[1].slope) if steepest else ("no process", 0.0)
