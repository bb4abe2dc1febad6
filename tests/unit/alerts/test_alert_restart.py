"""What the alerts know outlives a restart, whatever the clocks did, and a damaged file is no obstacle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alerts_support import NOON, HandClock, Rig
from steadyocr.ops.alerts.remembered import Counted, OpenIncident, Remembered, read_state, write_state
from support import in_real_time

RAISED, RECOVERED, REMINDER = (
    ("out_of_memory", "raised"),
    ("out_of_memory", "recovered"),
    ("out_of_memory", "reminder"),
)


def out_of_memory(rig: Rig, times: int = 3) -> None:
    for _ in range(times):
        rig.events.emit("memory_event", where="engine", reason="killed")


def restarted(rig: Rig, folder: Path, *, away_s: float = 0.0, **settings: Any) -> Rig:
    """The same alerts in a process that has just started, on a machine that has too."""
    rig.time.wall += away_s
    rig.time.now = 3.0
    return Rig(folder, time=rig.time, sender=rig.sender, **settings)


@in_real_time
async def test_a_restart_does_not_tell_an_incident_twice_and_tells_its_end(tmp_path: Path) -> None:
    time = HandClock()
    rig = Rig(tmp_path, time=time)
    out_of_memory(rig)
    await rig.run(5)
    assert rig.told == [RAISED]
    # The monotonic clock begins anew with the machine.
    time.now = 3.0
    again = Rig(tmp_path, time=time)
    out_of_memory(again)
    await again.run(200)
    assert again.told == []
    await again.run(200)
    assert again.told == [RECOVERED]
    third = Rig(tmp_path, time=time)
    await third.run(600)
    assert third.told == []


@in_real_time
async def test_the_cool_down_goes_on_over_a_restart(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"out_of_memory_window_s": 60, "cooldown_s": 600}
    rig = Rig(tmp_path, **settings)
    out_of_memory(rig)
    await rig.run(100)
    rig = restarted(rig, tmp_path, **settings)
    out_of_memory(rig)
    await rig.run(400)
    assert rig.told == [RAISED, RECOVERED]
    rig = restarted(rig, tmp_path, **settings)
    await rig.run(300)
    assert rig.told == [RAISED, RECOVERED, RAISED, RECOVERED], "what was due is still told"


@in_real_time
async def test_the_clock_of_reminders_goes_on_over_restarts(tmp_path: Path) -> None:
    rig = Rig(tmp_path, remind_s=4 * 3600)
    out_of_memory(rig)
    for _ in range(9):
        for _ in range(15):
            out_of_memory(rig, 1)
            await rig.run(120, step_s=20)
        rig = restarted(rig, tmp_path, remind_s=4 * 3600)
    assert rig.told == [RAISED, REMINDER]


@in_real_time
async def test_after_a_long_rest_the_end_is_told_and_no_reminder_before_it(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    out_of_memory(rig)
    await rig.run(5)
    rig = restarted(rig, tmp_path, away_s=3 * 86_400)
    await rig.run(700, step_s=10)
    assert rig.told == [RAISED, RECOVERED]
    assert "open for 3" in rig.sender.sent[1][1].body, "days, not the age of the process"


@in_real_time
async def test_windows_count_over_restarts(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    for _ in range(3):
        out_of_memory(rig, 1)
        await rig.run(2)
        rig = restarted(rig, tmp_path, away_s=100)
    await rig.run(2)
    assert rig.told == [RAISED]


@pytest.mark.parametrize(("away_s", "told"), [(400.0, []), (86_400 * 365.0, []), (-86_400 * 700.0, [RAISED])])
@in_real_time
async def test_a_window_after_a_pause_or_with_a_clock_that_was_set(
    tmp_path: Path, away_s: float, told: list[tuple[str, str]]
) -> None:
    rig = Rig(tmp_path)
    out_of_memory(rig, 2)
    await rig.run(2)
    rig = restarted(rig, tmp_path, away_s=away_s)
    out_of_memory(rig, 1)
    await rig.run(2)
    assert rig.told == told


@in_real_time
async def test_a_service_that_is_killed_three_times_within_an_hour_is_one_alert(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    for number in range(5):
        rig = restarted(rig, tmp_path, away_s=1000)
        rig.events.emit("service_died", pid=number, uptime_s=990.0, reason="killed")
        await rig.run(2)
        assert len(rig.told) == (number >= 2)
    await rig.run(3700, step_s=10)
    assert rig.told == [("service_deaths", "raised"), ("service_deaths", "recovered")]
    assert "3 within 1 h; last: process 2 after 16.5 min, killed" in rig.sender.sent[0][1].body


@in_real_time
async def test_a_service_that_is_killed_now_and_then_is_not(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    for number in range(5):
        rig = restarted(rig, tmp_path, away_s=1900)
        rig.events.emit("service_died", pid=number, reason="killed")
        await rig.run(2)
    assert rig.told == []


@in_real_time
async def test_nothing_is_written_while_nothing_changes(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    out_of_memory(rig, 1)
    await rig.run(1)
    file = tmp_path / "incidents.json"
    before = file.stat()
    for _ in range(10):
        rig.events.emit("memory_event", where="admission", reason="memory_pressure")
        await rig.run(1)
    assert file.stat().st_ino == before.st_ino


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{", "1", '"x"', "[" * 100_000,
        '{"out_of_memory": "x"}',
        '{"format": 2, "open": 1, "ended": [], "counted": "x"}',
        '{"format": 2, "ended": {"out_of_memory": null}, "counted": {"out_of_memory": {"at": 1}}}',
        '{"format": 2, "counted": {"out_of_memory": {"at": [null, "x", NaN, -1, true, {}], "due": 1}}}',
        '{"format": 2, "open": {"out_of_memory": 3, "no_such_rule": {}}, "counted": {"not_ready": {"at": [1]}}}',
    ],
)  # fmt: skip
@in_real_time
async def test_a_damaged_file_is_no_obstacle(tmp_path: Path, text: str) -> None:
    (tmp_path / "incidents.json").write_text(text)
    rig = Rig(tmp_path)
    await rig.run(2)
    assert rig.told == []
    out_of_memory(rig)
    await rig.run(2)
    assert rig.told == [RAISED]


@pytest.mark.parametrize("began_at", ["null", '"x"', "[]", "1e300", "NaN", "Infinity", "-5", "true"])
@in_real_time
async def test_an_incident_that_is_open_stays_so_although_its_time_is_damaged(tmp_path: Path, began_at: str) -> None:
    (tmp_path / "incidents.json").write_text(f'{{"out_of_memory": {{"began_at": {began_at}, "severity": 1}}}}')
    rig = Rig(tmp_path)
    await rig.run(310, step_s=10)
    assert rig.told == [RECOVERED]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    state = Remembered(
        open={"a": OpenIncident(1.5, 2.5, "critical")}, ended={"b": 3.0}, counted={"c": Counted((4.0, 5.0), due=True)}
    )
    write_state(tmp_path / "state.json", state)
    assert read_state(tmp_path / "state.json", NOON) == state
    assert json.loads((tmp_path / "state.json").read_text())["format"] == 2


def test_a_time_that_lies_ahead_is_now() -> None:
    wire = Remembered(open={"a": OpenIncident(9.0, 9.0, "critical")}, counted={"c": Counted((1.0, 9.0))}).to_wire()
    state = Remembered.from_wire(wire, 5.0)
    assert (state.open["a"].began_at, state.open["a"].told_at, state.counted["c"].at) == (5.0, 5.0, (1.0, 5.0))
