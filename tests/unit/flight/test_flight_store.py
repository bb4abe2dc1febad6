"""Where records lie, how they are found, and who is asked for one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flight_support import Desk
from steadyocr.errors import InvalidRequest, NotFoundError, Unavailable
from steadyocr.ops.flight import request
from steadyocr.ops.flight.front import front_file
from steadyocr.ops.flight.recorder import MAX_BYTES
from steadyocr.ops.flight.store import FlightStore


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


def test_what_a_killed_writer_leaves_goes_away(tmp_path: Path) -> None:
    writer = (
        "import os, sys; from pathlib import Path; from steadyocr.ops.flight.store import FlightStore\n"
        "os.fsync = lambda _: os.kill(os.getpid(), 9)\n"
        "FlightStore(Path(sys.argv[1])).save(int(sys.argv[2]), 'a', {})"
    )
    for number in ("1", "2"):
        subprocess.run([sys.executable, "-c", writer, str(tmp_path), number], check=False)
    first, second = sorted(tmp_path.iterdir())
    (tmp_path / ".notes.tmp").write_text("somebody else's")
    for path, age_s in ((first, 3600), (tmp_path / ".notes.tmp", 3600), (second, 0)):
        os.utime(path, (time.time() - age_s,) * 2)
    saved(FlightStore(tmp_path), range(3, 4))
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {".notes.tmp", second.name, "flight-000003-label.json"}, "one may be at work on the young one"


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
