"""Engines that are replaced before they go bad: warmed first where memory allows, in place where not."""

from __future__ import annotations

import asyncio

import pytest
from scheduler_lab import Lab, lab

from scripted_engine import BASE_BYTES, ENGINE, ScriptedEngine
from steadyocr.errors import EngineDied
from steadyocr.scheduling.items import WorkItem
from steadyocr.scheduling.retirement import Retirement, why_retire
from steadyocr.scheduling.slot import SlotConfig
from support import without_waiting

GROWTH = 256 << 20
ROOM_FOR_ONE = 400 << 20


class Growing(ScriptedEngine):
    """``grow N`` leaves it N MiB larger."""

    def _answer(self, item: WorkItem, order: str) -> None:
        super()._answer(item, order)
        if order.startswith("grow "):
            self.rss_bytes += int(order[5:]) << 20


@pytest.mark.parametrize(
    ("facts", "config", "why"),
    [
        ({}, {}, None),
        ({"allocation_failed": True}, {}, Retirement("allocator error", urgent=True)),
        ({"rss_bytes": BASE_BYTES + GROWTH}, {}, None),
        ({"rss_bytes": BASE_BYTES + GROWTH + 1}, {}, Retirement("memory", urgent=False)),
        ({"rss_bytes": BASE_BYTES + 2 * GROWTH + 1}, {}, Retirement("memory", urgent=True)),
        ({"rss_bytes": BASE_BYTES + 2 * GROWTH + 1, "untidy": True}, {}, None),
        ({"misreads": True}, {}, Retirement("golden", urgent=True)),
        ({"slow_golden_runs": 1}, {}, None),
        ({"slow_golden_runs": 2}, {}, Retirement("slow", urgent=False)),
        ({"items": 3}, {"retire_items": 3}, Retirement("age", urgent=False)),
        ({"items": 3}, {"retire_items": 0}, None),
        ({}, {"retire_age_s": 100.0}, Retirement("age", urgent=False)),
        ({}, {"retire_age_s": 101.0}, None),
    ],
)
@without_waiting
async def test_why_an_engine_is_replaced(
    facts: dict[str, int], config: dict[str, float], why: Retirement | None
) -> None:
    engine = ScriptedEngine(0)
    await engine.start(60)
    for name, value in facts.items():
        setattr(engine, name, value)
    made = SlotConfig(engine=ENGINE, retire_growth_bytes=GROWTH, **config)  # type: ignore[arg-type]
    assert why_retire(engine, made, age_s=100.0, headroom_bytes=1e12) == why


@without_waiting
async def test_growth_that_takes_the_room_of_pictures_is_urgent() -> None:
    engine = ScriptedEngine(0)
    await engine.start(60)
    engine.rss_bytes += GROWTH + 1
    made = SlotConfig(engine=ENGINE, retire_growth_bytes=GROWTH)
    assert why_retire(engine, made, 0.0, headroom_bytes=GROWTH) == Retirement("memory", urgent=True)


