from __future__ import annotations

import logging
import re
import time
from pathlib import Path

import pytest

from steadyocr.telemetry import events as events_module
from steadyocr.telemetry.events import Event, Events


def test_a_listener_hears_what_happens_and_when() -> None:
    events, heard = Events(), list[Event]()
    events.subscribe(heard.append)
    before = time.time()
    events.emit("disk_low", free_bytes=1, floor_bytes=2)
    assert [(event.name, dict(event.fields)) for event in heard] == [("disk_low", {"free_bytes": 1, "floor_bytes": 2})]
    assert before <= heard[0].at <= time.time()


def test_a_failing_listener_harms_neither_the_emitter_nor_the_others(caplog: pytest.LogCaptureFixture) -> None:
    def fails(event: Event) -> None:
        raise ValueError("boom")

    events, heard = Events(), list[Event]()
    events.subscribe(fails)
    events.subscribe(heard.append)
    events.emit("drain_started")
    assert [event.name for event in heard] == ["drain_started"]
    assert [(record.levelno, record.event) for record in caplog.records] == [(logging.ERROR, "drain_started")]  # type: ignore[attr-defined]


def test_nobody_is_told_after_unsubscribing() -> None:
    events, first, second = Events(), list[Event](), list[Event]()
    end_first = events.subscribe(first.append)
    events.subscribe(second.append)
    end_first()
    end_first()
    events.emit("drain_started")
    assert (len(first), len(second)) == (0, 1)


def test_a_listener_may_leave_while_an_event_is_told() -> None:
    events, heard = Events(), list[str]()

    def once(event: Event) -> None:
        heard.append(event.name)
        leave()

    leave = events.subscribe(once)
    events.subscribe(lambda event: heard.append(f"other {event.name}"))
    events.emit("a")
    events.emit("b")
    assert heard == ["a", "other a", "other b"]


def test_the_table_of_events_is_the_one_that_is_told() -> None:
    source = Path(events_module.__file__).parents[1]
    told = {
        name
        for path in source.rglob("*.py")
        for name in re.findall(r"events\.emit\(\s*\"(\w+)\"", path.read_text(encoding="utf-8"))
    }
    assert events_module.__doc__ is not None
    assert set(re.findall(r"^``(\w+)``", events_module.__doc__, re.MULTILINE)) == told
