"""What the alert commands do."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from rich.table import Table

from steadyocr.cli.exit_codes import ExitCode
from steadyocr.cli.tables import print_table
from steadyocr.errors import ConfigError, InvalidRequest, SteadyOCRError
from steadyocr.ops.alerts.attach import build_delivery, open_spool, source_of, spool_folder_of, state_file_of
from steadyocr.ops.alerts.catalogue import UNIT_FAILED
from steadyocr.ops.alerts.channels import load_channels
from steadyocr.ops.alerts.clock import Clock
from steadyocr.ops.alerts.notices import Notice, NoticeKind, Severity, say_span, say_time
from steadyocr.ops.alerts.remembered import OpenIncident, read_state, write_state
from steadyocr.ops.alerts.sender import ProcessSender
from steadyocr.ops.alerts.waiting import waiting_in
from steadyocr.ops.flight.companion import flight_store
from steadyocr.ops.flight.explain import explain
from steadyocr.settings import Settings, load_alert_settings, load_settings

Say = Callable[[str], None]

_UNIT: Final = re.compile(r"[A-Za-z0-9:_.@\\-]{1,256}")
_UNIT_FACTS: Final = "ActiveState,SubState,Result,NRestarts,ExecMainCode,ExecMainStatus"
_SYSTEMCTL_S: Final = 5.0
# Rounds of delivery before the rest is left to the next start of the service, and the pause between them.
_ROUNDS: Final = 3
_PAUSE_S: Final = 1.0
_FLIGHT_LINES: Final = 6


def try_channels(config_file: Path | None, say: Say) -> ExitCode:
    """Send a test message to each channel.

    Raises:
        ConfigError: There are no channels, or they cannot be used.
    """
    settings, _ = load_settings(config_file=config_file)
    channels = load_channels(settings.alerts)
    if not channels:
        raise ConfigError("no alert channel is configured; set alerts.channels_file or alerts.channels")
    source = source_of(settings)
    text = f"This is a test of the alerts of steadyocr on {source}. Nothing is wrong."
    notice = Notice(NoticeKind.TEST, "test", Severity.INFO, f"[test] {source}: alerts work", text, time.time())

    async def send_all() -> list[str]:
        sender = ProcessSender(settings.alerts.send_timeout_s)
        return [(await sender.send(channel, notice)).problem for channel in channels]

    problems = asyncio.run(send_all())
    for channel, problem in zip(channels, problems, strict=True):
        say(f"{channel.name}: {problem or 'sent'}")
    failed = sum(map(bool, problems))
    if not failed:
        return ExitCode.OK
    return ExitCode.FAILED if failed == len(channels) else ExitCode.SOME_FAILED


def unit_failed(unit: str, config_file: Path | None, say: Say) -> ExitCode:
    """Tell once that a unit failed, with what is known of why; while that is open only as often as a reminder.

    Raises:
        InvalidRequest: That is no unit's name.
        ConfigError: The channels cannot be used.
    """
    if not _UNIT.fullmatch(unit):
        raise InvalidRequest("a unit's name has letters, digits and : - _ . @ \\ only")
    settings, problem = load_alert_settings(config_file=config_file)
    channels = load_channels(settings.alerts)
    clock = Clock()
    now = clock.wall()
    spool = open_spool(settings, clock)
    state_file = state_file_of(settings)
    state = read_state(state_file, now)
    title = f"[critical] {source_of(settings)}: {unit} failed and is not started again"
    known = state.open.get(UNIT_FAILED)
    if known is not None and now - known.told_at < settings.alerts.remind_s:
        title = f"{unit} failed; that was told at {say_time(known.told_at)} and is not over yet"
    else:
        # Broken settings are a likely cause of a unit that does not start.
        causes = [problem] if problem else []
        body = "\n".join([*_unit_facts(unit), *causes, *_last_flight(settings), "journalctl shows why"])
        notice = Notice(NoticeKind.RAISED, UNIT_FAILED, Severity.CRITICAL, title, body, now)
        spool.add(notice, [channel.name for channel in channels])
        # The service tells the end of it when it runs again.
        incident = OpenIncident(known.began_at if known else now, now, Severity.CRITICAL.label)
        write_state(state_file, dataclasses.replace(state, open={**state.open, UNIT_FAILED: incident}))
    delivery = build_delivery(settings, spool, channels, clock)

    async def deliver() -> None:
        for number in range(_ROUNDS):
            if number and len(spool):
                await asyncio.sleep(_PAUSE_S)
            await delivery.round()

    asyncio.run(deliver())
    left = len(spool)
    say(title if not left else f"{title}; {left} notice(s) wait for the next start")
    return ExitCode.OK if not left else ExitCode.UNAVAILABLE


def _unit_facts(unit: str) -> list[str]:
    """What systemd knows of a unit; nothing where there is no systemd."""
    program = shutil.which("systemctl")
    if program is None:
        return []
    command = [program, "show", f"--property={_UNIT_FACTS}", "--", unit]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SYSTEMCTL_S, check=True)  # noqa: S603 - a checked name
    except (OSError, subprocess.SubprocessError):
        return []
    return [", ".join(line for line in done.stdout.splitlines() if not line.endswith("="))]


def _last_flight(settings: Settings) -> list[str]:
    """The last flight record in short; nothing when there is none."""
    try:
        return ["last flight record:", *explain(*flight_store(settings).load()).splitlines()[:_FLIGHT_LINES]]
    except SteadyOCRError:
        return []


def print_alerts(config_file: Path | None, say: Say) -> None:
    """Print channels, open incidents and waiting notices. Changes nothing: a service may be at work on them."""
    settings, _ = load_settings(config_file=config_file)
    channels = load_channels(settings.alerts)
    say(f"channels: {', '.join(channel.name for channel in channels) or 'none'}")
    clock = Clock()
    incidents = read_state(state_file_of(settings), clock.wall()).open
    say(f"open incidents: {'' if incidents else 'none'}")
    for name, known in incidents.items():
        say(f"  {name} ({known.severity}), since {say_time(known.began_at)}")
    entries = waiting_in(spool_folder_of(settings))
    say(f"waiting notices: {'' if entries else 'none'}")
    if not entries:
        return
    table = Table("number", "age", "severity", "held", "channels", "title", box=None, pad_edge=False)
    for entry in entries:
        age = say_span(max(0.0, clock.wall() - entry.notice.at))
        held = "yes" if entry.held else ""
        cells = (str(entry.number), age, entry.notice.severity.label, held, " ".join(entry.pending), entry.notice.title)
        table.add_row(*cells)
    print_table(table)
