"""What training finds out about its pictures, and when."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training needs torch, which is not installed")

from labelled import make_folder
from steadyocr.errors import DatasetError
from steadyocr.training.config import Source, TrainConfig, ValidationConfig
from steadyocr.training.dataset import MixedDataset, read_batches
from steadyocr.training.loop import train


@pytest.fixture(autouse=True)
def own_children() -> Iterator[None]:
    """Take back the handler that torch's loader leaves for the end of any child: later tests have children too."""
    before = signal.getsignal(signal.SIGCHLD)
    yield
    signal.signal(signal.SIGCHLD, before)


def listed(root: Path, missing: tuple[str, ...] = ()) -> Path:
    """A folder whose manifest names its pictures; some are gone."""
    make_folder(root, 4)
    rows = (f'{{"file": "images/{index}.png", "label": "labels/{index}.txt"}}\n' for index in range(4))
    (root / "manifest.jsonl").write_text("".join(rows), encoding="utf-8")
    for name in missing:
        (root / "images" / name).unlink()
    return root


def config_of(folder: Path, workers: int = 0) -> TrainConfig:
    return TrainConfig(
        sources=(Source(path=str(folder)),),
        inner_channels=8,
        crop_size=32,
        batch_size=2,
        epochs=1,
        num_workers=workers,
    )


def test_missing_pictures_are_told_before_the_first_step(tmp_path: Path) -> None:
    config = config_of(listed(tmp_path / "data", missing=("1.png", "2.png")))
    with pytest.raises(DatasetError, match=r"images/1\.png: no such picture, and 1 more"):
        MixedDataset(config)


def test_missing_pictures_to_judge_on_are_told_before_the_first_step(tmp_path: Path) -> None:
    config = config_of(listed(tmp_path / "data"))
    judged = Source(path=str(listed(tmp_path / "val", missing=("3.png",))))
    with pytest.raises(DatasetError, match=r"val/images/3\.png: no such picture;"):
        train(replace(config, validation=ValidationConfig(sources=(judged,))), tmp_path / "run")
    assert not (tmp_path / "run" / "last.pt").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_cannot_be_read_is_told_in_one_line(tmp_path: Path, workers: int) -> None:
    folder = listed(tmp_path / "data")
    (folder / "images" / "2.png").write_bytes(b"no picture")
    config = config_of(folder, workers)
    with pytest.raises(DatasetError) as caught:
        list(read_batches(MixedDataset(config), config, 0))
    assert caught.value.message.startswith(f"{folder}/images/2.png: not a picture that can be decoded")
    assert "\n" not in caught.value.message
