"""What measurements found is kept, and a damaged file is as good as none."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from steadyocr.pipeline.fit_store import FitStore

FIT = {"base": 3e8, "per_pixel": 8.0, "per_network_pixel": 200.0, "device_per_network_pixel": 0.0, "samples": 6}


def the_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_what_is_kept_is_found_again_by_who_is_made_of_the_same(tmp_path: Path) -> None:
    FitStore(tmp_path / "cache", ["model", "cpu one"]).save(FIT)
    assert FitStore(tmp_path / "cache", ["model", "cpu one"]).load() == FIT
    assert FitStore(tmp_path / "cache", ["model", "cpu two"]).load() is None
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".json"]


def test_without_a_folder_nothing_is_kept() -> None:
    store = FitStore(None, ["model"])
    store.save(FIT)
    assert store.load() is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "3",
        "[1, 2]",
        "{}",
        '"base"',
        "[" * 100_000,
        json.dumps({**FIT, "base": "much"}),
        json.dumps({**FIT, "base": None}),
        json.dumps({**FIT, "base": True}),
        json.dumps({**FIT, "base": -1}),
        json.dumps({**FIT, "base": 1e300}),
        json.dumps({**FIT, "base": 10**400}),
        json.dumps({**FIT, "base": float("nan")}),
        json.dumps({**FIT, "base": float("inf")}),
        json.dumps({**FIT, "more": [1]}),
        json.dumps({"base": 1.0}),
    ],
    ids=range(17),
)
def test_whatever_else_lies_there_is_measured_again(tmp_path: Path, text: str) -> None:
    store = FitStore(tmp_path, ["model"])
    store.save(FIT)
    the_file(tmp_path).write_text(text)
    assert store.load() is None
    store.save(FIT)
    assert store.load() == FIT


def test_bytes_that_are_no_text_and_a_folder_in_its_place_are_survived(tmp_path: Path) -> None:
    store = FitStore(tmp_path, ["model"])
    store.save(FIT)
    path = the_file(tmp_path)
    path.write_bytes(b"\xff\xfe\x00")
    assert store.load() is None
    path.unlink()
    path.mkdir()
    assert store.load() is None


def test_it_is_on_the_disk_before_it_has_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(descriptor: int) -> None:
        steps.append("fsync")
        fsync(descriptor)

    def noted_replace(path: Path, target: Path) -> Path:
        steps.append("replace")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    FitStore(tmp_path, ["model"]).save(FIT)
    assert steps == ["fsync", "replace"]


def test_a_full_disk_costs_the_file_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    store = FitStore(tmp_path, ["model"])
    with caplog.at_level(logging.ERROR):
        store.save(FIT)
    assert list(tmp_path.iterdir()) == []
    assert store.load() is None
    assert "cannot be kept" in caplog.text


def test_a_file_in_the_folders_place_is_survived(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("not a folder")
    store = FitStore(tmp_path / "cache", ["model"])
    store.save(FIT)
    assert store.load() is None
