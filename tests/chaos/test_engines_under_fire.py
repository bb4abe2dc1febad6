"""Bad pictures, killed engines and good requests together: everything is accounted for and no answer is mixed up.

Short by default; ``make chaos`` sets STEADYOCR_CHAOS_ITEMS to run it long.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from pathlib import Path

import pytest

from chaos_support import outcome, running, weak, weak_engines
from steadyocr.errors import DeadlineExceeded, Quarantined
from steadyocr.scheduling.engine import EngineState
from steadyocr.types import OcrOptions
from support import in_real_time, known_picture

ITEMS = int(os.environ.get("STEADYOCR_CHAOS_ITEMS", "16"))
AT_ONCE = 16

pytestmark = pytest.mark.chaos

__all__ = ["weak_engines"]


@in_real_time
async def test_poison_among_good_pictures_hurts_only_itself(tmp_path: Path, weak_engines: None) -> None:
    english, chinese = known_picture("english").first_line(), known_picture("chinese").first_line()
    async with running(tmp_path) as service:
        good = [(english, chinese)[index % 2] for index in range(ITEMS)]
        work = [outcome(service, picture.data, picture) for picture in good]
        poison = {how: weak(english, how) for how in ("segfault", "exit", "bug", "memory_error")}
        for place, data in enumerate(poison.values()):
            work.insert(place * len(work) // len(poison), outcome(service, data))
        counted = Counter(await asyncio.gather(*work))
        assert counted == {"right": ITEMS, "quarantined": 2, "internal": 1, "memory_pressure": 1}
        assert {entry["cause"] for entry in service.scheduler.quarantine.entries()} == {"crash", "exit"}

        deaths = [slot.restarts for slot in service.scheduler.slots]
        with pytest.raises(Quarantined):
            await service.read(poison["segfault"], OcrOptions())
        assert [slot.restarts for slot in service.scheduler.slots] == deaths, "refused without an engine"
        assert service.unready_reason() == ""
    # The list is on disk: a new service knows it.
    async with running(tmp_path) as service:
        assert await outcome(service, poison["exit"]) == "quarantined"
        assert await outcome(service, english.data, english) == "right"


@in_real_time
async def test_a_hanging_picture_is_condemned_and_the_rest_served(tmp_path: Path, weak_engines: None) -> None:
    english = known_picture("english").first_line()
    async with running(tmp_path, engines__heartbeat_s="3", engines__item_limit_s="25") as service:
        work = [outcome(service, weak(english, "loop")), outcome(service, english.data, english)]
        assert await asyncio.gather(*work) == ["quarantined", "right"]
        (entry,) = service.scheduler.quarantine.entries()
        assert (entry["cause"], entry["width"], entry["height"]) == ("hang", *english.image.size)


@in_real_time
async def test_who_stops_engines_from_outside_condemns_no_picture(tmp_path: Path, weak_engines: None) -> None:
    english = known_picture("english").first_line()
    async with running(tmp_path, engines__count="1", engines__heartbeat_s="3") as service:
        (slot,) = service.scheduler.slots
        slow = weak(english, "nap")

        async def stop_at_work() -> None:
            while slot.engine is None or slot.engine.state is not EngineState.BUSY:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.01)
            assert slot.engine.pid is not None
            os.kill(slot.engine.pid, signal.SIGSTOP)

        reading = asyncio.create_task(outcome(service, slow, english))
        for restarts in (1, 2):
            await stop_at_work()
            while slot.restarts < restarts:  # noqa: ASYNC110 - a count in another object
                await asyncio.sleep(0.02)
        assert await reading == "right"
        assert len(service.scheduler.quarantine) == 0
        assert slot.last_death is not None
        assert slot.last_death.startswith("outside")
        assert service.unready_reason() == ""


@in_real_time
async def test_a_picture_that_hangs_costs_two_engines_however_hasty_its_clients(
    tmp_path: Path, weak_engines: None
) -> None:
    english = known_picture("english").first_line()
    async with running(tmp_path, engines__count="1", engines__heartbeat_s="8") as service:
        (slot,) = service.scheduler.slots
        poison = weak(english, "hang")
        for restarts in (1, 2):
            with pytest.raises(DeadlineExceeded):
                await service.read(poison, OcrOptions(), timeout_s=0.5)
            while slot.restarts < restarts or not slot.ready:  # noqa: ASYNC110 - a count in another object
                await asyncio.sleep(0.02)
        with pytest.raises(Quarantined):
            await service.read(poison, OcrOptions(), timeout_s=0.5)
        assert await outcome(service, english.data, english) == "right"
        assert slot.restarts == 2


@in_real_time
async def test_engines_killed_again_and_again_lose_nothing_and_condemn_nobody(tmp_path: Path) -> None:
    chance = random.Random(1)
    english, chinese = known_picture("english").first_line(), known_picture("chinese").first_line()
    async with running(tmp_path) as service:
        killed = 0

        async def assassin() -> None:
            """Kill an engine at work after every third answer or so: by progress, not by the clock of this machine."""
            nonlocal killed
            while True:
                enough = service.scheduler.completed + chance.randint(2, 4)
                while service.scheduler.completed < enough:  # noqa: ASYNC110 - a count in another object
                    await asyncio.sleep(0.02)
                for slot in service.scheduler.slots[:1]:
                    if slot.engine is not None and slot.engine.pid is not None and slot.ready:
                        os.kill(slot.engine.pid, signal.SIGKILL)
                        killed += 1

        killer = asyncio.create_task(assassin())
        try:
            work = []
            gate = asyncio.Semaphore(AT_ONCE)
            for index in range(ITEMS):
                picture = (english, chinese)[index % 2]
                work.append(outcome(service, picture.data, picture, gate))
                if index % 4 == 0:
                    torn = picture.data[: chance.randint(100, len(picture.data) // 2)]
                    work.append(outcome(service, torn, None, gate))
                if index % 4 == 2:
                    work.append(outcome(service, chance.randbytes(2000), None, gate))
            counted = Counter(await asyncio.gather(*work))
        finally:
            killer.cancel()
        assert counted["wrong"] == 0
        assert sum(counted.values()) == len(work)
        assert counted["right"] == ITEMS, counted
        assert set(counted) == {"right", "undecodable_image", "unsupported_media_type"}
        assert killed >= ITEMS / 8
        assert len(service.scheduler.quarantine) == 0
        assert service.unready_reason() == ""
