from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyocr.imaging.header import ImageHeader
from steadyocr.scheduling.governor import MemoryGovernor, detect_budget_bytes
from steadyocr.scheduling.memory_model import MemoryFit, largest_fitting_side, network_pixels
from support import without_waiting

FIT = MemoryFit(base=300e6, per_pixel=8.0, per_network_pixel=100.0)


def header(width: int, height: int, orientation: int = 1) -> ImageHeader:
    return ImageHeader("jpeg", width, height, 1, orientation, 8, 3)


def test_network_pixels_follow_the_viewed_size_and_the_stride() -> None:
    assert network_pixels(header(1280, 720), 1280) == 1280 * 736
    assert network_pixels(header(4000, 3000, orientation=6), 1280) == 960 * 1280
    assert network_pixels(header(1, 1), 1280) == 32 * 32


def test_a_picture_that_fits_runs_at_the_side_asked_for() -> None:
    assert largest_fitting_side(FIT, header(4000, 3000), 1280, 1e9) == 1280


def test_a_picture_that_does_not_fit_steps_down_and_then_out() -> None:
    need_at = {side: FIT.extra_bytes(12_000_000, network_pixels(header(4000, 3000), side)) for side in (1280, 960, 320)}
    assert largest_fitting_side(FIT, header(4000, 3000), 1280, need_at[960]) == 960
    assert largest_fitting_side(FIT, header(4000, 3000), 1280, need_at[320]) == 320
    assert largest_fitting_side(FIT, header(4000, 3000), 1280, need_at[320] - 1) is None


def test_a_small_side_asked_for_is_never_enlarged() -> None:
    assert largest_fitting_side(FIT, header(4000, 3000), 400, 1e9) == 400


@given(st.integers(1, 20_000), st.integers(1, 20_000), st.floats(0, 4e9))
def test_what_is_found_fits(width: int, height: int, available: float) -> None:
    side = largest_fitting_side(FIT, header(width, height), 1280, available)
    if side is not None:
        assert FIT.extra_bytes(width * height, network_pixels(header(width, height), side)) <= available


def test_the_budget_of_this_machine_is_something() -> None:
    assert detect_budget_bytes() > 100e6


def test_available_memory_counts_the_front_idle_engines_and_a_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steadyocr.scheduling.governor.rss_bytes", lambda: 100_000_000)
    governor = MemoryGovernor(10_000_000_000, engines=2)
    governor.engine_base_bytes = 1_000_000_000
    assert governor.available_bytes == 10e9 * 0.85 - 2e9 - 1e8
    governor.engine_base_bytes = 9_000_000_000
    assert governor.available_bytes == 0


async def hold(governor: MemoryGovernor, log: list[int], extra: float, seconds: float, *, alone: bool = False) -> None:
    async with governor.reserve(extra, alone=alone):
        log.append(governor.in_hand)
        await asyncio.sleep(seconds)


@without_waiting
async def test_the_sum_never_passes_the_budget() -> None:
    governor = MemoryGovernor(10_000_000_000, engines=1)
    share = governor.available_bytes / 3.5
    log: list[int] = []
    peak = 0.0

    async def work() -> None:
        nonlocal peak
        async with governor.reserve(share):
            peak = max(peak, governor.reserved_bytes)
            log.append(governor.in_hand)
            await asyncio.sleep(1)

    await asyncio.gather(*(work() for _ in range(20)))
    assert max(log) == 3
    assert peak <= governor.available_bytes
    assert governor.reserved_bytes == 0
    assert governor.in_hand == 0


@without_waiting
async def test_what_is_larger_than_the_budget_still_runs_by_itself() -> None:
    governor = MemoryGovernor(1_000_000_000, engines=1)
    log: list[int] = []
    await asyncio.gather(*(hold(governor, log, 5e9, 1) for _ in range(3)))
    assert log == [1, 1, 1]


@without_waiting
async def test_a_suspect_runs_alone() -> None:
    governor = MemoryGovernor(10_000_000_000, engines=1)
    log: list[int] = []
    suspects: list[int] = []
    work = [hold(governor, log, 1, 1) for _ in range(5)]
    work.insert(2, hold(governor, suspects, 1, 1, alone=True))
    work += [hold(governor, log, 1, 1) for _ in range(5)]
    await asyncio.gather(*work)
    assert suspects == [1]
    assert max(log) > 1


@without_waiting
async def test_one_at_a_time_holds_from_the_next_reservation_on() -> None:
    governor = MemoryGovernor(10_000_000_000, engines=1)
    log: list[int] = []
    governor.one_at_a_time = True
    waiting = [asyncio.create_task(hold(governor, log, 1, 10)) for _ in range(3)]
    await asyncio.sleep(1)
    assert governor.in_hand == 1
    governor.one_at_a_time = False
    await governor.wake()
    await asyncio.sleep(1)
    assert governor.in_hand == 3
    await asyncio.gather(*waiting)


@without_waiting
async def test_who_stops_waiting_leaves_nothing_behind() -> None:
    governor = MemoryGovernor(10_000_000_000, engines=1)
    log: list[int] = []
    first = asyncio.create_task(hold(governor, log, 1, 10, alone=True))
    await asyncio.sleep(1)
    gone = asyncio.create_task(hold(governor, log, 1, 10))
    await asyncio.sleep(1)
    gone.cancel()
    await asyncio.gather(first, gone, return_exceptions=True)
    assert (governor.in_hand, governor.reserved_bytes) == (0, 0)
    await hold(governor, log, 1, 1)