@pytest.fixture(autouse=True)
def small_front(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steadyocr.scheduling.governor.rss_bytes", lambda: 60 << 20)


def alive(made: Lab) -> int:
    return sum(engine is not None and engine.exit_code is None for engine in made.engines)


@pytest.mark.parametrize("order", ["exhaust", "grow 600"])
@without_waiting
async def test_without_room_a_bad_engine_leaves_at_once_and_the_next_picture_waits_for_its_successor(
    order: str,
) -> None:
    async with lab(Growing, budget_bytes=ROOM_FOR_ONE) as made:
        await asyncio.sleep(3600)
        first, second = made.reading(order, "next")
        assert await first == order
        await asyncio.sleep(0.5)
        assert alive(made) == 1, "never two at once"
        assert made.takes_work(), "the successor is on its way"
        assert await second == "next"
        assert made.engines[1].seen == [b"next"]
        slot = made.scheduler.slots[0]
        assert (slot.retirements, slot.restarts) == (1, 0)


@without_waiting
async def test_without_room_an_engine_that_has_grown_a_little_serves_until_nobody_needs_it() -> None:
    async with lab(Growing, budget_bytes=1200 << 20, heartbeat_s=20.0) as made:
        await asyncio.gather(*made.reading("grow 300", *"abcdef"))
        assert len(made.engines) == 1
        await asyncio.sleep(11.5)
        assert made.engines[0].exit_code is not None
        assert await made.read("next") == "next"
        assert made.engines[1].seen == [b"next"]


@without_waiting
async def test_a_leaking_engine_is_replaced_again_and_again_and_memory_never_runs_out() -> None:
    async with lab(Growing, budget_bytes=1 << 30) as made:
        for _ in range(40):
            assert await made.read("grow 100") == "grow 100"
            assert made.scheduler.governor.available_bytes > 100 << 20
        assert made.scheduler.slots[0].retirements > 5
        assert made.scheduler.slots[0].restarts == 0


@without_waiting
async def test_without_room_engines_leave_one_after_the_other() -> None:
    class OnceIsEnough(Growing):
        def _answer(self, item: WorkItem, order: str) -> None:
            failed = self.allocation_failed
            super()._answer(item, order)
            self.allocation_failed |= failed

    async with lab(OnceIsEnough, engines=3, budget_bytes=ROOM_FOR_ONE) as made:
        await asyncio.sleep(2)
        reading = made.reading("exhaust", "exhaust", "exhaust", *"abcdefghijklmnopqrstuvwxyz")
        fewest = 3
        while not all(task.done() for task in reading):
            fewest = min(fewest, sum(slot.ready for slot in made.scheduler.slots))
            await asyncio.sleep(0.05)
        await asyncio.gather(*reading)
        assert fewest == 2
        assert [slot.retirements for slot in made.scheduler.slots] == [1, 1, 1]


@without_waiting
async def test_a_successor_in_place_that_does_not_start_counts_as_a_death() -> None:
    class Second(Growing):
        async def start(self, timeout_s: float) -> None:
            if self.number == 2:
                raise EngineDied("no")
            await super().start(timeout_s)

    async with lab(Second, budget_bytes=ROOM_FOR_ONE) as made:
        await made.read("exhaust")
        assert await made.read("next") == "next"
        assert made.engines[2].seen == [b"next"]
        assert (made.scheduler.slots[0].retirements, made.scheduler.slots[0].restarts) == (0, 1)


@without_waiting
async def test_an_engine_is_replaced_by_age_in_seconds_when_that_is_asked_for() -> None:
    async with lab(budget_bytes=8 << 30, retire_age_s=3600.0) as made:
        await asyncio.sleep(3500)
        assert len(made.engines) == 1
        await asyncio.sleep(200)
        assert made.scheduler.slots[0].retirements == 1
        assert made.scheduler.slots[0].ready


@without_waiting
async def test_while_a_successor_warms_up_its_memory_is_kept_for_it() -> None:
    async with lab(Growing, budget_bytes=8 << 30) as made:
        governor = made.scheduler.governor
        before = governor.available_bytes
        await made.read("exhaust")
        await asyncio.sleep(0.5)
        assert alive(made) == 2
        assert governor.available_bytes == pytest.approx(before - BASE_BYTES, abs=50e6)
        await asyncio.sleep(5)
        assert alive(made) == 1
        assert governor.available_bytes == pytest.approx(before, abs=50e6)


@without_waiting
async def test_a_successor_that_does_not_start_gives_its_memory_back_and_is_not_tried_again_at_once() -> None:
    class OnlyOne(Growing):
        async def start(self, timeout_s: float) -> None:
            await super().start(timeout_s)
            if self.number > 1:
                raise EngineDied("no")

    async with lab(OnlyOne, budget_bytes=8 << 30) as made:
        before = made.scheduler.governor.available_bytes
        await made.read("exhaust")
        await asyncio.sleep(5)
        for _ in range(10):
            await made.read("exhaust")
        assert len(made.engines) == 2
        assert made.scheduler.governor.available_bytes == pytest.approx(before, abs=50e6)
        await asyncio.sleep(60)
        assert len(made.engines) > 2, "later it is"
