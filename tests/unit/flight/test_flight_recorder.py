"""What the recorder keeps, what it leaves out, when it writes and how it says it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flight_support import AT, ITEM, MIB, Desk
from steadyocr.ops.flight.explain import explain
from steadyocr.ops.flight.facts import facts_of
from steadyocr.ops.flight.recorder import MAX_BYTES, MAX_EVENTS
from steadyocr.ops.flight.ring import Ring
from steadyocr.telemetry.events import Event


@pytest.mark.parametrize(("events", "size", "kept"), [(3, 10_000, 3), (1000, 300, 10), (0, 10, 0)])
def test_a_ring_is_bounded_in_number_and_bytes(events: int, size: int, kept: int) -> None:
    ring = Ring(events, size)
    for number in range(100, 200):
        ring.append({"number": number, "filler": ""})
    assert len(ring) == kept
    assert ring.bytes == sum(len(json.dumps(entry)) for entry in ring.entries()) <= size
    assert [entry["number"] for entry in ring.entries()] == list(range(200 - kept, 200))


def test_an_entry_larger_than_a_ring_is_not_kept() -> None:
    ring = Ring(10, 100)
    ring.append({"small": 1})
    ring.append({"large": "x" * 1000})
    assert ring.entries() == [{"small": 1}]


def test_only_known_fields_are_written_and_short() -> None:
    fields = {
        "slot": 1,
        "text": "what was read",
        "file_name": "passport.jpg",
        "api_key": "k",
        "error": "OSError('/home/somebody')",
        "reason": "x" * 5000,
        "item": {"width": 3, "payload": "bytes", "request_id": "r"},
        "timings_ms": {"decode": 1.5, "secret": 2},
        "step": ["side_960"] * 1000,
        "at": "never",
    }
    facts = facts_of(Event("e" * 500, AT, fields))
    said = json.dumps(facts)
    for secret in ("what was read", "passport", "api_key", "somebody", "payload", "secret", "never"):
        assert secret not in said
    assert facts["item"] == {"width": 3, "request_id": "r"}
    assert facts["timings_ms"] == {"decode": 1.5}
    assert (len(facts["reason"]), len(facts["step"]), len(facts["event"])) == (120, 24, 120)


def test_a_peak_that_the_service_knows_to_the_page_goes_before_what_was_seen() -> None:
    desk = Desk()
    desk.kernel.marks[41] = 700 * MIB
    desk.memory.look([41])
    desk.die(peak_bytes=1000 * MIB)
    assert "500 MiB predicted, 1000 MiB in reality (2.00 times as much)" in desk.words()
    desk.die(peak_bytes=None)
    assert "1000 MiB" not in desk.words()


def test_a_death_is_written_at_once_and_again_with_its_outcome() -> None:
    desk = Desk()
    desk.kernel.marks[41] = 1900 * MIB
    desk.memory.look([41])
    desk.tell("pressure_changed", before="full", after="smaller", used=0.81)
    desk.die()
    assert [(record.number, record.label) for record in desk.saved] == [(7, "engine-0-out_of_memory")]
    assert "it was still on its way when this was written" in desk.words()
    desk.tell("item_finished", request_id="r2", attempts=1, code="ok")
    desk.tell("item_finished", request_id="r1", attempts=1, code="ok", service_s=2.0, degraded=["side_736"])
    assert [record.number for record in desk.saved] == [7, 7], "the same record, with more in it"
    words = desk.words()
    assert "engine 0 (process 41) was killed by the kernel because memory ran out (SIGKILL), 1 min after its" in words
    assert "a picture of 2000 x 1500 pixels (request r1), on attempt 1" in words
    assert "Step: detect (step 2 of 5), 1.5 s after it was handed over" in words
    assert "500 MiB predicted, at least 1900 MiB in reality, when last looked at (3.80 times as much)" in words
    assert "Ladder: side_960: the longer side was held to 960 pixels" in words
    assert "the picture was read by another engine in 2 s, side_736, 1 engine(s) had died with it" in words
    assert "memory pressure level smaller, budget 1024 MiB" in words


def test_an_outcome_told_before_the_death_is_found() -> None:
    desk = Desk()
    desk.tell("item_finished", request_id="r1", attempts=0, code="ok")
    desk.tell("item_finished", request_id="r1", attempts=2, code="quarantined")
    desk.die(item={**ITEM, "attempts": 2})
    assert len(desk.saved) == 1
    assert "the picture was quarantined" in desk.words()


def test_an_answer_of_long_ago_under_the_same_id_is_no_outcome() -> None:
    desk = Desk()
    desk.tell("item_finished", request_id="r1", attempts=0, code="ok")
    desk.tell("item_finished", request_id="r1", attempts=1, code="ok")
    desk.die(item={**ITEM, "attempts": 2})
    desk.tell("item_finished", request_id="r1", attempts=0, code="ok")
    assert [record.body["outcome"] for record in desk.saved] == [None]


def test_an_idle_death_and_work_without_id() -> None:
    desk = Desk()
    desk.die(item=None, stage=None, cause="hang")
    assert "hung and was killed" in desk.words()
    assert "no picture in hand. Memory: 300 MiB when it was last idle" in desk.words()
    desk.die(item={**ITEM, "kind": "golden", "request_id": None, "width": None}, stage=None, rss_bytes=0)
    assert "In hand: the golden picture, on attempt 1" in desk.words()
    assert "Step: not begun" in desk.words()
    assert "the real peak is unknown" in desk.words()
    assert "it is not known, because the work has no request id" in desk.words()


def test_engines_that_cannot_start_do_not_push_better_records_out() -> None:
    desk = Desk()
    for second in range(0, 300, 10):
        desk.tell("engine_died", AT + second, slot=0, pid=1, cause="start_failed", item=None)
    assert len(desk.saved) == 5
    desk.die()
    assert len(desk.saved) == 6
    desk.tell("engine_died", AT + 300, slot=0, pid=1, cause="start_failed", item=None)
    assert len(desk.saved) == 7, "the first is long ago"


def test_a_replaced_engines_memory_is_not_that_of_another_with_its_number() -> None:
    desk = Desk()
    desk.kernel.marks[41] = 900 * MIB
    desk.memory.look([41])
    desk.tell("engine_state", slot=0, pid=41, before="draining", after="dead")
    desk.die()
    assert "900 MiB" not in desk.words()
    desk.kernel.marks[41] = 350 * MIB
    desk.memory.look([41])
    desk.die()
    assert "at least 350 MiB" in desk.words()


def test_each_slot_has_a_ring_of_its_own_and_a_death_shows_its_own_and_the_fronts() -> None:
    desk = Desk()
    for slot in (0, 1):
        desk.tell("engine_state", slot=slot, pid=slot, before="ready", after="busy")
    desk.tell("readiness_changed", ready=True, reason="")
    desk.die(slot=1)
    assert set(desk.saved[0].body["events"]) == {"front", "engine-1"}
    record = desk.recorder.write("requested", "asked")
    assert set(record.body["events"]) == {"front", "engine-0", "engine-1"}


def test_rings_and_a_record_are_bounded() -> None:
    desk = Desk()
    for number in range(5000):
        desk.tell("item_finished", slot=number % 200, request_id="x" * 64, attempts=1, timings_ms={"decode": 1.0})
    for _ in range(5000):
        desk.tell("queue_full", waiting=64, max_size=64)
    assert len(desk.recorder._rings) == 64
    assert len(desk.recorder._finished) == 64
    desk.die(slot=199)
    rings = desk.saved[-1].body["events"]
    assert len(rings["front"]) == MAX_EVENTS
    assert len(json.dumps(desk.saved[-1].body)) < 3 * MAX_BYTES
    for _ in range(200):
        desk.die()
    assert len(desk.recorder._open) == 64


@pytest.mark.parametrize(
    ("before", "clean", "said"),
    [
        ([], True, None),
        ([], False, "not all that was accepted could be finished"),
        ([(10, "engine_died", {"slot": 0, "pid": 1, "cause": "crash"})], True, "an engine had died"),
        ([(1000, "engine_died", {"slot": 0, "pid": 1, "cause": "crash"})], True, None),
        ([(1000, "pressure_changed", {"after": "shed"})], True, "refused for want of memory"),
        ([(1000, "pressure_changed", {"after": "smaller"})], True, None),
        ([(2000, "pressure_changed", {"after": "shed"}), (1000, "pressure_changed", {"after": "full"})], True, None),
        ([(2000, "pressure_changed", {"after": "shed"}), (100, "pressure_changed", {"after": "full"})], True, "memory"),
        ([(1000, "readiness_changed", {"ready": False, "reason": "no engine is ready"})], True, "it was not ready"),
        ([(1000, "readiness_changed", {"ready": True, "reason": ""})], True, None),
        ([(1000, "golden_checked", {"ok": False})], True, "the known picture was not read rightly"),
        ([(2000, "golden_checked", {"ok": False}), (1000, "golden_checked", {"ok": True})], True, None),
    ],
)
def test_a_stop_is_written_only_when_there_was_trouble(
    before: list[tuple[float, str, dict[str, Any]]], clean: bool, said: str | None
) -> None:
    desk = Desk()
    for ago_s, name, fields in before:
        desk.tell(name, AT - ago_s, **fields)
    desk.saved.clear()
    desk.tell("drain_started")
    desk.tell("readiness_changed", AT + 1, ready=False, reason="shutting down")
    # A drain that takes its time does not make what was before it long ago.
    desk.tell("drain_ended", AT + 295, clean=clean)
    assert [record.label for record in desk.saved] == (["stop"] if said else [])
    if said:
        assert "the service was stopped in trouble" in desk.words()
        assert said in desk.words()


def test_a_loop_that_died_is_written() -> None:
    desk = Desk()
    desk.tell("loop_died", loop="watch", error="boom")
    assert "loop watch ended by itself" in desk.words()


@pytest.mark.parametrize("record", [{}, {"death": {"at": AT}}, {"death": {"at": AT, "item": {"width": 1}}}])
def test_a_meagre_record_is_still_explained(record: dict[str, Any]) -> None:
    if "death" in record and record["death"].get("item"):
        record["death"]["item"]["height"] = 2
    assert explain("name", record).startswith("name: ")
