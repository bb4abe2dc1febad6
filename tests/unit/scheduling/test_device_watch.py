"""A card's memory as a signal and as a budget, without a card."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from steadyocr.errors import MemoryPressure
from steadyocr.imaging.header import ImageHeader
from steadyocr.runtime.nvml import DeviceMemory
from steadyocr.scheduling.device_watch import DeviceWatch
from steadyocr.scheduling.governor import MemoryGovernor
from steadyocr.scheduling.items import WorkItem
from steadyocr.scheduling.memory_contract import MemoryContract
from steadyocr.scheduling.pressure import MemorySignals, PressureLadder, PressureLevel
from steadyocr.types import OcrOptions
from support import without_waiting

GIB = 1 << 30


@dataclass
class Card:
    reading: DeviceMemory | None
    closed: bool = False

    def read(self) -> DeviceMemory | None:
        return self.reading

    def close(self) -> None:
        self.closed = True


def watch(card: Card, governor: MemoryGovernor) -> DeviceWatch:
    return DeviceWatch("cuda", 0.9, governor, card)  # type: ignore[arg-type]


@without_waiting
async def test_a_full_card_is_pressure_though_the_machine_is_calm() -> None:
    card = Card(DeviceMemory(19 * GIB, 20 * GIB))
    watched = watch(card, MemoryGovernor(64 * GIB, 1))
    signals = watched.read(MemorySignals(0.1, 0.05), held_bytes=GIB)
    assert (signals.used, signals.stalled, watched.used) == (0.95, 0.05, 0.95)
    assert PressureLadder().update(signals, 0.0) is PressureLevel.SHED
    assert watched.read(MemorySignals(0.97), held_bytes=GIB).used == 0.97
    watched.close()
    assert card.closed


@without_waiting
async def test_the_budget_is_what_others_leave() -> None:
    governor = MemoryGovernor(64 * GIB, 1)
    card = Card(DeviceMemory(8 * GIB, 20 * GIB))
    watched = watch(card, governor)
    assert governor.device_available_bytes == math.inf
    watched.read(MemorySignals(0.1), held_bytes=3 * GIB)
    assert governor.device_available_bytes == 18 * GIB - 8 * GIB
    async with governor.reserve(0, 2 * GIB):
        # Work in hand shows up on the card; it must not be counted against the work twice.
        card.reading = DeviceMemory(10 * GIB, 20 * GIB)
        watched.read(MemorySignals(0.1), held_bytes=3 * GIB)
        assert governor.device_available_bytes == 18 * GIB - 8 * GIB
    card.reading = DeviceMemory(20 * GIB, 20 * GIB)
    watched.read(MemorySignals(0.1), held_bytes=3 * GIB)
    assert governor.device_available_bytes == 0


@without_waiting
async def test_a_card_that_cannot_be_read_changes_nothing() -> None:
    governor = MemoryGovernor(64 * GIB, 1)
    signals = MemorySignals(0.3)
    assert watch(Card(None), governor).read(signals, 0) is signals
    assert DeviceWatch("cpu", 0.9, governor).read(signals, 0) is signals
    assert governor.device_available_bytes == math.inf


@without_waiting
async def test_a_picture_gets_the_size_that_fits_the_card() -> None:
    governor = MemoryGovernor(64 * GIB, 1)
    contract = MemoryContract(governor)
    contract.learn_fit({"device_per_network_pixel": 1000.0})
    item = WorkItem(b"", OcrOptions(max_side=1280), 1e9, header=ImageHeader("png", 1280, 1280, 1, 1, 8, 3))
    assert contract.plan(item, None, {}).cap is None
    governor.device_budget_bytes = 1000.0 * 960 * 960
    cap = contract.plan(item, None, {}).cap
    assert cap is not None
    assert cap.max_side == 960
    governor.device_budget_bytes = 1000.0
    with pytest.raises(MemoryPressure):
        contract.plan(item, None, {})
