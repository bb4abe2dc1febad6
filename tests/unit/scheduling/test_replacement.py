"""Engines told something else while they serve: all or none, and never a moment without one."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from scripted_engine import ENGINE, ScriptedEngine
from steadyocr.errors import Draining, EngineDied, ModelError
from steadyocr.scheduling.config import EngineConfig
from steadyocr.scheduling.engine import EngineProcess
from steadyocr.scheduling.items import WorkItem
from steadyocr.scheduling.pressure import MemorySignals
from steadyocr.scheduling.scheduler import Scheduler, SchedulerConfig
from steadyocr.scheduling.slot import SlotConfig
from steadyocr.telemetry.loops import Loops
from steadyocr.types import OcrOptions
from support import without_waiting

NEW = dataclasses.replace(ENGINE, detector="new")


class Bench:
    """A scheduler whose engines remember what they were told."""

    def __init__(self, engines: int, start: Callable[[EngineConfig, int], None], retire_items: int = 0) -> None:
        self.made: list[tuple[EngineConfig, ScriptedEngine]] = []
        self.loops = Loops()
        self._start = start
        slot = SlotConfig(engine=ENGINE, retire_items=retire_items)
        config = SchedulerConfig(slot=slot, engines=engines, budget_bytes=1 << 40)
        self.scheduler = Scheduler(config, self.loops, self._make, lambda: MemorySignals(0.1))

    def _make(self, config: EngineConfig) -> EngineProcess:
        bench, number = self, len(self.made)

        class Engine(ScriptedEngine):
            async def start(self, timeout_s: float) -> None:
                await super().start(timeout_s)
                bench._start(config, number)

        self.made.append((config, Engine(number)))
        return self.made[-1][1]

    def serving(self) -> list[str]:
        by_engine = {id(engine): config.detector for config, engine in self.made}
        return [by_engine[id(slot.engine)] for slot in self.scheduler.slots]

    def alive(self) -> int:
        return sum(engine.exit_code is None for _, engine in self.made)

    async def read(self, order: str = "picture", within_s: float = 60) -> None:
        deadline = asyncio.get_running_loop().time() + within_s
        await self.scheduler.submit(WorkItem(order.encode(), OcrOptions(), deadline))


def never_fails(config: EngineConfig, number: int) -> None:
    del config, number


@asynccontextmanager
async def bench(
    engines: int = 2, start: Callable[[EngineConfig, int], None] = never_fails, retire_items: int = 0
) -> AsyncIterator[Bench]:
    made = Bench(engines, start, retire_items)
    await made.scheduler.start()
    await asyncio.sleep(5)
    try:
        yield made
    finally:
        await made.loops.stop()
        await made.scheduler.stop()
        assert made.alive() == 0


@without_waiting
async def test_every_engine_is_replaced_and_idle_ones_at_once() -> None:
    async with bench() as lab:
        began = asyncio.get_running_loop().time()
        await lab.scheduler.change_engines(NEW)
        assert lab.serving() == ["new", "new"]
        assert asyncio.get_running_loop().time() - began < 5
        await asyncio.sleep(1)
        assert lab.alive() == 2
        assert [slot.restarts for slot in lab.scheduler.slots] == [0, 0]
        assert lab.scheduler.config.slot.engine == NEW
        await lab.read()


@without_waiting
async def test_no_picture_waits_or_fails_while_engines_are_replaced() -> None:
    async with bench() as lab:
        change = asyncio.create_task(lab.scheduler.change_engines(NEW))
        while not change.done():
            # Half a second of work each, and never more than one such picture to wait for.
            await lab.read(within_s=1.5)
        change.result()
        assert lab.serving() == ["new", "new"]


@without_waiting
async def test_a_busy_engine_finishes_its_picture_first() -> None:
    async with bench(engines=1) as lab:
        reading = asyncio.create_task(lab.read("work 10"))
        await asyncio.sleep(0.1)
        await lab.scheduler.change_engines(NEW)
        assert reading.done()
        reading.result()
        assert lab.serving() == ["new"]


@without_waiting
async def test_a_model_that_cannot_serve_changes_nothing() -> None:
    def start(config: EngineConfig, number: int) -> None:
        if config == NEW and number == 3:
            raise ModelError("the models misread the golden picture")

    async with bench(start=start) as lab:
        with pytest.raises(ModelError, match="golden"):
            await lab.scheduler.change_engines(NEW)
        # The first slot had changed already and went back.
        assert lab.serving() == ["d", "d"]
        assert lab.scheduler.config.slot.engine == ENGINE
        await asyncio.sleep(1)
        assert lab.alive() == 2
        await lab.read()


@without_waiting
async def test_an_engine_that_dies_during_the_change_comes_back_with_what_counts() -> None:
    killed: list[int] = []

    def start(config: EngineConfig, number: int) -> None:
        # The old engine dies while its successor is just becoming ready.
        if config == NEW and not killed:
            killed.append(number)
            lab.made[0][1].die()

    async with bench(engines=1, start=start) as lab:
        await lab.scheduler.change_engines(NEW)
        assert lab.serving() == ["new"]
        await asyncio.sleep(5)
        assert lab.alive() == 1
        await lab.read()


@without_waiting
async def test_a_new_engine_that_never_takes_over_is_an_error() -> None:
    def start(config: EngineConfig, number: int) -> None:
        if config == NEW and number > 1:
            raise EngineDied("no")
        if config == NEW:
            lab.made[0][1].deaf = True
            lab.made[0][1].die()
            lab.made[1][1].die()

    async with bench(engines=1, start=start) as lab:
        with pytest.raises(EngineDied, match="in time"):
            await lab.scheduler.change_engines(NEW)
        await asyncio.sleep(60)
        assert lab.serving() == ["d"]


@without_waiting
async def test_without_memory_for_one_more_engine_each_leaves_before_the_next_one_comes() -> None:
    most = 0

    def start(config: EngineConfig, number: int) -> None:
        nonlocal most
        most = max(most, lab.alive()) if config == NEW else most

    async with bench(start=start) as lab:
        lab.scheduler.governor.budget_bytes = 0
        change = asyncio.create_task(lab.scheduler.change_engines(NEW))
        while not change.done():
            await lab.read(within_s=5)
        change.result()
        assert lab.serving() == ["new", "new"]
        assert most == 2
        assert [slot.restarts for slot in lab.scheduler.slots] == [0, 0]
        assert [slot.retirements for slot in lab.scheduler.slots] == [1, 1]


@pytest.mark.parametrize("engines", [1, 2])
@without_waiting
async def test_without_memory_for_one_more_a_model_that_cannot_serve_changes_nothing(engines: int) -> None:
    def start(config: EngineConfig, number: int) -> None:
        if config == NEW and lab.serving().count("new") == engines:
            raise ModelError("the models misread the golden picture")

    async with bench(engines, start=start) as lab:
        lab.scheduler.governor.budget_bytes = 0
        with pytest.raises(ModelError, match="golden"):
            await lab.scheduler.change_engines(NEW)
        assert lab.serving() == ["d"] * engines
        assert lab.alive() == engines
        assert lab.scheduler.config.slot.engine == ENGINE
        await lab.read()


@pytest.mark.parametrize("comes_up", [True, False])
@without_waiting
async def test_without_memory_for_one_more_an_engine_that_is_just_starting_is_replaced_as_well(comes_up: bool) -> None:
    def start(config: EngineConfig, number: int) -> None:
        if number == 1 and not comes_up:
            raise EngineDied("no")

    async with bench(engines=1, start=start) as lab:
        lab.scheduler.governor.budget_bytes = 0
        lab.made[0][1].die()
        await asyncio.sleep(0.5)
        assert not lab.scheduler.slots[0].ready
        await lab.scheduler.change_engines(NEW)
        assert lab.serving() == ["new"]
        await asyncio.sleep(5)
        assert len(lab.made) == 3, "and none is replaced for nothing"


@without_waiting
async def test_without_memory_for_one_more_a_model_that_cannot_serve_gives_way_to_the_one_that_was_starting() -> None:
    def start(config: EngineConfig, number: int) -> None:
        if config == NEW:
            raise ModelError("the models misread the golden picture")

    async with bench(engines=1, start=start) as lab:
        lab.scheduler.governor.budget_bytes = 0
        lab.made[0][1].die()
        await asyncio.sleep(0.5)
        with pytest.raises(ModelError, match="golden"):
            await lab.scheduler.change_engines(NEW)
        assert lab.serving() == ["d"]
        await lab.read()


@asynccontextmanager
async def all_at_work(lab: Bench) -> AsyncIterator[None]:
    """Every engine has a picture in hand, which waits for memory until this is over."""
    async with lab.scheduler.governor.reserve(1, alone=True):
        reading = [asyncio.create_task(lab.read(within_s=900)) for _ in lab.scheduler.slots]
        await asyncio.sleep(0.1)
        yield
    await asyncio.gather(*reading)
    await asyncio.sleep(30)


@pytest.mark.parametrize("room", [True, False])
@pytest.mark.parametrize("cancelled", [True, False])
@without_waiting
async def test_a_change_that_was_given_up_does_not_happen_later(room: bool, cancelled: bool) -> None:
    async with bench(engines=1) as lab:
        if not room:
            lab.scheduler.governor.budget_bytes = 0
        async with all_at_work(lab):
            change = asyncio.create_task(lab.scheduler.change_engines(NEW))
            await asyncio.sleep(10)
            if cancelled:
                change.cancel()
            with pytest.raises(asyncio.CancelledError if cancelled else EngineDied):
                await change
            assert lab.alive() == 1
        assert lab.serving() == ["d"]
        assert lab.scheduler.slots[0].retirements == 0, "and nothing else happens instead"


@without_waiting
async def test_an_engine_that_cannot_go_back_in_time_goes_back_later() -> None:
    async with bench() as lab:
        first, second = lab.scheduler.slots
        change = asyncio.create_task(lab.scheduler.change_engines(NEW))
        while lab.serving() != ["new", "d"]:  # noqa: ASYNC110 - the clock is a fake
            await asyncio.sleep(0.1)
        async with all_at_work(lab):
            with pytest.raises(EngineDied, match="in time"):
                await change
            assert lab.serving() == ["new", "d"]
        assert lab.serving() == ["d", "d"]
        assert (first.restarts, second.restarts) == (0, 0), "each served until its successor was there"
        for slot in (first, second):
            assert isinstance(slot.engine, ScriptedEngine)
            slot.engine.die()
        await asyncio.sleep(30)
        assert lab.serving() == ["d", "d"]
        assert lab.alive() == 2


@without_waiting
async def test_a_new_engine_that_takes_over_too_late_does_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    async def takes_its_time() -> None:
        await asyncio.sleep(200)
        await old.kill()

    async with bench(engines=1) as lab:
        old = lab.made[0][1]
        monkeypatch.setattr(old, "stop", takes_its_time)
        with pytest.raises(EngineDied, match="in time"):
            await lab.scheduler.change_engines(NEW)
        await asyncio.sleep(200)
        assert lab.serving() == ["d"]
        assert lab.alive() == 1


@without_waiting
async def test_an_engine_whose_place_is_taken_ends_even_when_the_loop_is_stopped_meanwhile() -> None:
    class Stubborn(ScriptedEngine):
        async def stop(self) -> None:
            await asyncio.sleep(1000)

    made: list[Stubborn] = []

    def make(_: EngineConfig) -> EngineProcess:
        made.append(Stubborn(len(made)))
        return made[-1]

    loops = Loops()
    config = SchedulerConfig(slot=SlotConfig(engine=ENGINE), budget_bytes=1 << 40)
    scheduler = Scheduler(config, loops, make, lambda: MemorySignals(0.1))
    await scheduler.start()
    change = asyncio.create_task(scheduler.change_engines(NEW))
    await asyncio.sleep(5)
    assert [engine.exit_code for engine in made] == [None, None], "the old one is being stopped"
    change.cancel()
    await loops.stop()
    assert all(engine.exit_code is not None for engine in made)


@without_waiting
async def test_a_successor_that_proves_itself_while_an_engine_still_leaves_is_not_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def takes_its_time() -> None:
        await asyncio.sleep(2)
        await old.kill()

    async with bench(engines=1, retire_items=1) as lab:
        old = lab.made[0][1]
        monkeypatch.setattr(old, "stop", takes_its_time)
        await lab.read()
        while lab.scheduler.slots[0].engine is old:  # noqa: ASYNC110 - the clock is a fake
            await asyncio.sleep(0.1)
        await asyncio.sleep(1.7)
        assert old.exit_code is None
        change = asyncio.create_task(lab.scheduler.change_engines(NEW))
        # The engine that has just come is to be replaced after this as well.
        await lab.read()
        assert not change.done()
        await change
        await asyncio.sleep(5)
        assert lab.serving() == ["new"]
        assert lab.alive() == 1


@without_waiting
async def test_a_service_that_stops_changes_nothing() -> None:
    async with bench() as lab:
        await lab.scheduler.drain(1)
        with pytest.raises(Draining):
            await lab.scheduler.change_engines(NEW)


@without_waiting
async def test_a_change_under_way_does_not_hold_up_the_end() -> None:
    async def for_ever(*_: object) -> None:
        await asyncio.sleep(1e6)

    async with bench() as made:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(ScriptedEngine, "start", for_ever)
            change = asyncio.create_task(made.scheduler.change_engines(NEW))
            await asyncio.sleep(1)
            assert not change.done()
            made.scheduler.refuse_new()
            await asyncio.sleep(0)
            made.scheduler.refuse_new()
            with pytest.raises(Draining):
                await asyncio.wait_for(change, 1)
        assert all(slot.ready for slot in made.scheduler.slots)
        assert set(made.serving()) == {ENGINE.detector}
