"""A run that is stopped and taken up again must be the run that was never stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which is not installed")

import cv2  # noqa: E402
import numpy as np  # noqa: E402

from steadyocr.errors import ConfigError  # noqa: E402
from steadyocr.training import checkpoint  # noqa: E402
from steadyocr.training.config import OptimiserConfig, Source, TrainConfig, ValidationConfig  # noqa: E402
from steadyocr.training.loop import train  # noqa: E402


def make_folder(root: Path, count: int = 4) -> Path:
    """Write a few pictures with a dark bar of "text" each."""
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    rng = np.random.default_rng(7)
    for index in range(count):
        image = rng.integers(180, 255, (96, 128, 3), dtype=np.uint8)
        x, y = int(rng.integers(5, 40)), int(rng.integers(5, 60))
        image[y : y + 20, x : x + 70] = 20
        cv2.imwrite(str(root / "images" / f"{index}.png"), image)
        box = f"{x},{y},{x + 70},{y},{x + 70},{y + 20},{x},{y + 20},bar"
        (root / "labels" / f"{index}.txt").write_text(box + "\n", encoding="utf-8")
    return root


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    folder = str(make_folder(tmp_path / "data"))
    return TrainConfig(
        sources=(Source(path=folder),),
        inner_channels=16,
        crop_size=64,
        batch_size=2,
        epochs=4,
        num_workers=0,
        log_every_steps=1,
        optimiser=OptimiserConfig(warmup_steps=2),
        validation=ValidationConfig(sources=(Source(path=folder),), every_steps=3, max_side=96),
    )


class StopAfter:
    """Says stop when asked for the ``count``-th time."""

    def __init__(self, count: int) -> None:
        self.left = count

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def test_two_epochs_and_two_more_are_four(config: TrainConfig, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(config, whole).finished

    first = train(config, parts, should_stop=StopAfter(4))
    assert (first.step, first.finished) == (4, False)
    second = train(config, parts, resume=True)
    assert (second.step, second.finished) == (8, True)

    one, two = checkpoint.load(whole / "last.pt"), checkpoint.load(parts / "last.pt")
    for part in ("model", "ema"):
        assert all(torch.equal(one[part][name], two[part][name]) for name in one[part])
    moments_one, moments_two = one["optimiser"]["state"], two["optimiser"]["state"]
    assert all(torch.equal(moments_one[i][k], moments_two[i][k]) for i in moments_one for k in moments_one[i])
    assert one["best_hmean"] == two["best_hmean"]
    assert curve(whole) == curve(parts)


def curve(folder: Path) -> list[dict[str, object]]:
    rows = [json.loads(line) for line in (folder / "curve.jsonl").read_text(encoding="utf-8").splitlines()]
    clocked = {"elapsed_s", "eta_s", "crops_per_s"}
    return [{key: value for key, value in row.items() if key not in clocked} for row in rows]


def test_run_folder_is_never_overwritten(config: TrainConfig, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="never overwritten"):
        train(config, folder)
    with pytest.raises(ConfigError, match="nothing to resume"):
        train(config, folder, resume=True)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_time_bound_run_ends_with_rate_near_zero(config: TrainConfig, tmp_path: Path) -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 1.0
        return now[0]

    from dataclasses import replace

    bounded = replace(config, epochs=1000, max_minutes=1.5)
    outcome = train(bounded, tmp_path / "run", clock=clock)
    rows = curve(tmp_path / "run")
    assert outcome.finished
    assert outcome.step < 100
    rates = [float(str(row["lr"])) for row in rows if "total" in row]
    assert rates[-1] < 0.15 * max(rates)
