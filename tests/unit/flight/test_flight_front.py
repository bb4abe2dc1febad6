"""A service that was killed is found out by the next one, told on the bus, and explained."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from steadyocr.ops import repeating
from steadyocr.ops.flight import companion
from steadyocr.ops.flight.companion import FlightRecorder
from steadyocr.ops.flight.explain import explain
from steadyocr.ops.flight.front import FrontFile, boot_id, front_file, start_ticks
from steadyocr.ops.flight.store import FlightStore
from steadyocr.service import Service
from steadyocr.settings import load_settings
from steadyocr.telemetry.events import Event, Events
from steadyocr.telemetry.loops import Loops
from support import PATIENCE_S, in_real_time

MIB = 1 << 20
SITUATION = {"front_rss_bytes": 700 * MIB, "waiting": 12, "budget_bytes": 900 * MIB, "pressure": "shed", "unready": ""}


def left_behind(folder: Path, **changes: object) -> dict[str, Any]:
    """What a service that was killed leaves: here of a process that has ended meanwhile."""
    FrontFile(folder).write(SITUATION, [{"at": time.time() - 50, "event": "pressure_changed", "after": "shed"}])
    said: dict[str, Any] = json.loads(front_file(folder).read_text())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as dead:
        said |= {"pid": dead.pid, "start_ticks": start_ticks(dead.pid)}
        dead.communicate(b"\n")
    now = time.time()
    said |= {"started_at": now - 7300, "seen_at": now - 100, **changes}
    front_file(folder).write_text(json.dumps(said))
    return said


class Stand:
    """A flight recorder beside as little of a service as it needs."""

    def __init__(self, folder: Path) -> None:
        settings, _ = load_settings(environ={"STEADYOCR_DATA_DIR": str(folder)})
        governor = SimpleNamespace(budget_bytes=1 << 30, reserved_bytes=0)
        self.events, self.told = Events(), list[Event]()
        service = SimpleNamespace(
            settings=settings,
            events=self.events,
            scheduler=SimpleNamespace(slots=[], queue=[], governor=governor),
            unready_reason=lambda: "",
        )
        self.flight = FlightRecorder(cast("Service", service))
        self.store = FlightStore(folder / "flight")
        self.loops = Loops(self.events)

    async def start(self) -> None:
        self.flight.start(self.loops)
        # As the companions that are started after it.
        self.events.subscribe(self.told.append)

    async def stop(self) -> None:
        await self.loops.stop()
        await self.flight.stop()
        assert self.loops.dead == {}


async def until(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - a file of another thread's has no event
            await asyncio.sleep(0.01)


@in_real_time
async def test_a_service_that_was_killed_is_told_and_recorded_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "flight").mkdir()
    dead = left_behind(tmp_path / "flight")
    stand = Stand(tmp_path)
    await stand.start()
    await until(lambda: stand.store.paths())
    (event,) = stand.told
    assert (event.name, event.fields["pid"], event.fields["reason"]) == ("service_died", dead["pid"], "killed")
    assert (event.fields["uptime_s"], event.fields["rss_bytes"], event.fields["waiting"]) == (7200, 700 * MIB, 12)
    words = explain(*stand.store.load())
    assert f"The service itself (process {dead['pid']}) was gone after 2 h at least, last seen alive at" in words
    assert "journalctl -u steadyocr" in words
    assert "memory pressure level shed, budget 900 MiB, front 700 MiB, 12 waiting" in words
    assert "pressure_changed  after=shed" in words
    assert json.loads(front_file(stand.store.folder).read_text())["pid"] == os.getpid()
    await stand.stop()
    assert not front_file(stand.store.folder).exists()
    again = Stand(tmp_path)
    await again.start()
    await asyncio.sleep(0)
    await again.stop()
    assert (again.told, len(again.store.paths())) == ([], 1), "the one between ended in order"


@in_real_time
async def test_how_the_service_is_gets_written_down_while_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(companion, "_FRONT_PERIOD_S", 0.01)
    stand = Stand(tmp_path)
    await stand.start()
    for _ in range(100):
        stand.events.emit("pressure_changed", before="full", after="shed", used=0.9)
    said = front_file(stand.store.folder)
    await until(lambda: json.loads(said.read_text())["situation"]["pressure"] == "shed")
    assert len(json.loads(said.read_text())["events"]) == 16
    assert said.stat().st_mode & 0o077 == 0
    await stand.stop()


@in_real_time
async def test_a_folder_that_cannot_be_written_harms_nobody(tmp_path: Path) -> None:
    (tmp_path / "flight").write_text("a file where the folder should be")
    stand = Stand(tmp_path)
    await stand.start()
    await stand.stop()


def steps_that_failed(records: list[logging.LogRecord]) -> set[str]:
    """Names of what was repeated when a fault was told."""
    traces = [record.exc_info[2] for record in records if record.exc_info]
    return {trace.tb_next.tb_frame.f_code.co_name for trace in traces if trace is not None and trace.tb_next}


@in_real_time
async def test_a_fault_of_the_recorder_leaves_the_service_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_thread(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(companion, "_FRONT_PERIOD_S", 0.01)
    monkeypatch.setattr(repeating, "AFTER_FAULT_S", 0.01)
    (tmp_path / "flight").mkdir()
    left_behind(tmp_path / "flight")
    stand = Stand(tmp_path)
    # As it is at the limit of TasksMax=; each of the three loops has its own way to fail.
    with monkeypatch.context() as patched:
        patched.setattr("asyncio.to_thread", no_thread)
        patched.setattr(stand.flight._memory, "look", no_thread)
        await stand.start()
        await until(lambda: len(steps_that_failed(caplog.records)) == 3 or stand.loops.dead)
        assert stand.loops.dead == {}
    # With threads again, it goes on, and what could not be written is.
    await until(lambda: stand.store.paths())
    assert "front" in json.dumps(stand.store.load()[1])
    await stand.stop()


def test_a_write_that_was_under_way_does_not_bring_the_file_back(tmp_path: Path) -> None:
    file = FrontFile(tmp_path)
    file.write({}, [])
    file.remove()
    file.write({}, [])
    assert not front_file(tmp_path).exists()


def test_a_service_that_lives_is_nobodys_predecessor(tmp_path: Path) -> None:
    FrontFile(tmp_path).write({}, [])
    assert FrontFile(tmp_path).predecessor() is None


def test_a_process_with_the_same_number_is_another_one(tmp_path: Path) -> None:
    left_behind(tmp_path, pid=os.getpid(), start_ticks=1)
    predecessor = FrontFile(tmp_path).predecessor()
    assert predecessor is not None
    assert predecessor.reason == "killed"


@pytest.mark.skipif(not boot_id(), reason="the kernel does not name its runs")
def test_a_machine_that_went_down_is_told_from_a_kill(tmp_path: Path) -> None:
    left_behind(tmp_path, boot_id="another", pid=os.getpid(), start_ticks=start_ticks(os.getpid()))
    predecessor = FrontFile(tmp_path).predecessor()
    assert predecessor is not None
    assert predecessor.reason == "the machine went down"
    death = {"pid": 1, "uptime_s": None, "seen_at": None, "rebooted": True}
    assert "lost its power" in explain("name", {"reason": "r", "service_death": death})


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "1", '"x"', '{"pid": "x", "start_ticks": 1}', '{"pid": 1}', "[" * 99_999]
)
def test_a_damaged_file_tells_nothing(tmp_path: Path, text: str) -> None:
    front_file(tmp_path).write_text(text)
    assert FrontFile(tmp_path).predecessor() is None


@pytest.mark.parametrize(
    "odd",
    [
        {"started_at": None, "seen_at": "x", "situation": 1, "events": {}, "boot_id": 3},
        {"started_at": float("nan"), "seen_at": 1e300, "situation": None, "events": [1]},
        {"started_at": True, "seen_at": time.time() + 1e6},
    ],
)
def test_odd_parts_are_left_out(tmp_path: Path, odd: dict[str, object]) -> None:
    left_behind(tmp_path, **odd)
    predecessor = FrontFile(tmp_path).predecessor()
    assert predecessor is not None
    assert predecessor.uptime_s is None


def test_one_of_an_older_version_is_understood(tmp_path: Path) -> None:
    said = left_behind(tmp_path)
    front_file(tmp_path).write_text(json.dumps({name: said[name] for name in ("pid", "start_ticks")}))
    predecessor = FrontFile(tmp_path).predecessor()
    assert predecessor is not None
    assert (predecessor.uptime_s, predecessor.situation, predecessor.events) == (None, {}, [])


def test_the_start_of_a_process_is_read() -> None:
    ticks = start_ticks(os.getpid())
    assert ticks is not None
    assert ticks > 0
    assert start_ticks(2**22 + 1) is None
