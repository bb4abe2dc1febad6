from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyocr.scheduling.pressure import (
    LadderParams,
    MemorySignals,
    PressureLadder,
    PressureLevel,
    read_signals,
)

PARAMS = LadderParams()


def climb(ladder: PressureLadder, *shares: float, start: float = 0.0) -> list[PressureLevel]:
    return [ladder.update(MemorySignals(share), start + second) for second, share in enumerate(shares)]


def test_levels_rise_at_once() -> None:
    levels = climb(PressureLadder(), 0.5, 0.81, 0.9, 0.99)
    assert levels == [
        PressureLevel.FULL,
        PressureLevel.SMALLER,
        PressureLevel.ONE_AT_A_TIME,
        PressureLevel.SHED,
    ]
    assert climb(PressureLadder(), 0.99) == [PressureLevel.SHED]


def test_levels_fall_one_at_a_time_and_only_after_a_calm_spell() -> None:
    ladder = PressureLadder()
    climb(ladder, 0.99)
    levels = climb(ladder, *[0.1] * 35, start=1)
    assert levels[9] is PressureLevel.SHED
    assert levels[10] is PressureLevel.ONE_AT_A_TIME
    assert levels[20] is PressureLevel.SMALLER
    assert levels[30] is PressureLevel.FULL


def test_just_below_a_step_the_level_stays() -> None:
    ladder = PressureLadder()
    climb(ladder, 0.81)
    levels = climb(ladder, *[PARAMS.smaller_at - PARAMS.slack / 2] * 60, start=1)
    assert set(levels) == {PressureLevel.SMALLER}


def test_a_swing_round_a_step_does_not_swing_the_service() -> None:
    ladder = PressureLadder()
    levels = climb(ladder, *[0.82, 0.7] * 40)
    assert set(levels) == {PressureLevel.SMALLER}


def test_stalls_take_one_step_but_never_shed() -> None:
    ladder = PressureLadder()
    assert ladder.update(MemorySignals(0.1, stalled=0.5), 0) is PressureLevel.SMALLER
    assert ladder.update(MemorySignals(0.9, stalled=0.9), 1) is PressureLevel.ONE_AT_A_TIME


def test_the_side_limit_follows_the_level() -> None:
    ladder = PressureLadder()
    assert ladder.side_limit is None
    climb(ladder, 0.81)
    assert ladder.side_limit == PARAMS.smaller_side


@given(st.lists(st.floats(0, 1), max_size=60))
def test_a_level_never_falls_by_more_than_one(shares: list[float]) -> None:
    levels = [PressureLevel.FULL, *climb(PressureLadder(), *shares)]
    assert all(after >= before - 1 for before, after in itertools.pairwise(levels))


@pytest.mark.parametrize("version", [1, 2])
def test_the_share_is_of_the_cgroups_limit_without_what_the_kernel_gives_back(tmp_path: Path, version: int) -> None:
    membership = tmp_path / "membership"
    proc = tmp_path / "proc"
    (proc / "pressure").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 1000 kB\nMemAvailable: 900 kB\n")
    (proc / "pressure/memory").write_text("some avg10=25.00 avg60=0.00 avg300=0.00 total=9\nfull avg10=1.00\n")
    if version == 1:
        box = tmp_path / "root/memory/box"
        membership.write_text("4:memory:/box\n")
        names, idle = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
            "total_inactive_file 0\ntotal_active_file 190\ntotal_mapped_file 40\n",
        )
    else:
        box = tmp_path / "root/box"
        membership.write_text("0::/box\n")
        names, idle = (
            ("memory.max", "memory.current"),
            "inactive_file 100\nactive_file 80\nfile_mapped 40\nslab_reclaimable 10\n",
        )
    box.mkdir(parents=True)
    (box / names[0]).write_text("1000\n")
    (box / names[1]).write_text("900\n")
    (box / "memory.stat").write_text(idle)
    signals = read_signals(tmp_path / "root", membership, proc)
    assert signals == MemorySignals(0.75, 0.25)


def test_without_a_cgroup_limit_the_machine_counts(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 1000 kB\nMemFree: 5 kB\nMemAvailable: 400 kB\n")
    signals = read_signals(tmp_path / "none", tmp_path / "none", tmp_path)
    assert signals.used == pytest.approx(0.6)
    assert signals.stalled == 0
