"""What the service itself holds, as a share of a budget that is tighter than the system's limits."""

from __future__ import annotations

import pytest

from steadyocr.runtime.memory import machine_bytes
from steadyocr.scheduling.pressure import MemorySignals, PressureLadder, PressureLevel, with_own_share

GIB = 1 << 30
CALM = MemorySignals(0.1, stalled=0.05)


def test_the_machine_has_memory() -> None:
    assert machine_bytes() > 100e6


def test_a_tight_budget_is_pressure_though_the_machine_is_calm() -> None:
    signals = with_own_share(CALM, budget_bytes=2 * GIB, resident_bytes=round(1.92 * GIB), bound_bytes=16 * GIB)
    assert signals.used == pytest.approx(0.96)
    assert signals.stalled == 0.05
    assert PressureLadder().update(signals, 0.0) is PressureLevel.SHED


def test_the_fuller_of_the_two_counts() -> None:
    full = MemorySignals(0.97)
    assert with_own_share(full, 2 * GIB, GIB, bound_bytes=16 * GIB) == MemorySignals(0.97, own=0.5)


@pytest.mark.parametrize("budget_bytes", [16 * GIB, 32 * GIB, 0])
def test_a_budget_that_is_the_systems_own_adds_nothing_to_what_is_used(budget_bytes: int) -> None:
    signals = with_own_share(CALM, budget_bytes, 15 * GIB, bound_bytes=16 * GIB)
    assert signals == MemorySignals(0.1, stalled=0.05, own=15 / 16)


def test_the_bound_is_asked_of_cgroup_and_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steadyocr.scheduling.pressure.memory_limit_bytes", lambda: 4 * GIB)
    assert with_own_share(CALM, 4 * GIB, 3 * GIB).used == CALM.used
    assert with_own_share(CALM, 3 * GIB, 3 * GIB).used == 1.0
    monkeypatch.setattr("steadyocr.scheduling.pressure.memory_limit_bytes", lambda: None)
    monkeypatch.setattr("steadyocr.scheduling.pressure.machine_bytes", lambda: 8 * GIB)
    assert with_own_share(CALM, 8 * GIB, 8 * GIB).used == CALM.used
    assert with_own_share(CALM, 4 * GIB, 3 * GIB).used == 0.75
