"""One incident, one alert: which rules are open, what is to be told about them and when."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from steadyocr.ops.alerts.clock import Clock
from steadyocr.ops.alerts.notices import Notice, NoticeKind, say_span, say_time
from steadyocr.ops.alerts.remembered import Counted, OpenIncident, Remembered
from steadyocr.ops.alerts.rules import CountRule, Rule
from steadyocr.telemetry.events import Event

# What is open at a start may be about to end; before it is told again, it gets so long, in seconds.
_GRACE_S: Final = 600.0
_PREFIX: Final = {NoticeKind.REMINDER: "still: ", NoticeKind.RECOVERED: "over: "}


@dataclass(slots=True)
class Incident:
    """An open incident.

    Attributes:
        rule: The rule that raised it.
        began_at: In seconds since the epoch, for people.
        began: On the monotonic clock, which an incident from before a restart may precede.
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
        self._counting = {name: rule for name, rule in self._rules.items() if isinstance(rule, CountRule)}
        self._clock = clock
        self._source = source
        self._remind_s = remind_s
        self._cooldown_s = cooldown_s
        self._open: dict[str, Incident] = {}
        self._ended: dict[str, float] = {}
        self._told_anything = False
        self._counted_until = self._last_counted()
        self.listens = frozenset[str]().union(*(rule.head.listens for rule in self._rules.values()))

    def observe(self, event: Event, now: float) -> None:
        """Take in an event that happened at `now` on the monotonic clock."""
        for rule in self._rules.values():
            if event.name in rule.head.listens:
                rule.observe(event, now)

    def check(self) -> list[Notice]:
        """Return what is to be told now. Call it about once a second."""
        now = self._clock.monotonic()
        checked = (self._check(name, rule, now) for name, rule in self._rules.items())
        notices = [notice for notice in checked if notice is not None]
        self._told_anything |= bool(notices)
        return notices

    def _check(self, name: str, rule: Rule, now: float) -> Notice | None:
        incident = self._open.get(name)
        if incident is None:
            cooled = now - self._ended.get(name, float("-inf")) >= self._cooldown_s
            if not cooled or not rule.active(now):
                return None
            incident = self._open[name] = Incident(rule, self._clock.wall(), now, now)
            rule.told()
            return self._notice(NoticeKind.RAISED, incident, now)
        if rule.cleared(now):
            del self._open[name]
            self._ended[name] = now
            # What came while it was open belongs to it.
            rule.told()
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

    def unsaved(self) -> Remembered | None:
        """Return what must outlive a restart, if it has changed since the last call."""
        counted_until = self._last_counted()
        if not self._told_anything and counted_until == self._counted_until:
            return None
        self._told_anything, self._counted_until = False, counted_until
        return self._remember()

    def _last_counted(self) -> list[float | None]:
        return [rule.last_at for rule in self._counting.values()]

    def _remember(self) -> Remembered:
        now, wall = self._clock.monotonic(), self._clock.wall()

        def epoch(moment: float) -> float:
            return round(wall - (now - moment), 3)

        counted = {name: Counted(tuple(map(epoch, rule.times(now))), rule.due) for name, rule in self._counting.items()}
        return Remembered(
            open={
                name: OpenIncident(incident.began_at, epoch(incident.told), incident.rule.head.severity.label)
                for name, incident in self._open.items()
            },
            ended={name: epoch(at) for name, at in self._ended.items() if now - at < self._cooldown_s},
            counted={name: known for name, known in counted.items() if known.at or known.due},
        )

    def resume(self, known: Remembered) -> None:
        """Take over what was known before a restart: what is open was told already, its end is still to be told."""
        now, wall = self._clock.monotonic(), self._clock.wall()

        def moment(at: float) -> float:
            return now - max(0.0, wall - at)

        for name, counted in known.counted.items():
            if name in self._counting:
                self._counting[name].recall(map(moment, counted.at), due=counted.due)
        self._ended.update((name, moment(at)) for name, at in known.ended.items() if name in self._rules)
        for name, incident in known.open.items():
            rule = self._rules.get(name)
            if rule is not None:
                rule.resume(now)
                told = max(moment(incident.told_at), now - max(0.0, self._remind_s - _GRACE_S))
                self._open[name] = Incident(rule, incident.began_at, moment(incident.began_at), told)
        self._counted_until = self._last_counted()
