"""Which size an item runs at and what that is predicted to take, and how well predictions have been kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from steadyocr.errors import MemoryPressure
from steadyocr.scheduling.governor import MemoryGovernor
from steadyocr.scheduling.items import WorkItem
from steadyocr.scheduling.memory_model import (
    SIDE_STEPS,
    MemoryFit,
    largest_fitting_side,
    network_pixels,
    tiled_extra_bytes,
)
from steadyocr.types import SideCap

_DEFAULT_SIDE = 1280
_ERROR_SMOOTHING = 0.05


@dataclass(frozen=True, slots=True)
class WorkPlan:
    """Side cap to run under (``None``: full quality) and predicted extra bytes."""

    cap: SideCap | None
    extra_bytes: float


class MemoryContract:
    """Plans items within the budget. The fit comes from the engines, which measure it.

    Attributes:
        fit: The model in use.
        within_20_percent: Share of items whose peak was predicted within 20 %, smoothed; ``None`` before the first.
    """

    def __init__(self, governor: MemoryGovernor) -> None:
        self._governor = governor
        self.fit = MemoryFit()
        self.within_20_percent: float | None = None

    def learn(self, facts: Mapping[str, Any]) -> None:
        """Take an engine's measurements over."""
        if facts.get("memory_fit"):
            self.learn_fit(facts["memory_fit"])
        self._governor.engine_base_bytes = float(facts.get("rss_bytes", 0))

    def learn_fit(self, values: Mapping[str, Any]) -> None:
        """Take a fitted model over."""
        self.fit = MemoryFit.from_wire(values)

    def plan(self, item: WorkItem, side_limit: int | None, facts: Mapping[str, Any]) -> WorkPlan:
        """Find the largest side at which an item fits.

        Args:
            item: The work.
            side_limit: From the pressure ladder, in pixels.
            facts: What the engines said, for the default side.

        Raises:
            MemoryPressure: The picture does not fit the budget at any side.
        """
        if item.header is None:
            return WorkPlan(None, 0.0)
        wanted = item.options.max_side or int(facts.get("defaults", {}).get("max_side", _DEFAULT_SIDE))
        side = min(wanted, side_limit or wanted)
        if item.suspect:
            side = next((step for step in SIDE_STEPS if step < side), side)
        if item.options.quality == "tile" and side == wanted:
            tiled = tiled_extra_bytes(self.fit, item.header, wanted)
            if tiled <= self._governor.available_bytes:
                return WorkPlan(None, tiled)
        fitting = largest_fitting_side(self.fit, item.header, side, self._governor.available_bytes)
        if fitting is None:
            raise MemoryPressure(
                "this picture needs more memory than the service may use; send it smaller",
                needed_bytes=round(self.fit.extra_bytes(item.header.pixels, network_pixels(item.header, side))),
                available_bytes=round(self._governor.available_bytes),
            )
        extra = self.fit.extra_bytes(item.header.pixels, network_pixels(item.header, fitting))
        # A cap that the picture does not reach takes nothing away.
        matters = fitting < min(wanted, max(item.header.viewed_size)) or item.options.quality == "tile"
        return WorkPlan(SideCap(fitting, (f"side_{fitting}",)) if matters else None, extra)

    def record(self, item: WorkItem, peak_bytes: int) -> None:
        """Compare a prediction with what the engine reported."""
        if item.header is None or not peak_bytes:
            return
        error = abs(self.predicted_peak_bytes(item) / peak_bytes - 1.0)
        hit = float(error <= 0.2)
        if self.within_20_percent is None:
            self.within_20_percent = hit
        else:
            self.within_20_percent += _ERROR_SMOOTHING * (hit - self.within_20_percent)

    def predicted_peak_bytes(self, item: WorkItem) -> float:
        """Predict the engine's peak with an item in hand, in bytes."""
        if item.header is None:
            return self.fit.base
        side = item.cap.max_side if item.cap else item.options.max_side or _DEFAULT_SIDE
        if item.options.quality == "tile" and item.cap is None:
            return self.fit.base + tiled_extra_bytes(self.fit, item.header, side)
        return self.fit.peak_bytes(item.header.pixels, network_pixels(item.header, side))

    def describe(self, item: WorkItem) -> dict[str, Any]:
        """Return what is known of an item, for a forensic record: sizes, never content."""
        header = item.header
        return {
            "bytes": len(item.payload),
            "format": header.format if header else None,
            "width": header.width if header else None,
            "height": header.height if header else None,
            "predicted_peak_bytes": round(self.predicted_peak_bytes(item)),
            "steps": list(item.cap.steps) if item.cap else [],
        }
