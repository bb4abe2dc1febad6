"""One incident, one alert: which rules are open, what is to be told about them and when."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from steadyocr.ops.alerts.clock import Clock
from steadyocr.ops.alerts.notices import Notice, NoticeKind, say_span, say_time
from steadyocr.ops.alerts.rules import Rule
from steadyocr.telemetry.events import Event

_PREFIX: Final = {NoticeKind.REMINDER: "still: ", NoticeKind.RECOVERED: "over: "}


@dataclass(slots=True)
class Incident:
    """An open incident.

    Attributes:
        rule: The rule that raised it.
        began_at: In seconds since the epoch, for people.
        began: On the monotonic clock, or the start of this process if it is older.
        told: When it was last told, on the monotonic clock.
    """

    rule: Rule
    began_at: float
    began: float
    told: float


class Incidents:
    """Feeds the rules and turns their verdicts into notices.

    Args:
        rules: All rules.
        clock: Spans are measured on its monotonic side, so that a wall clock may jump.
        source: Name of this machine in titles.
        remind_s: An open incident is told again after so many seconds.
        cooldown_s: An incident is not raised again earlier after its end.
    """

    def __init__(self, rules: Iterable[Rule], clock: Clock, *, source: str, remind_s: float, cooldown_s: float) -> None:
        self._rules = {rule.head.name: rule for rule in rules}
        self._clock = clock
        self._source = source
        self._remind_s = remind_s
        self._cooldown_s = cooldown_s
        self._open: dict[str, Incident] = {}
        self._ended: dict[str, float] = {}
        self.listens = frozenset[str]().union(*(rule.head.listens for rule in self._rules.values()))

    def observe(self, event: Event, now: float) -> None:
        """Take in an event that happened at `now` on the monotonic clock."""
        for rule in self._rules.values():
            if event.name in rule.head.listens:
                rule.observe(event, now)

    def check(self) -> list[Notice]:
        """Return what is to be told now. Call it about once a second."""
        now = self._clock.monotonic()
        notices = (self._check(name, rule, now) for name, rule in self._rules.items())
        return [notice for notice in notices if notice is not None]

    def _check(self, name: str, rule: Rule, now: float) -> Notice | None:
        incident = self._open.get(name)
        if incident is None:
            cooled = now - self._ended.get(name, float("-inf")) >= self._cooldown_s
            if not cooled or not rule.active(now):
                return None
            incident = self._open[name] = Incident(rule, self._clock.wall(), now, now)
            return self._notice(NoticeKind.RAISED, incident, now)
        if rule.cleared(now):
            del self._open[name]
            self._ended[name] = now
            return self._notice(NoticeKind.RECOVERED, incident, now)
        if now - incident.told >= self._remind_s:
            incident.told = now
            return self._notice(NoticeKind.REMINDER, incident, now)
        return None

    def _notice(self, kind: NoticeKind, incident: Incident, now: float) -> Notice:
        head, at = incident.rule.head, self._clock.wall()
        label = "ok" if kind is NoticeKind.RECOVERED else head.severity.label
        began = f"began {say_time(incident.began_at)}"
        if kind is NoticeKind.RECOVERED:
            lines = [f"{began}, open for {say_span(now - incident.began)}"]
        else:
            lines = [incident.rule.explain(now), began, head.hint]
        title = f"[{label}] {self._source}: {_PREFIX.get(kind, '')}{head.title}"
        return Notice(kind, head.name, head.severity, title, "\n".join(lines), at)

    def to_wire(self) -> dict[str, Any]:
        """Return the open incidents as plain values, for :meth:`resume`."""
        return {
            name: {"began_at": incident.began_at, "severity": incident.rule.head.severity.label}
            for name, incident in self._open.items()
        }

    def resume(self, values: Mapping[str, Any]) -> None:
        """Take over what was open before a restart: it was told already, and its end is still to be told."""
        now = self._clock.monotonic()
        for name, known in values.items():
            rule = self._rules.get(name)
            if rule is not None and isinstance(known, Mapping):
                rule.resume(now)
                self._open[name] = Incident(rule, float(known.get("began_at", self._clock.wall())), now, now)
