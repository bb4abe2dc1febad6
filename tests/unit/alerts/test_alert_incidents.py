"""From events to notices that arrive: one for each incident, one for its end, whatever clocks and networks do."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from pathlib import Path

import pytest

from alerts_support import Rig, ScriptedSender
from steadyocr.ops import repeating
from steadyocr.ops.alerts import manager
from steadyocr.telemetry.loops import Loops
from support import in_real_time

RAISED, RECOVERED, REMINDER = (
    ("out_of_memory", "raised"),
    ("out_of_memory", "recovered"),
    ("out_of_memory", "reminder"),
)


def out_of_memory(rig: Rig) -> None:
    rig.events.emit("memory_event", where="engine", reason="killed")


@in_real_time
async def test_three_in_five_minutes_send_one_alert_and_later_one_recovery(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    for _ in range(3):
        out_of_memory(rig)
        await rig.run(100)
    assert rig.told == [RAISED]
    await rig.run(600)
    assert rig.told == [RAISED, RECOVERED]
    await rig.run(600)
    assert rig.told == [RAISED, RECOVERED]
    first = rig.sender.sent[0][1]
    assert first.title == "[critical] box: engines run out of memory"
    assert "3 within 5 min; last: engine, killed" in first.body


@in_real_time
async def test_two_in_five_minutes_send_nothing(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    for _ in range(2):
        out_of_memory(rig)
        await rig.run(100)
    await rig.run(600)
    assert rig.told == []


@in_real_time
async def test_three_in_ten_minutes_send_nothing(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    for _ in range(3):
        out_of_memory(rig)
        await rig.run(200)
    await rig.run(600)
    assert rig.told == []


@in_real_time
async def test_pictures_refused_at_the_door_are_not_out_of_memory(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    for _ in range(10):
        rig.events.emit("memory_event", where="admission", reason="memory_pressure")
    await rig.run(10)
    assert rig.told == []


@in_real_time
async def test_a_long_incident_is_one_alert_and_reminders(tmp_path: Path) -> None:
    rig = Rig(tmp_path, remind_s=3600)
    for _ in range(75):
        out_of_memory(rig)
        await rig.run(60, step_s=5)
    await rig.run(600, step_s=5)
    assert rig.told == [RAISED, REMINDER, RECOVERED]


@in_real_time
async def test_an_incident_is_not_raised_again_before_it_has_cooled_down(tmp_path: Path) -> None:
    rig = Rig(tmp_path, unready_s=10, cooldown_s=300)
    for _ in range(5):
        rig.events.emit("readiness_changed", ready=False, reason="no engine is ready")
        await rig.run(15)
        rig.events.emit("readiness_changed", ready=True, reason="")
        await rig.run(35)
    assert rig.told == [("not_ready", "raised"), ("not_ready", "recovered")]
    rig.events.emit("readiness_changed", ready=False, reason="no engine is ready")
    await rig.run(300)
    assert rig.told[2:] == [("not_ready", "raised")], "still bad when it had cooled down"


@in_real_time
async def test_jumps_of_the_wall_clock_change_nothing(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    for jump in (0, 86_400 * 365, -86_400 * 700):
        rig.time.wall += jump
        out_of_memory(rig)
        await rig.run(90)
    assert rig.told == [RAISED]
    rig.time.wall += 86_400 * 3650
    await rig.run(200)
    assert rig.told == [RAISED]
    await rig.run(100)
    assert rig.told == [RAISED, RECOVERED]


@in_real_time
async def test_what_each_rule_listens_to(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.events.emit("quarantined", sha256="0" * 64, width=10, height=20, deaths=2, cause="crash")
    rig.events.emit("disk_low", free_bytes=1 << 20, floor_bytes=1 << 30)
    rig.events.emit("loop_died", loop="watch", error="boom")
    for _ in range(5):
        rig.events.emit("engine_died", slot=0, cause="crash", stage="detect", item={"width": 30, "height": 40})
    rig.events.emit("pressure_changed", before="full", after="shed", used=0.97)
    rig.events.emit("readiness_changed", ready=False, reason="no engine is ready")
    for _ in range(70):
        rig.events.emit("queue_full", waiting=64, max_size=64)
        await rig.run(1)
    raised = {notice.rule: notice for _, notice in rig.sender.sent}
    assert set(raised) == {
        "quarantine", "disk_low", "loop_died", "engine_restarts", "memory_pressure", "not_ready", "queue_full",
    }  # fmt: skip
    assert len(rig.told) == len(raised)
    assert "with a picture of 30x40 in hand, in detect" in raised["engine_restarts"].body
    assert "1 MiB free, the floor is 1024 MiB" in raised["disk_low"].body
    assert "no engine is ready" in raised["not_ready"].body
    rig.events.emit("disk_recovered", free_bytes=1 << 40, floor_bytes=1 << 30)
    rig.events.emit("pressure_changed", before="shed", after="full", used=0.1)
    rig.events.emit("readiness_changed", ready=True, reason="")
    await rig.run(120)
    over = {rule for rule, kind in rig.told if kind == "recovered"}
    assert over == {"disk_low", "memory_pressure", "not_ready", "queue_full"}


@in_real_time
async def test_a_service_that_never_becomes_ready_is_told(tmp_path: Path) -> None:
    rig = Rig(tmp_path, unready_s=60)
    rig.alerts._inbox.take()
    await rig.run(61)
    assert rig.told == [("not_ready", "raised")]


@in_real_time
async def test_stopping_on_purpose_is_no_incident(tmp_path: Path) -> None:
    rig = Rig(tmp_path, unready_s=10)
    rig.events.emit("drain_started")
    rig.events.emit("readiness_changed", ready=False, reason="shutting down")
    await rig.run(100)
    assert rig.told == []


@in_real_time
async def test_a_unit_that_failed_is_over_once_the_service_is_ready_again(tmp_path: Path) -> None:
    first_format = {"unit_failed": {"began_at": 1.0}, "gone": {}, "bad": 1}
    (tmp_path / "incidents.json").write_text(json.dumps(first_format))
    rig = Rig(tmp_path, unready_s=1000)
    rig.alerts._inbox.take()
    await rig.run(100)
    assert rig.told == [], "it is not ready yet"
    rig.events.emit("readiness_changed", ready=True, reason="")
    await rig.run(40)
    assert rig.told == [("unit_failed", "recovered")]


@in_real_time
async def test_a_unit_that_failed_is_not_over_by_a_moment_of_readiness(tmp_path: Path) -> None:
    (tmp_path / "incidents.json").write_text(json.dumps({"unit_failed": {"began_at": 1.0}}))
    rig = Rig(tmp_path, unready_s=1000)
    rig.alerts._inbox.take()
    rig.events.emit("readiness_changed", ready=True, reason="")
    await rig.run(10)
    rig.events.emit("readiness_changed", ready=False, reason="no engine is ready")
    await rig.run(100)
    assert rig.told == [], "it was ready for 10 s only"
    rig.events.emit("readiness_changed", ready=True, reason="")
    await rig.run(20)
    assert rig.told == [], "the time counts from the last time that it became ready"
    await rig.run(20)
    assert rig.told == [("unit_failed", "recovered")]


@in_real_time
async def test_a_unit_that_failed_is_never_raised_by_the_service_itself(tmp_path: Path) -> None:
    rig = Rig(tmp_path, unready_s=60)
    for ready in (True, False):
        rig.events.emit("readiness_changed", ready=ready, reason="")
        await rig.run(1000)
    assert rig.told == [("not_ready", "raised")]


def at_local(hour: int, minute: int = 0) -> float:
    return time.mktime((2026, 3, 4, hour, minute, 0, 0, 0, -1))


@in_real_time
async def test_lesser_alerts_of_quiet_hours_come_in_one_digest_afterwards(tmp_path: Path) -> None:
    rig = Rig(tmp_path, quiet_hours="22:00-07:00")
    rig.time.wall = at_local(23)
    rig.events.emit("quarantined", sha256="0" * 64, width=10, height=20, deaths=2, cause="crash")
    rig.events.emit("disk_low", free_bytes=1, floor_bytes=2)
    for _ in range(3):
        out_of_memory(rig)
    await rig.run(60)
    assert rig.told == [RAISED], "the critical one is sent at any hour"
    # Over midnight and a restart.
    rig.time.wall = at_local(6, 58)
    after = Rig(tmp_path, time=rig.time, sender=rig.sender, quiet_hours="22:00-07:00")
    await after.run(60)
    assert rig.told == [RAISED]
    await after.run(90)
    assert rig.told == [RAISED, ("digest", "digest")]
    body = rig.sender.sent[1][1].body
    assert "a picture that ends engines was quarantined" in body
    assert "the disk is nearly full" in body
    await after.run(60)
    assert len(rig.told) == 2


@in_real_time
async def test_without_channels_incidents_are_still_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig(tmp_path, channels=())
    for _ in range(3):
        out_of_memory(rig)
    with caplog.at_level(logging.WARNING):
        await rig.run(2)
    assert [record.__dict__["rule"] for record in caplog.records] == ["out_of_memory"]
    assert len(rig.spool) == 0


@in_real_time
async def test_a_fault_in_the_alerts_leaves_the_service_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(tmp_path)
    monkeypatch.setattr(repeating, "AFTER_FAULT_S", 0.0)
    monkeypatch.setattr(manager, "_PERIOD_S", 0.01)
    monkeypatch.setattr(rig.alerts.incidents, "check", lambda: 1 / 0)
    loops = Loops()
    rig.alerts.start(loops)
    while sum(record.message == "A part of the alerts failed" for record in caplog.records) < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert loops.dead == {}
    monkeypatch.undo()
    await loops.stop()
    await rig.alerts.stop()


@in_real_time
async def test_the_inbox_is_bounded(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    for _ in range(20_000):
        out_of_memory(rig)
    rig.events.emit("item_finished", ok=True)
    assert len(rig.alerts._inbox) == 1000 + 1, "of a kind; the other one tells of readiness"
    await rig.run(1)
    assert rig.told == [RAISED]


@in_real_time
async def test_a_storm_of_one_kind_pushes_out_nothing_else(tmp_path: Path) -> None:
    rig = Rig(tmp_path, unready_s=5)
    rig.events.emit("readiness_changed", ready=False, reason="no engine is ready")
    for _ in range(20_000):
        rig.events.emit("queue_full", waiting=64, max_size=64)
    await rig.run(6)
    assert rig.told == [("not_ready", "raised")]


@in_real_time
async def test_events_are_told_to_the_rules_in_their_order(tmp_path: Path) -> None:
    rig = Rig(tmp_path, unready_s=5)
    for ready in (False, True, False, True):
        rig.events.emit("readiness_changed", ready=ready, reason="")
        out_of_memory(rig)
    names = [told.name for _, told in rig.alerts._inbox.take()][1:]
    assert names == ["readiness_changed", "memory_event"] * 4


@in_real_time
async def test_an_incident_within_the_cool_down_is_raised_when_that_is_over(tmp_path: Path) -> None:
    rig = Rig(tmp_path, cooldown_s=900, out_of_memory_window_s=60)
    for _ in range(3):
        out_of_memory(rig)
    await rig.run(100)
    assert rig.told == [RAISED, RECOVERED]
    for _ in range(4):
        out_of_memory(rig)
    await rig.run(800)
    assert rig.told == [RAISED, RECOVERED]
    await rig.run(100)
    assert rig.told == [RAISED, RECOVERED, RAISED, RECOVERED], "told late, but told"
    assert "4 within 1 min" in rig.sender.sent[2][1].body


@in_real_time
async def test_a_golden_check_that_goes_on_failing_is_told(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    # Two engines, and one of them misreads.
    for number in range(10):
        rig.events.emit("golden_checked", ok=number % 2 == 0, problem="2 of 5 lines", source="golden")
        await rig.run(15)
    assert rig.told == [("golden", "raised")]
    assert "2 of 5 lines" in rig.sender.sent[0][1].body
    rig.events.emit("golden_checked", ok=True, problem="", source="golden")
    await rig.run(320)
    assert rig.told[1:] == [("golden", "recovered")]


@in_real_time
async def test_one_golden_check_that_came_too_late_is_not_told(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.events.emit("golden_checked", ok=False, problem="no time", source="golden")
    await rig.run(600)
    rig.events.emit("golden_checked", ok=False, problem="no time", source="golden")
    await rig.run(600)
    assert rig.told == []


@in_real_time
async def test_a_job_store_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    for ok, seconds in ((True, 10), (False, 50), (True, 10), (False, 70), (True, 40)):
        for _ in range(seconds):
            rig.events.emit("job_store_sample", ok=ok, code="" if ok else "unavailable")
            await rig.run(1)
    assert rig.told == [("job_store", "raised"), ("job_store", "recovered")]
    assert "for 1 min; unavailable" in rig.sender.sent[0][1].body


@in_real_time
async def test_what_is_not_sent_when_the_service_stops_is_sent_after_the_next_start(tmp_path: Path) -> None:
    rig = Rig(tmp_path, sender=ScriptedSender(failing={"one"}))
    for _ in range(3):
        out_of_memory(rig)
    await rig.alerts.stop()
    assert rig.told == []
    after = Rig(tmp_path, time=rig.time)
    await after.run(1)
    assert after.told == [RAISED]
