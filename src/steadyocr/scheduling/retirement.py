"""When an engine that works is to be replaced before it goes bad."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from steadyocr.scheduling.engine import EngineProcess

if TYPE_CHECKING:
    from steadyocr.scheduling.slot import SlotConfig

# What a golden run may take, as a multiple of what it took when the engine started, and whatever that says. Neighbours
# that take the processor slow a healthy engine several times over; a model that swaps or has lost its device slows it a
# hundred times.
_SLOWER: Final = 10.0
_LEAST_GOLDEN_BOUND_S: Final = 3.0
# A neighbour may have been at work during one.
_MOST_SLOW_RUNS: Final = 2
# An engine that has grown by so many times the bound goes at once, even where no successor can be warmed first.
_FAR_BEYOND: Final = 2


@dataclass(frozen=True, slots=True)
class Retirement:
    """Why an engine is to go, and whether that can wait until nobody needs it."""

    reason: str
    urgent: bool


def why_retire(engine: EngineProcess, config: SlotConfig, age_s: float, headroom_bytes: float) -> Retirement | None:
    """Say why an engine with nothing in hand is to be replaced; ``None`` when it may stay.

    Args:
        engine: It.
        config: The bounds.
        age_s: How long it has been ready, in seconds.
        headroom_bytes: What is left for work; an engine that has grown by more than that takes it from the pictures.
    """
    growth = engine.rss_bytes - int(engine.ready.get("rss_bytes", engine.rss_bytes))
    # What is kept for the next item is no growth.
    grown = growth > config.retire_growth_bytes and not engine.untidy
    if engine.misreads:
        return Retirement("golden", urgent=True)
    if engine.allocation_failed:
        return Retirement("allocator error", urgent=True)
    if grown:
        urgent = growth > min(_FAR_BEYOND * config.retire_growth_bytes, headroom_bytes)
        return Retirement("memory", urgent)
    if engine.slow_golden_runs >= _MOST_SLOW_RUNS:
        return Retirement("slow", urgent=False)
    if config.retire_items and engine.items >= config.retire_items:
        return Retirement("age", urgent=False)
    if config.retire_age_s and age_s >= config.retire_age_s:
        return Retirement("age", urgent=False)
    return None


def note_golden(engine: EngineProcess, golden: Mapping[str, Any]) -> None:
    """Take note of how an engine has read the golden picture: wrongly, or far more slowly than when it started."""
    engine.misreads = not golden["ok"]
    slow = float(golden["duration_ms"]) / 1000 > golden_bound_s(engine.ready)
    engine.slow_golden_runs = engine.slow_golden_runs + 1 if slow else 0


def golden_bound_s(ready: Mapping[str, Any]) -> float:
    """Return how long reading the golden picture may take, in seconds, by what an engine said when it was ready."""
    at_start_s = float(ready.get("golden", {}).get("duration_ms", 0.0)) / 1000
    return max(_SLOWER * at_start_s, _LEAST_GOLDEN_BOUND_S)
