"""What stands behind the page must never end the service: pictures are read without it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from steadyocr.errors import InvalidOption, MapExpired, NotReady
from steadyocr.scheduling.items import Reply, WorkItem
from steadyocr.service import lab_gate, page
from steadyocr.service.body_budget import BodyBudget
from steadyocr.service.lab_records import Record, State
from steadyocr.service.page import PageBackend
from steadyocr.settings import Settings
from support import PATIENCE_S, in_real_time

UNREADABLE = "What is kept cannot be read; it is tried again"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "_SWEEP_PERIOD_S", 0.01)
    monkeypatch.setattr(lab_gate, "unavailable_reason", lambda _: "")


async def never(_: object) -> Any:
    raise AssertionError


async def read_nothing(_: WorkItem) -> Reply:
    raise AssertionError


class Running:
    """A backend whose loop runs, and how many rounds it has made."""

    def __init__(self, folder: Path) -> None:
        settings = Settings.model_validate({"data_dir": folder})
        self.backend = PageBackend(settings, read_nothing, BodyBudget(1 << 20).share, never)
        self.rounds = 0
        self.loop: asyncio.Task[None]
        sweep = self.backend.history.shelf.sweep

        def counted() -> None:
            self.rounds += 1
            sweep()

        self.backend.history.shelf.sweep = counted  # type: ignore[method-assign]

    def lab_is_ready(self) -> bool:
        try:
            self.backend.lab.start_run({"nonsense": 1})
        except NotReady:
            return False
        except InvalidOption:
            return True
        raise AssertionError

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                assert not self.loop.done()
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Running]:
    made = Running(folder)
    made.loop = asyncio.create_task(made.backend.run())
    try:
        yield made
    finally:
        made.loop.cancel()
        await asyncio.gather(made.loop, return_exceptions=True)


@pytest.mark.parametrize("name", ["history", "cache/maps", "lab/runs", "lab/exports"])
@in_real_time
async def test_a_folder_that_cannot_be_read_is_told_once_and_the_rest_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    place = tmp_path / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("no folder")
    async with running(tmp_path) as made:
        await made.until(lambda: made.rounds >= 5)
        told = [record for record in caplog.records if record.getMessage() == UNREADABLE]
        assert len(told) == 1
        assert told[0].levelno == logging.ERROR
        assert made.lab_is_ready() is not name.startswith("lab")
        with pytest.raises(MapExpired):
            await made.backend.maps.picture_of("some-map")
        assert await made.backend.history.entries("", 9) == []

        place.unlink()
        await made.until(made.lab_is_ready)


@in_real_time
async def test_what_could_not_be_read_at_first_is_taken_up_later(tmp_path: Path) -> None:
    kept = PageBackend(Settings.model_validate({"data_dir": tmp_path}), read_nothing, BodyBudget(9).share, never)
    entry = kept.history.shelf.put({"picture": b"x"}, {"owner": ""})
    folder, aside = tmp_path / "history", tmp_path / "aside"
    folder.rename(aside)
    (tmp_path / "file").write_text("no folder")
    folder.symlink_to(tmp_path / "file")
    async with running(tmp_path) as made:
        await made.until(lambda: made.rounds >= 1)
        # In one step: in between, a new folder would be made and found empty.
        (tmp_path / "link").symlink_to(aside)
        (tmp_path / "link").replace(folder)
        await made.until(lambda: [each.id for each in made.backend.history.shelf.newest_first()] == [entry.id])


@pytest.mark.parametrize(
    "wrong",
    [
        {"facts": None},
        {"facts": {"use": "done"}},
        {"facts": {"use": {"model": "x"}}},
        {"params": []},
        {"created_at": "yesterday"},
        {"state": "running", "pid": "7", "ticks": "7"},
    ],
)
@in_real_time
async def test_a_malformed_record_of_the_laboratory_is_left_alone(tmp_path: Path, wrong: dict[str, Any]) -> None:
    good = Record(id="good", params={}, state=State.FINISHED)
    for record_id, values in (("good", {}), ("wrong", wrong)):
        folder = tmp_path / "lab" / "runs" / record_id
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(json.dumps({**asdict(good), "id": record_id, **values}))
    async with running(tmp_path) as made:
        await made.until(made.lab_is_ready)
        assert [record.id for record in made.backend.lab.runs.newest_first()] == ["good"]
    assert (tmp_path / "lab" / "runs" / "wrong" / "record.json").is_file()


@in_real_time
async def test_a_fault_of_ours_is_not_taken_for_the_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Running(tmp_path)

    async def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(made.backend.lab, "load", broken)
    with pytest.raises(ZeroDivisionError):
        await made.backend.run()
