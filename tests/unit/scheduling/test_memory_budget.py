from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyocr.imaging.header import ImageHeader
from steadyocr.scheduling.governor import MemoryGovernor, NotWanted, detect_budget_bytes
from steadyocr.scheduling.items import WorkItem
from steadyocr.scheduling.memory_contract import MemoryContract, WorkPlan
from steadyocr.scheduling.memory_model import MemoryFit, decoding_bytes, largest_fitting_side, network_pixels
from steadyocr.types import OcrOptions, SideCap
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
    png = replace(huge, format="png")
    assert slim.extra_bytes(png, 320, payload_bytes=1000) == decoding_bytes(png) + 3000


def test_decoding_costs_by_what_the_decoder_keeps() -> None:
    of = {
        (kind, channels): decoding_bytes(ImageHeader(kind, 1000, 1000, 1, 1, 8, channels))
        for kind in ("png", "webp")
        for channels in (1, 3, 4)
    }
    assert of["png", 1] < of["webp", 3] < of["png", 3] < of["webp", 4] <= of["png", 4]
    # Measured on 12 MP: 7.4 bytes a pixel at baseline, 7.5 and 10.3 for progressive 4:2:0 and 4:4:4.
    plain, halved, full = (
        decoding_bytes(ImageHeader("jpeg", 1000, 1000, 1, 1, 8, 3, kept_samples=kept)) for kept in (0.0, 1.5, 3.0)
    )
    assert (plain, halved, full) == pytest.approx((7.7e6, 7.7e6, 11e6))
    # And of gray TIFFs with 32 bits a sample 8.0.
    assert decoding_bytes(ImageHeader("tiff", 1000, 1000, 1, 1, 32, 1)) == pytest.approx(7.7e6)


def test_decoding_a_tiff_costs_its_whole_tile() -> None:
    # Measured: 100.7 MB for a picture of 200 x 200 in a tile of 4096 x 4096 pixels with 16 bits a sample, and 10.0
    # bytes a pixel for such a picture in one strip.
    tile, picture = 4096 * 4096 * 6, 3000 * 2000
    assert decoding_bytes(ImageHeader("tiff", 200, 200, 1, 1, 16, 3, piece_bytes=tile)) == pytest.approx(
        1.1 * (tile + 4 * 200 * 200)
    )
    strip = ImageHeader("tiff", 3000, 2000, 1, 1, 16, 3, piece_bytes=6 * picture)
    assert decoding_bytes(strip) == pytest.approx(11.0 * picture)
    # 11.0 bytes a pixel for a picture in one strip that Pillow turns, and 4.5 in gray.
    turned = ImageHeader("tiff", 3000, 2000, 1, 6, 8, 3, piece_bytes=3 * picture)
    assert decoding_bytes(turned) == pytest.approx(12.1 * picture)
    gray = ImageHeader("tiff", 3000, 2000, 1, 6, 8, 1, piece_bytes=picture)
    assert decoding_bytes(gray) == pytest.approx(4.95 * picture)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("frames", [2, None])
def test_decoding_an_animated_webp_costs_the_animation_decoder(frames: int | None, channels: int) -> None:
    # Measured on 6 MP: 16.2 bytes a pixel, with alpha and without.
    header = ImageHeader("webp", 3000, 2000, frames, 1, 8, channels)
    assert 16.2 * header.pixels < decoding_bytes(header) < 18 * header.pixels


@pytest.mark.parametrize("values", [{}, {"base": "much", "more": 1}, {"base": None, "per_pixel": [1]}])
def test_a_damaged_fit_is_the_guess(values: dict[str, object]) -> None:
    assert MemoryFit.from_wire(values) == MemoryFit()
    assert MemoryFit.from_wire({**values, "per_network_pixel": 5.0}).per_network_pixel == 5.0


@pytest.mark.parametrize("values", [[1], None, "fit", 5, [["base", 1.0]]])
def test_what_is_no_fit_at_all_is_the_guess(values: object) -> None:
    assert MemoryFit.from_wire(values) == MemoryFit()


@pytest.mark.parametrize("slope", [float("nan"), float("inf"), -1.0, True, 10**400])
def test_a_slope_that_is_no_measurement_is_guessed_and_measured_again(slope: object) -> None:
    fit = MemoryFit.from_wire({"base": 3e8, "per_pixel": slope, "per_network_pixel": 5.0, "samples": 6})
    assert fit == MemoryFit(base=3e8, per_network_pixel=5.0, samples=0)
    good = MemoryFit(base=3e8, per_pixel=2.0, per_network_pixel=5.0, samples=6)
    assert MemoryFit.from_wire(good.to_wire()) == good


def test_what_is_read_in_tiles_takes_a_tile_of_the_card_as_well() -> None:
    fit = MemoryFit(device_per_network_pixel=10.0)
    assert fit.tiled_device_extra_bytes(header(4000, 3000), 320) == 10.0 * 1280 * 1280
    assert fit.tiled_device_extra_bytes(header(400, 300), 320) == 10.0 * 400 * 300


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
    governor.wake()
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


@without_waiting
async def test_nobody_starves_who_must_be_alone_among_four_engines() -> None:
    governor = MemoryGovernor(10_000_000_000, engines=4)
    order: list[str] = []

    async def engine() -> None:
        for _ in range(10):
            async with governor.reserve(1):
                order.append("innocent")
                await asyncio.sleep(1)

    async def suspect() -> None:
        await asyncio.sleep(0.1)
        async with governor.reserve(1, alone=True):
            assert governor.in_hand == 1
            order.append("suspect")
            await asyncio.sleep(1)

    async def late_engine(seconds: float) -> None:
        await asyncio.sleep(seconds)
        await engine()

    await asyncio.gather(suspect(), *(late_engine(0.25 * index) for index in range(4)))
    assert order.index("suspect") <= 4


