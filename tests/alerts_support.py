"""What the tests of alerts share: a clock that is set by hand, a sender that fails as told, the shipped rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from steadyocr.ops.alerts.catalogue import build_rules
from steadyocr.ops.alerts.channels import Channel
from steadyocr.ops.alerts.clock import Clock
from steadyocr.ops.alerts.delivery import Backoff, Delivery, Outcome
from steadyocr.ops.alerts.incidents import Incidents
from steadyocr.ops.alerts.manager import Alerts
from steadyocr.ops.alerts.notices import Notice, NoticeKind, Severity
from steadyocr.ops.alerts.quiet import QuietHours
from steadyocr.ops.alerts.spool import Spool, SpoolBounds
from steadyocr.settings.alerts import AlertSettings
from steadyocr.telemetry.events import Event, Events

NOON = 1_700_000_000.0


class HandClock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 5000.0
        self.wall = NOON
        self.clock = Clock(lambda: self.now, lambda: self.wall)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds


@dataclass
class ScriptedSender:
    """Fails as long as told; remembers what got through, as channel and notice."""

    failing: set[str] = field(default_factory=set)
    refuses: Callable[[Notice], bool] = lambda _: False
    sent: list[tuple[str, Notice]] = field(default_factory=list)
    attempts: int = 0

    async def send(self, channel: Channel, notice: Notice) -> Outcome:
        self.attempts += 1
        if channel.name in self.failing:
            return Outcome("as the test wants it")
        if self.refuses(notice):
            return Outcome("as the test wants it", refused=True)
        self.sent.append((channel.name, notice))
        return Outcome()


def channel(name: str) -> Channel:
    return Channel(name, SecretStr(f"json://127.0.0.1/{name}-secret"))


def a_notice(title: str = "t", severity: Severity = Severity.CRITICAL, at: float = NOON, body: str = "b") -> Notice:
    return Notice(NoticeKind.RAISED, "rule", severity, title, body, at)


class Rig:
    """The whole of the alerts on a clock set by hand, with a sender that is scripted."""

    def __init__(
        self,
        folder: Path,
        *,
        time: HandClock | None = None,
        sender: ScriptedSender | None = None,
        channels: tuple[str, ...] = ("one",),
        bounds: SpoolBounds | None = None,
        quiet_hours: str = "",
        **settings: Any,
    ) -> None:
        self.time = time or HandClock()
        self.sender = sender or ScriptedSender()
        self.events = Events()
        alert_settings = AlertSettings(**settings)
        clock = self.time.clock
        known = tuple(channel(name) for name in channels)
        self.spool = Spool(folder / "spool", bounds or SpoolBounds(), clock)
        self.delivery = Delivery(self.spool, known, self.sender, clock, Backoff(5.0, 900.0))
        self.alerts = Alerts(
            events=self.events,
            incidents=Incidents(
                build_rules(alert_settings, self.time.now),
                clock,
                source="box",
                remind_s=alert_settings.remind_s,
                cooldown_s=alert_settings.cooldown_s,
            ),
            spool=self.spool,
            delivery=self.delivery,
            channels=known,
            state_file=folder / "incidents.json",
            clock=clock,
            source="box",
            quiet=QuietHours.parse(quiet_hours),
        )
        self.alerts.resume()
        self.events.emit("readiness_changed", ready=True, reason="")

    async def run(self, seconds: float, step_s: float = 1.0) -> None:
        """Let time pass, with a look and a round of delivery at each step."""
        for _ in range(round(seconds / step_s)):
            self.time.pass_time(step_s)
            await self.alerts.look()
            await self.delivery.round()

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(notice.rule, notice.kind.value) for _, notice in self.sender.sent]


def event(name: str, **fields: Any) -> Event:
    return Event(name, NOON, fields)
