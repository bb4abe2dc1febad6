"""The whole chain can learn: eight pictures, by heart."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which is not installed")

from labelled import make_folder  # noqa: E402
from steadyocr.training.augment import AugmentParams  # noqa: E402
from steadyocr.training.config import OptimiserConfig, Source, TrainConfig, ValidationConfig  # noqa: E402
from steadyocr.training.loop import train  # noqa: E402


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_eight_pictures_are_learned_by_heart(tmp_path: Path) -> None:
    folder = str(make_folder(tmp_path / "data", 8))
    config = TrainConfig(
        sources=(Source(path=folder),),
        inner_channels=16,
        crop_size=96,
        batch_size=4,
        epochs=40,
        num_workers=0,
        optimiser=OptimiserConfig(warmup_steps=5),
        augment=AugmentParams(p_free_rotation=0, p_quarter_turn=0, p_perspective=0, rotation_deg=2),
        ema_decay=0.9,
        validation=ValidationConfig(sources=(Source(path=folder),), every_steps=40, max_side=128),
    )
    assert (train(config, tmp_path / "run").best_hmean or 0.0) > 0.9
