"""The whole chain can learn: eight pictures, by heart."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which is not installed")

from labelled import make_folder  # noqa: E402
from steadyocr.training import model  # noqa: E402
from steadyocr.training.augment import AugmentParams  # noqa: E402
from steadyocr.training.config import OptimiserConfig, Source, TrainConfig, ValidationConfig  # noqa: E402
from steadyocr.training.loop import train  # noqa: E402
from steadyocr.training.pixels import PixelParams  # noqa: E402

CALM = PixelParams(p_colour=0, p_invert=0, p_grey=0, p_light=0, p_blur=0, p_resample=0, p_noise=0, p_jpeg=0)
STEADY = AugmentParams(
    scale_min=0.9,
    scale_max=1.1,
    p_text_height=0,
    rotation_deg=0,
    p_free_rotation=0,
    p_quarter_turn=0,
    aspect_max=1.0,
    p_perspective=0,
    pixels=CALM,
)


@pytest.mark.timeout(600)
def test_eight_pictures_are_learned_by_heart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "_STAGE_CHANNELS", (16, 16, 32, 32))
    folder = str(make_folder(tmp_path / "data", 8))
    config = TrainConfig(
        sources=(Source(path=folder),),
        inner_channels=32,
        crop_size=96,
        batch_size=4,
        epochs=80,
        num_workers=0,
        bf16=False,
        threads=1,
        optimiser=OptimiserConfig(lr=3e-3, warmup_steps=5),
        augment=STEADY,
        ema_decay=0.9,
        validation=ValidationConfig(sources=(Source(path=folder),), every_steps=40, max_side=128),
    )
    assert (train(config, tmp_path / "run").best_hmean or 0.0) > 0.9
