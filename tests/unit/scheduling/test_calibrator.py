"""Memory is measured when nobody else wants the engines, and for as long as it takes to get round to it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from scheduler_lab import Lab, lab

from scripted_engine import ScriptedEngine
from steadyocr.errors import EngineDied, InternalError, NotReady, QueueFull, SteadyOCRError
from steadyocr.scheduling.calibrator import Calibrator
from steadyocr.scheduling.governor import MemoryGovernor
from steadyocr.scheduling.items import Priority, Reply, WorkItem
from steadyocr.scheduling.memory_contract import MemoryContract
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

    def _answer(self, item: WorkItem, order: str) -> None:
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
