"""The recorder proper: rings of events and the records made of them. Does no input or output."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from steadyocr import __version__
from steadyocr.ops.flight.facts import facts_of
from steadyocr.ops.flight.front import Predecessor
from steadyocr.ops.flight.memory_watch import MemoryWatch
from steadyocr.ops.flight.ring import Ring
from steadyocr.ops.flight.trouble import LATELY_S, Trouble
from steadyocr.telemetry.events import Event

FORMAT: Final = 1
MAX_EVENTS: Final = 256
MAX_BYTES: Final = 64 << 10
_MAX_RINGS: Final = 64
# Deaths whose picture is still on its way, and ends of pictures whose engine's death is not yet told.
_MAX_OPEN: Final = 64
_FRONT: Final = "front"
# Deaths with nothing in hand that are written within that time.
_MAX_IDLE_DEATHS: Final = 5
# What an engine is before it ends because it was told to.
_ON_PURPOSE: Final = frozenset({"draining", "starting", "warming"})


@dataclass(slots=True, eq=False)
class Record:
    """One record, to be written now and once more when it is known what became of the picture.

    Attributes:
        number: Its place in the order of all records.
        label: Says in the file's name what it is about.
        body: Plain values.
    """

    number: int
    label: str
    body: dict[str, Any]


class Recorder:
    """Listens to the bus and makes a record whenever something ended that should not have.

    Args:
        memory: Tells what an ended engine really took.
        save: Takes a record; called in the bus's own thread, so it must be quick.
        situation: Tells how the service is, for the record: plain values.
        first_number: Of the first record.
    """

    def __init__(
        self,
        memory: MemoryWatch,
        save: Callable[[Record], None],
        situation: Callable[[], Mapping[str, Any]],
        first_number: int,
    ) -> None:
        self._memory = memory
        self._save = save
        self._look = situation
        self._next_number = first_number
        self._rings: dict[str, Ring] = {}
        self._open: deque[Record] = deque(maxlen=_MAX_OPEN)
        self._finished: deque[dict[str, Any]] = deque(maxlen=_MAX_OPEN)
        self._idle_deaths: deque[float] = deque(maxlen=_MAX_IDLE_DEATHS)
        self._pressure = "full"
        self._trouble = Trouble()
        self._stopping_since: float | None = None

    def observe(self, event: Event) -> None:
        """Take an event in."""
        facts = facts_of(event)
        ring = self._ring_of(facts)
        self._ring(ring).append(facts)
        self._trouble.observe(facts)
        match event.name:
            case "pressure_changed":
                self._pressure = str(facts.get("after"))
            case "engine_state" if facts.get("after") == "dead" and facts.get("before") in _ON_PURPOSE:
                self._memory.ended(facts.get("pid"))
            case "item_finished":
                self._item_ended(facts)
            case "engine_died":
                self._engine_died(facts, ring)
            case "loop_died":
                self.write("loop_died", f"loop {facts.get('loop')} ended by itself")
            case "drain_started":
                self._stopping_since = facts["at"]
            case "drain_ended":
                self._drained(facts)

    def _ring_of(self, facts: Mapping[str, Any]) -> str:
        slot = facts.get("slot")
        return _FRONT if slot is None else f"engine-{slot}"

    def _ring(self, name: str) -> Ring:
        if name not in self._rings:
            while len(self._rings) >= _MAX_RINGS:
                self._rings.pop(next(iter(self._rings)))
            self._rings[name] = Ring(MAX_EVENTS, MAX_BYTES)
        return self._rings[name]

    def situation(self) -> dict[str, Any]:
        """Return how the service is now, as plain values."""
        return {**self._look(), "pressure": self._pressure}

    def last_events(self, count: int) -> list[dict[str, Any]]:
        """Return the last events of all parts of the service, oldest first."""
        entries = (entry for ring in self._rings.values() for entry in ring.entries()[-count:])
        return sorted(entries, key=lambda entry: float(entry["at"]))[-count:]

    def write(self, label: str, reason: str, rings: Iterable[str] = (), **more: object) -> Record:
        """Make a record, now.

        Args:
            label: Says in the file's name what it is about.
            reason: Says it in words.
            rings: Names of those that go in; none means all.
            more: Further parts of the record, or other ones than those of now.
        """
        record = Record(
            self._next_number,
            label,
            {
                "format": FORMAT,
                "version": __version__,
                "reason": reason,
                "situation": self.situation(),
                "events": {name: self._ring(name).entries() for name in rings or list(self._rings)},
                **more,
            },
        )
        self._next_number += 1
        self._save(record)
        return record

    def _engine_died(self, facts: dict[str, Any], ring: str) -> None:
        seen_bytes, exact_bytes = self._memory.ended(facts.get("pid")), facts.get("peak_bytes")
        if not facts.get("item") and self._same_again(facts["at"]):
            return
        death = {**facts, "peak_bytes": exact_bytes or seen_bytes or None, "peak_is_exact": bool(exact_bytes)}
        item = facts.get("item") or {}
        outcome = self._known_outcome(item)
        label = f"{ring}-{facts.get('cause')}"
        record = self.write(label, "an engine ended", {ring, _FRONT} & self._rings.keys(), death=death, outcome=outcome)
        if outcome is None and item.get("request_id") is not None:
            self._open.append(record)

    def _same_again(self, at: float) -> bool:
        """Whether engines die with nothing in hand so often that one more record would only push better ones out."""
        if len(self._idle_deaths) == _MAX_IDLE_DEATHS and 0 <= at - self._idle_deaths[0] < LATELY_S:
            return True
        self._idle_deaths.append(at)
        return False

    def _known_outcome(self, item: Mapping[str, Any]) -> dict[str, Any] | None:
        """What became of the picture, when that was told before the engine's end was."""
        if item.get("request_id") is None:
            return None
        for finished in reversed(self._finished):
            same = finished.get("request_id") == item["request_id"]
            if same and int(finished.get("attempts", 0)) >= int(item.get("attempts", 0)):
                return dict(finished)
        return None

    def _item_ended(self, facts: dict[str, Any]) -> None:
        # No engine died with it, whatever it is called.
        if not facts.get("attempts"):
            return
        self._finished.append(facts)
        for record in [record for record in self._open if _request_of(record) == facts.get("request_id")]:
            self._open.remove(record)
            record.body["outcome"] = facts
            self._save(record)

    def _drained(self, facts: Mapping[str, Any]) -> None:
        # A drain may take long; what counts is how it was when the stop was asked for, and what happened since.
        trouble = self._trouble.lately(self._stopping_since or facts["at"])
        if not facts.get("clean"):
            trouble.append("not all that was accepted could be finished")
        if trouble:
            self.write("stop", f"the service was stopped in trouble: {', '.join(trouble)}")

    def service_died(self, predecessor: Predecessor) -> None:
        """Make a record of the service before this one, which was killed and could not make it."""
        death = {
            "pid": predecessor.pid,
            "started_at": predecessor.started_at,
            "seen_at": predecessor.seen_at,
            "uptime_s": predecessor.uptime_s,
            "rebooted": predecessor.rebooted,
        }
        reason = f"the service itself ended without a word: {predecessor.reason}"
        events = {_FRONT: list(predecessor.events)}
        self.write("service", reason, service_death=death, situation=predecessor.situation, events=events)


def _request_of(record: Record) -> object:
    return (record.body["death"].get("item") or {}).get("request_id")
