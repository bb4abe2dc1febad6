"""What the tests of the flight recorder share: a kernel that says what it is told, a recorder and its records."""

from __future__ import annotations

import json
from typing import Any

from steadyocr.ops.flight.explain import explain
from steadyocr.ops.flight.memory_watch import MemoryWatch
from steadyocr.ops.flight.recorder import Record, Recorder
from steadyocr.telemetry.events import Event

AT = 1_700_000_000.0
MIB = 1 << 20
ITEM = {
    "kind": "run", "width": 2000, "height": 1500, "predicted_bytes": 500 * MIB, "running_s": 1.5, "step": ["side_960"],
    "cap": 960, "attempts": 1, "request_id": "r1",
}  # fmt: skip


class FakeKernel:
    """High-water marks, set by hand."""

    def __init__(self) -> None:
        self.marks: dict[int, int] = {}

    def watch(self) -> MemoryWatch:
        return MemoryWatch(lambda pid: self.marks.get(pid, 0))


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
