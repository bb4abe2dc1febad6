"""When an engine that works is to be replaced before it goes bad."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from steadyocr.scheduling.engine import EngineProcess

if TYPE_CHECKING:
    from steadyocr.scheduling.slot import SlotConfig

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
    if engine.allocation_failed:
        return Retirement("allocator error", urgent=True)
    if grown:
        urgent = growth > min(_FAR_BEYOND * config.retire_growth_bytes, headroom_bytes)
        return Retirement("memory", urgent)
    if config.retire_items and engine.items >= config.retire_items:
        return Retirement("age", urgent=False)
    if config.retire_age_s and age_s >= config.retire_age_s:
        return Retirement("age", urgent=False)
    return None
