from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyocr.imaging.header import ImageHeader
from steadyocr.scheduling.governor import MemoryGovernor, detect_budget_bytes
from steadyocr.scheduling.memory_model import MemoryFit, decoding_bytes, largest_fitting_side, network_pixels
from support import without_waiting

FIT = MemoryFit(base=300e6, per_pixel=8.0, per_network_pixel=100.0)


def header(width: int, height: int, orientation: int = 1) -> ImageHeader:
    return ImageHeader("jpeg", width, height, 1, orientation, 8, 3)


def test_network_pixels_follow_the_viewed_size_and_the_stride() -> None:
    assert network_pixels(header(1280, 720), 1280) == 1280 * 736
    assert network_pixels(header(4000, 3000, orientation=6), 1280) == 960 * 1280
    assert network_pixels(header(1, 1), 1280) == 32 * 32


def fitting(picture: ImageHeader, max_side: int, available: float) -> int | None:
    return largest_fitting_side(max_side, lambda side: FIT.extra_bytes(picture, side) <= available)


def test_a_picture_that_fits_runs_at_the_side_asked_for() -> None:
    assert fitting(header(4000, 3000), 1280, 1e9) == 1280


def test_a_picture_that_does_not_fit_steps_down_and_then_out() -> None:
    need_at = {side: FIT.extra_bytes(header(4000, 3000), side) for side in (1280, 960, 320)}
    assert fitting(header(4000, 3000), 1280, need_at[960]) == 960
    assert fitting(header(4000, 3000), 1280, need_at[320]) == 320
    assert fitting(header(4000, 3000), 1280, need_at[320] - 1) is None


def test_a_small_side_asked_for_is_never_enlarged() -> None:
    assert fitting(header(4000, 3000), 400, 1e9) == 400


def test_a_huge_picture_is_dearest_while_it_is_unpacked() -> None:
    huge = header(20_000, 15_000)
    assert FIT.extra_bytes(huge, 320) == FIT.per_pixel * huge.pixels + FIT.per_network_pixel * 320 * 256
    slim = MemoryFit(per_pixel=3.0, per_network_pixel=100.0)
    assert slim.extra_bytes(huge, 320) == decoding_bytes(huge)
    assert slim.extra_bytes(huge, 320, payload_bytes=1000) == decoding_bytes(huge) + 2000


def test_decoding_costs_by_what_the_decoder_keeps() -> None:
    of = {
        (kind, channels): decoding_bytes(ImageHeader(kind, 1000, 1000, 1, 1, 8, channels))
        for kind in ("png", "webp")
        for channels in (1, 3, 4)
    }
    assert of["png", 1] < of["webp", 3] < of["png", 3] < of["webp", 4] <= of["png", 4]


@pytest.mark.parametrize("values", [{}, {"base": "much", "more": 1}, {"base": None, "per_pixel": [1]}])
def test_a_damaged_fit_is_the_guess(values: dict[str, object]) -> None:
    assert MemoryFit.from_wire(values) == MemoryFit()
    assert MemoryFit.from_wire({**values, "per_network_pixel": 5.0}).per_network_pixel == 5.0


@given(st.integers(1, 20_000), st.integers(1, 20_000), st.floats(0, 4e9))
def test_what_is_found_fits(width: int, height: int, available: float) -> None:
    side = fitting(header(width, height), 1280, available)
    if side is not None:
        assert FIT.extra_bytes(header(width, height), side) <= available


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
