"""What the recorder keeps, what it leaves out, when it writes and how it says it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from steadyocr.errors import InvalidRequest, NotFoundError, Unavailable
from steadyocr.ops.flight import request
from steadyocr.ops.flight.explain import explain
from steadyocr.ops.flight.facts import facts_of
from steadyocr.ops.flight.front import front_file
from steadyocr.ops.flight.memory_watch import MemoryWatch, Peak, children_peak_bytes, high_water_bytes
from steadyocr.ops.flight.recorder import MAX_BYTES, MAX_EVENTS, Record, Recorder
from steadyocr.ops.flight.ring import Ring
from steadyocr.ops.flight.store import FlightStore
from steadyocr.telemetry.events import Event

AT = 1_700_000_000.0
MIB = 1 << 20
ITEM = {
    "kind": "run", "width": 2000, "height": 1500, "predicted_bytes": 500 * MIB, "running_s": 1.5, "step": ["side_960"],
    "cap": 960, "attempts": 1, "request_id": "r1",
}  # fmt: skip


class FakeKernel:
    """High-water marks and the figure over ended children, set by hand."""

    def __init__(self) -> None:
        self.marks: dict[int, int] = {}
        self.largest_child = 100 * MIB

    def watch(self) -> MemoryWatch:
        return MemoryWatch(lambda pid: self.marks.get(pid, 0), lambda: self.largest_child)


class Desk:
    """A recorder whose records land in a list."""

    def __init__(self) -> None:
        self.kernel = FakeKernel()
        self.memory = self.kernel.watch()
        self.saved: list[Record] = []
        self.recorder = Recorder(self.memory, self.saved.append, lambda: {"waiting": 3, "budget_bytes": 1 << 30}, 7)

    def tell(self, name: str, at: float = AT, **fields: Any) -> None:
        self.recorder.observe(Event(name, at, fields))

    def die(self, **fields: Any) -> None:
        facts = {
            "slot": 0, "pid": 41, "cause": "out_of_memory", "signal": "SIGKILL", "exit_code": -9, "stage": "detect",
            "rss_bytes": 300 * MIB, "uptime_s": 60.0, "item": ITEM,
        }  # fmt: skip
        self.tell("engine_died", **{**facts, **fields})

    def words(self) -> str:
        record = self.saved[-1]
        return explain(record.label, json.loads(json.dumps(record.body)))


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


def test_the_kernels_figure_counts_when_this_engine_made_it_grow() -> None:
    kernel = FakeKernel()
    watch = kernel.watch()
    kernel.marks = {1: 500 * MIB, 2: 300 * MIB, 3: 400 * MIB}
    watch.look([1, 2, 3])
    kernel.largest_child = 2000 * MIB
    assert watch.ended(1) == Peak(2000 * MIB, exact=True)
    assert watch.ended(2) == Peak(300 * MIB, exact=False), "the figure is the other's"
    kernel.marks = {}
    watch.look([3])
    watch.ended_on_purpose(2)
    kernel.largest_child = 3000 * MIB
    watch.look([])
    assert watch.ended(3) == Peak(400 * MIB, exact=False), "a replaced engine made it grow"
    assert watch.ended(None) == watch.ended(99) == Peak(0, exact=False)


def test_what_other_children_of_the_front_took_is_not_an_engines() -> None:
    kernel = FakeKernel()
    watch = kernel.watch()
    kernel.marks = {1: 500 * MIB, 2: 400 * MIB}
    watch.look([1], idle=[2])
    # A run of the laboratory ends, while both engines live.
    kernel.largest_child = 3000 * MIB
    watch.look([1], idle=[2])
    del kernel.marks[1]
    watch.look([], idle=[2])
    assert watch.ended(1) == Peak(500 * MIB, exact=False)


def test_an_engine_that_is_gone_and_not_yet_told_of_keeps_its_figure() -> None:
    kernel = FakeKernel()
    watch = kernel.watch()
    kernel.marks = {1: 500 * MIB, 2: 400 * MIB}
    watch.look([1], idle=[2])
    del kernel.marks[1]
    kernel.largest_child = 2000 * MIB
    for _ in range(10):
        watch.look([2])
    assert watch.ended(1) == Peak(2000 * MIB, exact=True)


def test_an_engine_that_was_never_at_work_has_no_peak_of_its_own_but_its_end_counts() -> None:
    kernel = FakeKernel()
    watch = kernel.watch()
    kernel.marks = {1: 500 * MIB}
    watch.look([], idle=[1, 7])
    kernel.marks = {}
    watch.look([], idle=[1])
    assert watch.ended(1) == Peak(0, exact=False)
    watch.look([], idle=[1])
    kernel.largest_child = 900 * MIB
    watch.look([])
    kernel.marks = {3: 300 * MIB}
    watch.look([3])
    assert watch.ended(3) == Peak(300 * MIB, exact=False), "one that was told of holds nothing up"


def test_an_engine_whose_end_is_never_told_is_given_up() -> None:
    kernel = FakeKernel()
    watch = kernel.watch()
    kernel.marks = {1: 500 * MIB, 2: 400 * MIB}
    watch.look([1, 2])
    del kernel.marks[1]
    for _ in range(200):
        watch.look([2])
    kernel.largest_child = 2000 * MIB
    watch.look([2])
    assert watch.ended(2) == Peak(400 * MIB, exact=False)


def test_what_the_real_kernel_says() -> None:
    assert high_water_bytes(os.getpid()) > 10 * MIB
    assert high_water_bytes(2**22 + 1) == 0
    assert children_peak_bytes() >= 0


def test_a_replaced_engine_is_taken_note_of() -> None:
    desk = Desk()
    desk.tell("engine_state", slot=0, pid=40, before="draining", after="dead")
    desk.kernel.largest_child = 900 * MIB
    desk.memory.look([])
    desk.kernel.marks[41] = 350 * MIB
    desk.memory.look([41])
    desk.die()
    assert "at least 350 MiB" in desk.words()


def test_memory_of_processes_is_bounded() -> None:
    watch = MemoryWatch(lambda pid: pid, lambda: 0)
    watch.look(range(1, 10_000))
    assert len(watch._seen) == 256


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


def saved(store: FlightStore, numbers: Iterator[int] | range) -> None:
    for number in numbers:
        store.save(number, "label", {"format": 1, "number": number})


def test_the_folder_is_bounded_and_numbers_go_on(tmp_path: Path) -> None:
    store = FlightStore(tmp_path / "flight", max_files=3)
    assert (store.next_number(), store.paths()) == (1, [])
    saved(store, range(1, 6))
    (store.folder / "notes.txt").write_text("")
    assert [path.name for path in store.paths()] == [f"flight-00000{number}-label.json" for number in (3, 4, 5)]
    assert FlightStore(store.folder).next_number() == 6
    saved(store, range(999_999, 1_000_002))
    assert store.load()[1]["number"] == 1_000_001
    assert store.paths()[-1].stat().st_mode & 0o077 == 0


def test_the_largest_record_there_can_be_is_read_again(tmp_path: Path) -> None:
    desk = Desk()
    # Many parts, which a layout for the eye makes large, and few, of which much fits into a ring.
    many_small: dict[str, Any] = {"kind": "run", "degraded": ["y"] * 24, "step": [1] * 24, "attempts": 1}
    few_large: dict[str, Any] = {"kind": "run", "degraded": ["y" * 120] * 24, "request_id": "x" * 120, "attempts": 1}
    for fields, count in ((many_small, 256), (few_large, 40)):
        for slot in range(63):
            for _ in range(count):
                desk.tell("item_finished", slot=slot, **fields)
        for _ in range(count):
            desk.tell("item_refused", **fields)
        record = desk.recorder.write("requested", "somebody asked for it")
        store = FlightStore(tmp_path)
        store.save(record.number, record.label, record.body)
        assert store.load()[1]["events"].keys() == record.body["events"].keys()
        assert len(record.body["events"]) == 64
    assert sum(ring.bytes for ring in desk.recorder._rings.values()) > 60 * MAX_BYTES


def test_records_are_found_by_number_name_and_path(tmp_path: Path) -> None:
    store = FlightStore(tmp_path)
    saved(store, range(1, 3))
    for name in ("1", "flight-000001-label.json", str(tmp_path / "flight-000001-label.json")):
        assert store.load(name)[1]["number"] == 1


@pytest.mark.parametrize("name", ["2", "gone.json", "²", ""])
def test_no_such_record_is_a_clear_error(tmp_path: Path, name: str) -> None:
    store = FlightStore(tmp_path / "flight")
    with pytest.raises(NotFoundError, match="no engine has died yet"):
        store.load()
    saved(store, range(1, 2))
    with pytest.raises(NotFoundError, match="there is no flight record"):
        store.load(name)


@pytest.mark.parametrize("text", ["", "[]", '{"format": 2}', "{", " " * (5 << 20)])
def test_what_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "any.json").write_text(text)
    with pytest.raises(InvalidRequest):
        FlightStore(tmp_path).load("any.json")


def test_a_disk_that_takes_nothing_harms_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    saved(FlightStore(tmp_path / "file" / "flight"), range(1, 2))
    assert [record.message for record in caplog.records] == ["A flight record cannot be written"]


def test_nobody_else_is_signalled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("signalled"))
    store = FlightStore(tmp_path)
    with pytest.raises(Unavailable):
        request.request_record(store)
    for text in ("{", "[]", '{"pid": 1}', json.dumps({"pid": os.getpid(), "start_ticks": 1})):
        front_file(tmp_path).write_text(text)
        with pytest.raises(Unavailable):
            request.request_record(store)
