"""Memory is measured when nobody else wants the engines, and for as long as it takes to get round to it."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest
from scheduler_lab import Lab, lab

from scripted_engine import ENGINE, ScriptedEngine
from steadyocr.errors import EngineDied, InternalError, NotReady, QueueFull, SteadyOCRError
from steadyocr.scheduling.calibrator import Calibrator
from steadyocr.scheduling.config import EngineConfig
from steadyocr.scheduling.governor import MemoryGovernor
from steadyocr.scheduling.items import Priority, Reply, WorkItem
from steadyocr.scheduling.memory_contract import MemoryContract
from steadyocr.scheduling.memory_model import MemoryFit
from steadyocr.scheduling.pressure import MemorySignals
from steadyocr.scheduling.scheduler import Scheduler, SchedulerConfig
from steadyocr.scheduling.slot import SlotConfig
from steadyocr.telemetry.loops import Loops
from support import without_waiting

FIT = {"base": 3e8, "per_pixel": 2.0, "per_network_pixel": 5.0, "samples": 3}


class Desk:
    """Answers as an engine would, or fails as told."""

    def __init__(self, *failures: SteadyOCRError | Exception) -> None:
        self.failures = list(failures)
        self.asked: list[str] = []
        self.busy = False
        self.contract = MemoryContract(MemoryGovernor(1 << 40, engines=1))
        self.calibrator = Calibrator(self.submit, self.contract, lambda: not self.busy)

    async def submit(self, item: WorkItem) -> Reply:
        assert item.priority is Priority.BATCH
        self.asked.append(f"{item.kind} {item.extra.get('step', '')}".strip())
        await asyncio.sleep(1)
        if self.failures and len(self.asked) > 1:
            raise self.failures.pop(0)
        message: dict[str, Any] = {"sample": {"peak_bytes": 1}, "steps": 3, "memory_fit": FIT}
        return Reply(message)


async def run_for(desk: Desk, seconds: float) -> asyncio.Task[None]:
    task = asyncio.create_task(desk.calibrator.run())
    await asyncio.sleep(seconds)
    assert not task.done(), "a loop that ends counts as dead"
    task.cancel()
    return task


@without_waiting
async def test_each_step_is_asked_for_once_and_the_fit_is_taken_over() -> None:
    desk = Desk()
    await run_for(desk, 60)
    assert desk.asked == ["calibrate 0", "calibrate 1", "calibrate 2", "fit"]
    assert desk.contract.fit.samples == 3


@without_waiting
async def test_a_busy_service_only_puts_it_off() -> None:
    desk = Desk(QueueFull("busy"), NotReady("no engine"), QueueFull("busy"), QueueFull("busy"))
    await run_for(desk, 600)
    assert desk.contract.fit.samples == 3
    assert desk.asked.count("calibrate 0") == 1, "what was measured is kept"


@without_waiting
async def test_it_waits_while_others_wait() -> None:
    desk = Desk()
    desk.busy = True
    running = asyncio.create_task(desk.calibrator.run())
    await asyncio.sleep(3600)
    assert desk.asked == []
    desk.busy = False
    await asyncio.sleep(60)
    assert desk.contract.fit.samples == 3
    running.cancel()


@pytest.mark.parametrize("error", [EngineDied("died"), InternalError("fault"), KeyError("sample")])
@without_waiting
async def test_what_cannot_be_measured_is_given_up_and_nothing_dies_of_it(error: Exception) -> None:
    desk = Desk(*[error] * 100)
    await run_for(desk, 10_000)
    assert len(desk.asked) <= 4
    assert desk.contract.fit.samples == 0


class Measuring(ScriptedEngine):
    """Answers what a calibration asks."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.kinds: list[str] = []

    def _answer(self, item: WorkItem, order: str) -> None:
        self.kinds.append(item.kind)
        message = {"sample": {"peak_bytes": 1}, "steps": 2, "memory_fit": FIT}
        if item.kind in ("calibrate", "fit"):
            item.succeed(Reply(message))
        super()._answer(item, order)


@without_waiting
async def test_the_service_measures_itself_in_a_loop_that_is_watched_and_stopped() -> None:
    async with lab(Measuring, calibrate=True, budget_bytes=1 << 40) as made:
        await asyncio.sleep(60)
        assert made.scheduler.contract.fit.samples == 3
        assert made.loops.dead == {}
    names = {task.get_name() for task in asyncio.all_tasks()}
    assert "memory-calibration" not in names


@without_waiting
async def test_stopping_in_mid_measurement_leaves_nothing_behind() -> None:
    made = Lab(Measuring, calibrate=True, budget_bytes=1 << 40)
    await made.scheduler.start()
    await asyncio.sleep(0.2)
    await made.stop()
    names = {task.get_name() for task in asyncio.all_tasks()}
    assert "memory-calibration" not in names


@without_waiting
async def test_with_another_model_all_is_measured_again_and_nothing_is_mixed() -> None:
    desk = Desk()
    running = asyncio.create_task(desk.calibrator.run())
    await asyncio.sleep(1.5)
    desk.calibrator.start_over()
    await asyncio.sleep(60)
    assert desk.asked == ["calibrate 0", "calibrate 1", "calibrate 0", "calibrate 1", "calibrate 2", "fit"]
    desk.contract.fit = MemoryFit()
    desk.calibrator.start_over()
    await asyncio.sleep(60)
    assert desk.asked[6:] == ["calibrate 0", "calibrate 1", "calibrate 2", "fit"]
    running.cancel()


@without_waiting
async def test_a_fit_that_comes_after_the_models_engines_have_left_is_dropped() -> None:
    desk = Desk()
    running = asyncio.create_task(desk.calibrator.run())
    await asyncio.sleep(3.5)
    assert desk.asked[-1] == "fit"
    desk.busy = True
    desk.calibrator.start_over()
    await asyncio.sleep(60)
    assert desk.contract.fit.samples == 0
    desk.busy = False
    await asyncio.sleep(60)
    assert desk.contract.fit.samples == 3
    running.cancel()


class Told(Measuring):
    """Says which models it has."""

    def __init__(self, config: EngineConfig, number: int) -> None:
        super().__init__(number)
        self.detector = config.detector

    async def start(self, timeout_s: float) -> None:
        await super().start(timeout_s)
        self.ready["models"] = {"detector": self.detector}


@without_waiting
async def test_after_a_change_of_the_model_memory_is_measured_with_the_new_one_only() -> None:
    engines: list[Told] = []

    def make(config: EngineConfig) -> Told:
        engines.append(Told(config, len(engines)))
        return engines[-1]

    def measuring() -> set[str]:
        return {engine.detector for engine in engines for kind in engine.kinds if kind in ("calibrate", "fit")}

    config = SchedulerConfig(slot=SlotConfig(engine=ENGINE), engines=2, calibrate=True, budget_bytes=1 << 40)
    loops = Loops()
    scheduler = Scheduler(config, loops, make, lambda: MemorySignals(0.1))
    await scheduler.start()
    await asyncio.sleep(60)
    assert (scheduler.contract.fit.samples, measuring()) == (3, {"d"})
    for engine in engines:
        engine.kinds.clear()
    await scheduler.change_engines(dataclasses.replace(ENGINE, detector="new"))
    assert (scheduler.contract.fit, measuring()) == (MemoryFit(), set())
    await asyncio.sleep(60)
    assert (scheduler.contract.fit.samples, measuring()) == (3, {"new"})
    await loops.stop()
    await scheduler.stop()
