"""Three times more work than can be done: what is accepted is answered in time, and engines stay busy."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest
from scheduler_lab import lab

from scripted_engine import SERVICE_S
from steadyocr.errors import DeadlineExceeded, SteadyOCRError
from steadyocr.scheduling.service_time import ServiceTimes
from support import without_waiting

MEAN_S = 1.5


def test_before_anything_is_known_nothing_is_foretold() -> None:
    times = ServiceTimes()
    assert times.bound_s(10) == 0
    assert times.expected_s > 0


def test_the_bound_grows_with_length_and_spread_and_follows_the_latest() -> None:
    even, uneven, slowing = ServiceTimes(), ServiceTimes(), ServiceTimes()
    for index in range(64):
        even.record(2.0)
        uneven.record(1.0 if index % 2 else 3.0)
        slowing.record(2.0 if index < 56 else 6.0)
    assert even.bound_s(1) == pytest.approx(2.2)
    assert even.bound_s(10) == pytest.approx(22)
    assert even.bound_s(10) < uneven.bound_s(10) < uneven.bound_s(1) * 10
    assert slowing.expected_s == pytest.approx(6)


@pytest.mark.parametrize("engines", [1, 2, 4])
@pytest.mark.parametrize("seed", range(3))
@without_waiting
async def test_at_three_times_the_load_hardly_any_accepted_item_expires_and_goodput_holds(
    engines: int, seed: int
) -> None:
    chance = random.Random(seed)
    loop = asyncio.get_running_loop()
    async with lab(engines=engines, queue_size=64, budget_bytes=1 << 40) as made:
        await asyncio.sleep(2)
        for _ in range(10):
            await asyncio.gather(*made.reading(*[f"take {MEAN_S - SERVICE_S}"] * engines))
        outcomes: Counter[str] = Counter()
        tasks = []

        async def client() -> None:
            work_s = chance.lognormvariate(0, 0.5) * (MEAN_S - SERVICE_S)
            try:
                await made.read(f"take {work_s}", allowed_s=10.0)
            except SteadyOCRError as error:
                outcomes[error.code] += 1
            else:
                outcomes["ok"] += 1

        mean_s = SERVICE_S + (MEAN_S - SERVICE_S) * 1.133
        began = loop.time()
        while loop.time() - began < 300:
            tasks.append(asyncio.create_task(client()))
            await asyncio.sleep(chance.expovariate(3 * engines / mean_s))
        took_s = loop.time() - began
        await asyncio.gather(*tasks)
        assert outcomes["queue_full"] > 0
        assert outcomes["deadline_exceeded"] <= 0.01 * outcomes["ok"]
        assert outcomes["ok"] >= 0.9 * engines * took_s / mean_s


@without_waiting
async def test_with_an_engine_gone_or_one_at_a_time_the_advice_is_longer() -> None:
    async with lab(engines=4, budget_bytes=1 << 40) as made:
        await asyncio.sleep(2)
        reading = made.reading(*["take 9.5"] * 4)
        await asyncio.gather(*reading)
        reading = made.reading(*["take 9.5"] * 8)
        await asyncio.sleep(1)
        queue = made.scheduler.queue
        assert queue.expected_wait_s() == pytest.approx(10 * 9 / 4)
        made.scheduler.governor.one_at_a_time = True
        assert queue.expected_wait_s() == pytest.approx(10 * 9)
        made.scheduler.governor.one_at_a_time = False
        made.engines[0].die()
        await asyncio.sleep(0.5)
        assert queue.expected_wait_s() == pytest.approx(10 * 9 / 3)
        await asyncio.gather(*reading)


@without_waiting
async def test_an_engine_that_only_tidies_up_holds_nobody_up() -> None:
    async with lab(engines=1, budget_bytes=1 << 40) as made:
        await asyncio.sleep(2)
        await made.read("quick")
        assert await made.read("work 25") == "work 25"
        assert await made.read("tidy 0.2") == "tidy 0.2"
        assert await made.read("next", allowed_s=20.0) == "next"


@without_waiting
async def test_an_expired_item_says_whether_an_engine_had_it() -> None:
    async with lab(engines=1, budget_bytes=1 << 40) as made:
        await asyncio.sleep(2)
        begun = asyncio.create_task(made.read("work 5", allowed_s=2.0))
        await asyncio.sleep(0.1)
        waiting = asyncio.create_task(made.read("next", allowed_s=1.0))
        for task, began in ((waiting, False), (begun, True)):
            with pytest.raises(DeadlineExceeded) as raised:
                await task
            assert raised.value.details["began"] is began