@without_waiting
async def test_a_large_share_is_not_passed_by_small_ones_for_ever() -> None:
    governor = MemoryGovernor(10_000_000_000, engines=4)
    available = governor.available_bytes
    order: list[str] = []

    async def work(name: str, share: float) -> None:
        async with governor.reserve(share):
            order.append(name)
            await asyncio.sleep(1)

    async def small_ones(after_s: float) -> None:
        await asyncio.sleep(after_s)
        for index in range(10):
            await work(f"small {index}", available / 4)

    async def large() -> None:
        await asyncio.sleep(0.4)
        await work("large", 0.9 * available)

    await asyncio.gather(large(), *(small_ones(index / 4) for index in range(3)))
    assert order.index("large") <= 3
    assert len(order) == 31


@without_waiting
async def test_who_is_first_and_leaves_lets_the_others_pass() -> None:
    governor = MemoryGovernor(10_000_000_000, engines=1)
    log: list[int] = []
    wanted = asyncio.get_running_loop().create_future()

    async def unwanted() -> None:
        async with governor.reserve(1, alone=True, called_off=(wanted,)):
            raise AssertionError("nobody wants it")

    holder = asyncio.create_task(hold(governor, log, 1, 100))
    await asyncio.sleep(1)
    first = asyncio.create_task(unwanted())
    second = asyncio.create_task(hold(governor, log, 1, 1, alone=True))
    third = asyncio.create_task(hold(governor, log, 1, 1))
    await asyncio.sleep(1)
    assert governor.waiting == 3
    wanted.set_result(None)
    with pytest.raises(NotWanted):
        await first
    second.cancel()
    await third
    assert not holder.done()
    await holder
    assert (governor.in_hand, governor.reserved_bytes, governor.waiting) == (0, 0, 0)


def test_the_memory_of_an_engine_that_warms_up_is_kept_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steadyocr.scheduling.governor.rss_bytes", lambda: 0)
    governor = MemoryGovernor(10_000_000_000, engines=2)
    governor.engine_base_bytes = 1_000_000_000
    before = governor.available_bytes
    governor.expect_standby(1)
    governor.expect_standby(1)
    assert governor.available_bytes == before - 1e9
    governor.standby_gone(1)
    governor.standby_gone(1)
    assert governor.available_bytes == before


def planned(governor: MemoryGovernor, side_limit: int | None, *, cautious: bool = False, **options: Any) -> WorkPlan:
    item = WorkItem(b"", OcrOptions(**options), 1e9, header=header(4000, 3000), suspect=cautious)
    return MemoryContract(governor).plan(item, side_limit, {"defaults": {"max_side": 1280}})


@without_waiting
async def test_under_pressure_no_side_that_a_client_asks_for_lets_tiles_through() -> None:
    governor = MemoryGovernor(100_000_000_000, engines=1)
    assert planned(governor, None, quality="tile", max_side=736).cap is None
    assert planned(governor, 1280, quality="tile", max_side=736).cap is None
    assert planned(governor, 960, quality="tile", max_side=736).cap == SideCap(736, ("side_736",))
    assert planned(governor, 960, quality="tile").cap == SideCap(960, ("side_960",))
    assert planned(governor, None, quality="tile", max_side=320, cautious=True).cap == SideCap(
        320, ("side_320",), "engine_died"
    )


@without_waiting
async def test_measuring_memory_takes_memory() -> None:
    contract = MemoryContract(MemoryGovernor(100_000_000_000, engines=1))
    plans = {
        kind: contract.plan(WorkItem(b"", OcrOptions(), 1e9, kind=kind), None, {})
        for kind in ("calibrate", "golden", "fit")
    }
    assert plans["calibrate"].extra_bytes > 100e6
    assert plans["golden"].extra_bytes == plans["fit"].extra_bytes == 0


@without_waiting
async def test_a_file_that_got_damaged_does_not_undo_what_was_measured() -> None:
    contract = MemoryContract(MemoryGovernor(100_000_000_000, engines=1))
    measured = MemoryFit(base=3e8, per_pixel=2.0, per_network_pixel=5.0, samples=6)
    contract.learn({"memory_fit": measured.to_wire()})
    for damaged in ([1], None, {"base": "much"}):
        contract.learn({"memory_fit": damaged})
        assert contract.fit == measured


@without_waiting
async def test_what_was_measured_with_another_model_says_nothing() -> None:
    contract = MemoryContract(MemoryGovernor(100_000_000_000, engines=1))
    measured = MemoryFit(base=3e8, per_pixel=2.0, per_network_pixel=5.0, samples=6)
    assert not contract.learn({"models": {"detector": "light"}, "memory_fit": measured.to_wire()})
    assert not contract.learn({"models": {"detector": "light"}, "memory_fit": None})
    assert contract.fit == measured
    assert contract.learn({"models": {"detector": "heavy"}, "memory_fit": None})
    assert contract.fit == MemoryFit(), "the cautious guess"
    assert contract.learn({"models": {"detector": "light"}, "memory_fit": measured.to_wire()})
    assert contract.fit == measured
