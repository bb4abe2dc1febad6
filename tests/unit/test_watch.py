from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from steadyocr.service import watch as watching
from steadyocr.service.watch import Watch, free_bytes
from steadyocr.telemetry.events import Events
from support import without_waiting


class Scene:
    """A watch over a service and a disk that are what the test says."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reason, self.free = "not started", 100
        self.told: list[tuple[str, dict[str, object]]] = []
        events = Events()
        events.subscribe(lambda event: self.told.append((event.name, dict(event.fields))))
        monkeypatch.setattr(watching, "free_bytes", lambda _: self.free)
        self.watch = Watch(events, lambda: self.reason, folder, floor_bytes=50)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(tmp_path, monkeypatch)


@without_waiting
async def test_readiness_is_told_when_it_changes_and_only_then(scene: Scene) -> None:
    task = asyncio.create_task(scene.watch.run())
    await asyncio.sleep(5)
    assert scene.told == []
    for reason in ("", "a loop died: pump", ""):
        scene.reason = reason
        await asyncio.sleep(5)
    task.cancel()
    assert scene.told == [
        ("readiness_changed", {"ready": True, "reason": ""}),
        ("readiness_changed", {"ready": False, "reason": "a loop died: pump"}),
        ("readiness_changed", {"ready": True, "reason": ""}),
    ]


@without_waiting
async def test_a_low_disk_is_told_while_it_lasts_and_its_end_once(scene: Scene) -> None:
    task = asyncio.create_task(scene.watch.run())
    await asyncio.sleep(1)
    assert (scene.told, scene.watch.free_bytes) == ([], 100)
    scene.free = 49
    await asyncio.sleep(35)
    scene.free = 50
    await asyncio.sleep(60)
    task.cancel()
    assert [name for name, _ in scene.told] == ["disk_low", "disk_low", "disk_recovered"]
    assert scene.told[0][1] == {"free_bytes": 49, "floor_bytes": 50}


def test_a_disk_that_cannot_be_told_has_not_recovered(scene: Scene) -> None:
    for free in (49, None, None, 50, None):
        scene.watch.look_at_disk(free)
    assert [name for name, _ in scene.told] == ["disk_low", "disk_recovered"]
    assert scene.told[1][1] == {"free_bytes": 50, "floor_bytes": 50}


def test_free_space_is_that_of_the_nearest_folder_there_is(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "not" / "yet" / "there") == pytest.approx(free_bytes(tmp_path), rel=0.1)


def test_free_space_that_cannot_be_told_is_none(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert free_bytes(file / "below") is None
