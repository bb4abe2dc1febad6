"""What a training configuration may say; nothing here needs torch but the modules that hold its parts."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="training needs torch, which is not installed")

from steadyocr.errors import ConfigError
from steadyocr.training.config import TrainConfig

SOURCE: dict[str, Any] = {"path": "data"}


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"log_every_steps": 0}, "log_every_steps"),
        ({"crops_per_epoch": -1}, "crops_per_epoch"),
        ({"checkpoint_minutes": -1.0}, "checkpoint_minutes"),
        ({"validation": {"every_steps": -2}}, "validation.every_steps"),
        ({"validation": {"max_side": 0}}, "validation.max_side"),
        ({"validation": {"sources": [{**SOURCE, "dataset_weights": {"a": -1}}]}}, "dataset_weights"),
        ({"sources": [{**SOURCE, "dataset_weights": {"a": 0}}]}, "dataset_weights"),
        ({"sources": [{**SOURCE, "dataset_weights": {"a": 2, "b": -1}}]}, "dataset_weights"),
        ({"sources": [{**SOURCE, "dataset_weights": {"a": "much"}}]}, "dataset_weights"),
        ({"sources": [{**SOURCE, "weight": math.nan}]}, "weight"),
        ({"augment": {"scale_min": 0}}, "augment.scale_min"),
        ({"augment": {"scale_min": 3.0}}, "augment.scale_min"),
        ({"augment": {"scale_max": math.inf}}, "augment.scale_max"),
        ({"augment": {"text_height_min": 0.0}}, "augment.text_height_min"),
        ({"augment": {"aspect_max": 0}}, "augment.aspect_max"),
        ({"optimiser": {"warmup_steps": -1}}, "optimiser.warmup_steps"),
        ({"optimiser": {"poly_power": -1}}, "optimiser.poly_power"),
        ({"optimiser": {"lr": 10**400}}, "optimiser.lr"),
    ],
)
def test_values_that_cannot_work_are_refused(values: dict[str, Any], named: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"sources": [SOURCE], **values}), encoding="utf-8")
    with pytest.raises(ConfigError, match=named):
        TrainConfig.from_file(path)


def test_a_configuration_is_read_as_it_was_written() -> None:
    shared = {**SOURCE, "dataset_weights": {"a": 0, "b": 1.5}}
    config = TrainConfig.from_dict({"sources": [shared], "augment": {"scale_min": 0.5, "scale_max": 0.5}})
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
