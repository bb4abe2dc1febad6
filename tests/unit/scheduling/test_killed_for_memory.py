"""What the kernel kills for memory is held against a picture only where its engine outgrew all that was predicted."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

import pytest
from scheduler_lab import Lab, lab

from scripted_engine import BASE_BYTES, SERVICE_S, ScriptedEngine
from steadyocr.errors import DeadlineExceeded, EngineDied, Quarantined, SteadyOCRError
from steadyocr.scheduling.items import WorkItem
from steadyocr.scheduling.pressure import MemorySignals, PressureLevel
from support import without_waiting

MODULES = ("slot", "ending", "reports")
CALM, SHORT = MemorySignals(0.1), MemorySignals(0.99)


class Killed(ScriptedEngine):
    """``killed N at P``: the kernel kills it for memory at the first N attempts, when it holds P percent of idle."""

    def __init__(self, number: int, kernel: Kernel) -> None:
        super().__init__(number)
        self._kernel = kernel

    async def run(self, item: WorkItem, on_frame: Callable[[], None] = lambda: None) -> None:
        words = item.payload.decode().split()
        if words[0] == "killed" and item.attempts < int(words[1]):
            # One percentage for each attempt; the last one for all that follow.
            percent = words[3:][min(item.attempts, len(words) - 4)]
            self.taken_bytes = BASE_BYTES * int(percent) // 100
            await self._until_done_or_dead(SERVICE_S)
            self._kernel.kills += 1
            self.die(-signal.SIGKILL)
        await super().run(item, on_frame)


class Kernel:
    """Counts what it has killed."""

    def __init__(self) -> None:
        self.kills = 0

    def engine(self, number: int) -> Killed:
        return Killed(number, self)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel()
    for module in MODULES:
        monkeypatch.setattr(f"steadyocr.scheduling.{module}.memory_kills", lambda: kernel.kills)
    return kernel


async def outcome(made: Lab, order: str, allowed_s: float = 300.0) -> str:
    try:
        return await made.read(order, allowed_s)
    except SteadyOCRError as error:
        return error.code


def tries(made: Lab, order: str) -> int:
    return sum(engine.seen.count(order.encode()) for engine in made.engines)


@without_waiting
async def test_a_small_picture_that_the_kernel_ends_engines_over_is_read_in_the_end(kernel: Kernel) -> None:
    async with lab(kernel.engine) as made:
        order = "killed 3 at 110"
        assert await outcome(made, order) == order
        assert (tries(made, order), kernel.kills) == (4, 3)
        assert made.scheduler.slots[0].last_death == "out_of_memory (signal SIGKILL)"
        assert len(made.scheduler.quarantine) == len(made.scheduler.aftermath.suspicion) == 0


@without_waiting
async def test_a_machine_that_leaves_no_room_at_all_is_told_to_the_client_and_costs_few_engines(kernel: Kernel) -> None:
    async with lab(kernel.engine) as made:
        for _ in range(2):
            with pytest.raises(EngineDied, match="memory") as raised:
                await made.read("killed 99 at 110")
            assert raised.value.retry_after_s
            assert raised.value.retryable
        assert tries(made, "killed 99 at 110") == 2 * 5
        assert len(made.scheduler.quarantine) == len(made.scheduler.aftermath.suspicion) == 0


@without_waiting
async def test_what_is_retried_for_want_of_memory_runs_alone_and_smaller(kernel: Kernel) -> None:
    async with lab(kernel.engine) as made:
        item = made.item("killed 1 at 110")
        await made.scheduler.submit(item)
        assert item.cautious
        assert not item.suspect


@without_waiting
async def test_a_picture_that_makes_engines_outgrow_all_prediction_is_condemned_the_second_time(kernel: Kernel) -> None:
    async with lab(kernel.engine) as made:
        assert await outcome(made, "killed 99 at 300") == "quarantined"
        assert tries(made, "killed 99 at 300") == 2
        (entry,) = made.scheduler.quarantine.entries()
        assert (entry["cause"], entry["deaths"], entry["peak_bytes"]) == ("out_of_memory", 2, 3 * BASE_BYTES)
        assert await made.read("next") == "next"


@without_waiting
async def test_a_memory_bomb_is_condemned_though_no_client_waits_for_the_verdict(kernel: Kernel) -> None:
    async with lab(kernel.engine) as made:
        for _ in range(2):
            assert await outcome(made, "killed 99 at 300", 0.2) == "deadline_exceeded"
            await asyncio.sleep(10)
        assert tries(made, "killed 99 at 300") == 2
        with pytest.raises(Quarantined):
            made.scheduler.quarantine.check(made.item("killed 99 at 300").digest)


@without_waiting
async def test_a_death_for_which_the_machine_is_to_blame_is_none_of_the_two(kernel: Kernel) -> None:
    async with lab(kernel.engine) as made:
        assert await outcome(made, "killed 2 at 110 300") == "killed 2 at 110 300"
        assert len(made.scheduler.quarantine) == 0
        assert await outcome(made, "killed 3 at 110 300") == "quarantined"
        assert tries(made, "killed 3 at 110 300") == 3


@without_waiting
async def test_a_peak_that_nobody_knows_proves_nothing(kernel: Kernel) -> None:
    async with lab(kernel.engine) as made:
        assert await outcome(made, "killed 3 at 0") == "killed 3 at 0"
        assert len(made.scheduler.quarantine) == 0


@without_waiting
async def test_what_the_picture_before_has_left_in_an_engine_is_not_held_against_the_next(kernel: Kernel) -> None:
    async with lab(kernel.engine) as made:
        await made.read("first")
        made.engines[0].rss_bytes = 2 * BASE_BYTES
        made.engines[0].untidy = True
        assert await outcome(made, "killed 1 at 220") == "killed 1 at 220"
        assert len(made.scheduler.aftermath.suspicion) == 0
        await made.read("first")
        assert await outcome(made, "killed 1 at 221") == "killed 1 at 221"
        assert made.scheduler.aftermath.suspicion.last_death_at(made.item("killed 1 at 221")) is not None


async def killed_while_memory_is_short(made: Lab, order: str, allowed_s: float = 300.0) -> asyncio.Task[str]:
    """A picture whose first engine is killed and whose second one is ready, while new work is shed."""
    reading = asyncio.create_task(outcome(made, order, allowed_s))
    await asyncio.sleep(0.1)
    made.signals = SHORT
    await asyncio.sleep(5)
    assert made.scheduler.ladder.level is PressureLevel.SHED
    assert made.scheduler.slots[0].ready
    return reading


@pytest.mark.parametrize("percent", [110, 300])
@without_waiting
async def test_a_retry_waits_until_memory_is_less_short(kernel: Kernel, percent: int) -> None:
    async with lab(kernel.engine) as made:
        order = f"killed 1 at {percent}"
        reading = await killed_while_memory_is_short(made, order)
        await asyncio.sleep(60)
        assert tries(made, order) == 1, "the wall is still there"
        made.signals = CALM
        assert await reading == order
        assert tries(made, order) == 2


@without_waiting
async def test_a_retry_that_waits_holds_up_nobody(kernel: Kernel) -> None:
    async with lab(kernel.engine) as made:
        waiting = await killed_while_memory_is_short(made, "killed 1 at 110")
        made.scheduler.queue.put(made.item("accepted before"))
        await asyncio.sleep(2)
        assert tries(made, "accepted before") == 1
        assert not waiting.done()
        made.signals = CALM
        assert await waiting == "killed 1 at 110"


@without_waiting
async def test_a_retry_waits_no_longer_than_its_client(kernel: Kernel) -> None:
    async with lab(kernel.engine) as made:
        reading = await killed_while_memory_is_short(made, "killed 1 at 110", 20.0)
        assert await reading == DeadlineExceeded.code
        assert len(made.scheduler.queue) == 0
        made.signals = CALM
        await asyncio.sleep(60)
        assert tries(made, "killed 1 at 110") == 1
        assert await made.read("next") == "next"
