"""What a slot asks of the scheduler."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

from steadyocr.errors import SteadyOCRError
from steadyocr.scheduling.deaths import Death
from steadyocr.scheduling.engine import EngineProcess, EngineState
from steadyocr.scheduling.items import WorkItem

if TYPE_CHECKING:
    from steadyocr.scheduling.slot import Slot


class SlotOwner(Protocol):
    """What a slot needs from the scheduler."""

    async def next_item(self) -> WorkItem:
        """Wait for the next item that somebody waits for."""

    def take_back(self, item: WorkItem) -> None:
        """Take an item back that was handed out but not begun."""

    async def work(self, item: WorkItem, run: Callable[[], Awaitable[int]], gone: asyncio.Future[None]) -> None:
        """Run an item under the memory budget; ``run`` hands it to the engine and returns the engine's peak bytes.

        Once the engine is gone, an item that still waits for memory is taken back instead.
        """

    def after_death(self, item: WorkItem, death: Death) -> None:
        """Decide about the item in whose hand an engine died."""

    def slot_ready(self, slot: Slot) -> None:
        """Take note that an engine is ready."""

    def slot_failed(self, slot: Slot, error: SteadyOCRError) -> None:
        """Take note that an engine could not be started or has ended."""

    def slot_pauses(self, slot: Slot) -> None:
        """Take note that an engine leaves before its successor is there."""

    def engine_state(self, slot: Slot, engine: EngineProcess, before: EngineState, after: EngineState) -> None:
        """Take note of a step in an engine's life."""

    def headroom_bytes(self) -> float:
        """Return what further work may add to the memory in use, in bytes."""

    def room_for_standby(self) -> bool:
        """Whether memory allows a second engine for the time of a swap."""

    def may_pause(self, slot: Slot) -> bool:
        """Whether a slot may be without an engine for the time of a start."""

    def expect_standby(self, slot: Slot) -> None:
        """Keep memory for a second engine in a slot."""

    def standby_gone(self, slot: Slot) -> None:
        """Keep it no longer. Safe to call twice."""
