"""Which size an item runs at and what that is predicted to take, and how well predictions have been kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from steadyocr.errors import MemoryPressure
from steadyocr.imaging.header import ImageHeader
from steadyocr.scheduling.governor import MemoryGovernor
from steadyocr.scheduling.items import WorkItem
from steadyocr.scheduling.memory_model import SIDE_STEPS, TILE_SIDE, MemoryFit, largest_fitting_side
from steadyocr.types import DegradationReason, SideCap

_DEFAULT_SIDE = 1280
_ERROR_SMOOTHING = 0.05
_CLOSE = 0.2
# So many times the prediction is no error of it. Measured with three backends: at most 1.11 with an engine's first
# picture, about 1.15 with the guess that there is before anything was measured.
_CLEARLY_MORE = 1.4
# The dearest of the pictures that memory is measured with (pipeline.calibration, which the front cannot import).
_CALIBRATION_PICTURE = ImageHeader("png", 4800, 3200, 1, 1, 8, 3)


@dataclass(frozen=True, slots=True)
class WorkPlan:
    """Side cap to run under (``None``: full quality) and predicted extra bytes, in RAM and on an accelerator."""

    cap: SideCap | None
    extra_bytes: float
    device_extra_bytes: float = 0.0


@dataclass(slots=True)
class PredictionBook:
    """How predictions have turned out.

    Attributes:
        items: Pictures whose peak was compared.
        close: Of these, how many were predicted within 20 %.
        under: How many took more than 20 % more than predicted: the dangerous kind.
        last_error: Of the last one, predicted over real less one.
        recent: Share within 20 %, smoothed over the last pictures; ``None`` before the first.
    """

    items: int = 0
    close: int = 0
    under: int = 0
    last_error: float = 0.0
    recent: float | None = None

    def note(self, predicted_bytes: float, peak_bytes: int) -> None:
        """Take one comparison in."""
        self.last_error = predicted_bytes / peak_bytes - 1.0
        hit = abs(self.last_error) <= _CLOSE
        self.items += 1
        self.close += hit
        self.under += self.last_error < -_CLOSE
        self.recent = float(hit) if self.recent is None else self.recent + _ERROR_SMOOTHING * (hit - self.recent)


class MemoryContract:
    """Plans items within the budget. The fit comes from the engines, which measure it.

    Attributes:
        fit: The model in use.
        book: How predictions have turned out.
    """

    def __init__(self, governor: MemoryGovernor) -> None:
        self._governor = governor
        self.fit = MemoryFit()
        self.book = PredictionBook()
        self._models: object = None
        # What each slot's engine holds with nothing in hand. It rises for the first pictures, as kernels for new
        # shapes are compiled and kept, so the start-up value would predict a warm engine too low.
        self._idle_bytes: dict[int, int] = {}

    @property
    def within_20_percent(self) -> float | None:
        """Share of items whose peak was predicted within 20 %, smoothed; ``None`` before the first."""
        return self.book.recent

    def learn(self, facts: Mapping[str, Any], slot: int = 0) -> bool:
        """Take an engine's measurements over when it becomes ready in a slot.

        Returns:
            Whether it has other models than the one before: what was measured with those says nothing any more.
        """
        fit = MemoryFit.from_wire(facts.get("memory_fit"))
        models_before, self._models = self._models, facts.get("models")
        changed = models_before is not None and self._models != models_before
        # A file that got damaged since must not undo what was measured with the same models.
        if fit.samples or changed:
            self.fit = fit if fit.samples else MemoryFit()
        self._learn_idle(slot, int(facts.get("rss_bytes", 0)))
        return changed

    def learn_fit(self, values: object) -> None:
        """Take a fitted model over."""
        self.fit = MemoryFit.from_wire(values)

    def plan(self, item: WorkItem, side_limit: int | None, facts: Mapping[str, Any]) -> WorkPlan:
        """Find the largest side at which an item fits, and note in its course what is predicted.

        Args:
            item: The work.
            side_limit: From the pressure ladder, in pixels.
            facts: What the engines said, for the default side.

        Raises:
            MemoryPressure: The picture does not fit the budget at any side.
        """
        plan = self._plan(item, side_limit, facts)
        item.course.predicted_bytes = self._idle_of(item) + plan.extra_bytes
        return plan

    def _plan(self, item: WorkItem, side_limit: int | None, facts: Mapping[str, Any]) -> WorkPlan:
        header = item.header
        if header is None:
            return self._plan_internal(item)
        wanted = item.options.max_side or int(facts.get("defaults", {}).get("max_side", _DEFAULT_SIDE))
        side = min(wanted, side_limit or wanted)
        if item.cautious:
            side = next((step for step in SIDE_STEPS if step < side), side)
        if item.options.quality == "tile" and not item.cautious and _tiles_are_within(side_limit, header):
            tiled = WorkPlan(
                None,
                self.fit.tiled_extra_bytes(header, wanted, len(item.payload)),
                self.fit.tiled_device_extra_bytes(header, wanted),
            )
            if self._fits(tiled):
                return tiled

        reason: DegradationReason = "engine_died" if item.suspect else "memory_pressure"

        def at(side: int) -> WorkPlan:
            # A cap that the picture does not reach takes nothing away.
            matters = side < min(wanted, max(header.viewed_size)) or item.options.quality == "tile"
            return WorkPlan(
                SideCap(side, (f"side_{side}",), reason) if matters else None,
                self.fit.extra_bytes(header, side, len(item.payload)),
                self.fit.device_extra_bytes(header, side),
            )

        fitting = largest_fitting_side(side, lambda each: self._fits(at(each)))
        if fitting is None:
            raise MemoryPressure(
                "this picture needs more memory than the service may use; send it smaller",
                needed_bytes=round(at(side).extra_bytes),
                available_bytes=round(self._governor.available_bytes),
            )
        return at(fitting)

    def _plan_internal(self, item: WorkItem) -> WorkPlan:
        """What work of our own takes: no front knows what a calibration costs before it is done, so it is guessed.

        Raises:
            MemoryPressure: A calibration does not fit the budget.
        """
        if item.kind != "calibrate":
            return WorkPlan(None, 0.0)
        picture, fit = _CALIBRATION_PICTURE, self.fit
        plan = WorkPlan(None, fit.extra_bytes(picture, _DEFAULT_SIDE), fit.device_extra_bytes(picture, _DEFAULT_SIDE))
        if not self._fits(plan):
            raise MemoryPressure("there is too little memory to measure what pictures cost")
        return plan

    def _fits(self, plan: WorkPlan) -> bool:
        governor = self._governor
        return (
            plan.extra_bytes <= governor.available_bytes and plan.device_extra_bytes <= governor.device_available_bytes
        )

    def record(self, item: WorkItem, peak_bytes: int) -> None:
        """Compare a prediction with what the engine reported, and take over what it holds now."""
        course = item.course
        if course.slot is not None and course.rss_bytes and not course.untidy_after:
            self._learn_idle(course.slot, course.rss_bytes)
        if course.untidy_before:
            # The peak may be what the item before has left.
            return
        # A picture that was refused half-way took less than reading it takes, and proves nothing.
        if item.header is not None and peak_bytes and item.answered and course.predicted_bytes:
            self.book.note(course.predicted_bytes, peak_bytes)

    def predicted_peak_bytes(self, item: WorkItem) -> float:
        """Return the engine's predicted peak with an item in hand, in bytes; before its plan is made, a first guess."""
        if item.course.predicted_bytes:
            return item.course.predicted_bytes
        if item.header is None:
            return self._idle_of(item)
        side = item.options.max_side or _DEFAULT_SIDE
        return self._idle_of(item) + self.fit.extra_bytes(item.header, side, len(item.payload))

    def exceeded(self, item: WorkItem, peak_bytes: int) -> bool:
        """Whether an engine clearly took more with an item than was to be expected; never where its peak is unknown."""
        # Scratch memory of the items before, and what it has grown by.
        more = max(0.0, item.course.held_bytes - self._idle_of(item))
        return peak_bytes > _CLEARLY_MORE * (self.predicted_peak_bytes(item) + more)

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

    def _learn_idle(self, slot: int, rss_bytes: int) -> None:
        self._idle_bytes[slot] = rss_bytes
        self._governor.engine_base_bytes = sum(self._idle_bytes.values()) / len(self._idle_bytes)

    def _idle_of(self, item: WorkItem) -> float:
        slot = item.course.slot
        return float(self._idle_bytes.get(slot, 0) if slot is not None else 0) or self.fit.base


def _tiles_are_within(side_limit: int | None, header: ImageHeader) -> bool:
    """Whether reading in tiles keeps to the ladder's limit; the side that the client asked for says nothing on that."""
    return side_limit is None or side_limit >= min(TILE_SIDE, max(header.viewed_size))
