"""A second detector that is learned from beside the labels."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which is not installed")

from labelled import make_folder  # noqa: E402
from steadyocr.errors import ConfigError, ModelMissing  # noqa: E402
from steadyocr.runtime.manifest import list_models  # noqa: E402
from steadyocr.training import checkpoint, model  # noqa: E402
from steadyocr.training.config import DistillationConfig, OptimiserConfig, Source, TrainConfig  # noqa: E402
from steadyocr.training.distillation import Heads, Teacher, feature_loss, probability_loss  # noqa: E402
from steadyocr.training.loop import train  # noqa: E402
from support import known_picture  # noqa: E402

TEACHER = str(list_models()["pp-ocrv6-small-det"])
FEATURES = "p2o.pd_op.concat.1.0"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainConfig:
    monkeypatch.setattr(model, "_STAGE_CHANNELS", (8, 8, 16, 16))
    return TrainConfig(
        sources=(Source(path=str(make_folder(tmp_path / "data", 2))),),
        inner_channels=8,
        crop_size=64,
        batch_size=2,
        epochs=4,
        num_workers=0,
        threads=1,
        log_every_steps=1,
        optimiser=OptimiserConfig(warmup_steps=1, clip_norm=0.0),
        distillation=DistillationConfig(teacher=TEACHER, features=FEATURES, warmup_steps=1),
    )


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return Teacher(Path(TEACHER), FEATURES, 1)


def test_a_teacher_sees_the_text_of_each_crop(teacher: Teacher) -> None:
    picture = known_picture("english")
    image = picture.image.convert("RGB").crop((0, 0, 640, 320))
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).reshape(320, 640, 3)
    blank = torch.full_like(pixels, 255)
    probability, features = teacher(torch.stack((pixels, blank)))
    assert probability.shape == (2, 1, 320, 640)
    assert features.shape == (2, teacher.channels, 80, 160)
    (left, top), (right, bottom) = picture.quads[0][0], picture.quads[0][2]
    y, x = int(top + bottom) // 2, int(min(left + right, 1200)) // 2
    assert probability[0, 0, y - 2 : y + 3, x - 20 : x + 20].mean() > 0.7
    assert probability[0, 0].min() < 0.1
    assert probability[1].max() < 0.3, "nothing, by its own threshold"


def test_what_a_teacher_is_taught_from_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no tensor named 'neck'"):
        Teacher(Path(TEACHER), "neck", 1)
    with pytest.raises(ModelMissing):
        Teacher(tmp_path / "nobody", FEATURES, 1)
    source = (Source(path=str(tmp_path)),)
    with pytest.raises(ConfigError, match=r"distillation\.features"):
        TrainConfig(sources=source, distillation=DistillationConfig(teacher=TEACHER))


def test_saying_the_same_costs_nothing_and_anything_else_does() -> None:
    probability = torch.tensor([0.0, 0.1, 0.5, 1.0]).repeat(16, 4)[None, None]
    same = torch.logit(probability, eps=1e-7)
    assert probability_loss(same, probability).item() == pytest.approx(0.0, abs=1e-6)
    for wrong in (same + 1, same - 1, torch.zeros_like(same)):
        assert probability_loss(wrong, probability).item() > 0.01
    features = torch.randn(1, 3, 4, 4)
    assert feature_loss(features, features, probability).item() == 0.0


def test_places_with_text_count_more() -> None:
    probability = torch.zeros(1, 1, 16, 16)
    probability[..., :4, :4] = 1.0
    wanted = torch.zeros(1, 3, 4, 4)
    on_text, beside = wanted.clone(), wanted.clone()
    on_text[..., 0, 0] = 1.0
    beside[..., 3, 3] = 1.0
    ratio = feature_loss(on_text, wanted, probability) / feature_loss(beside, wanted, probability)
    assert ratio.item() == pytest.approx(5.0)


def test_features_are_standardised_by_the_first_ones_seen() -> None:
    heads = Heads(4, 2)
    first = torch.randn(2, 2, 16, 16) * torch.tensor([3.0, 0.5])[:, None, None] + 7.0
    standard = heads.standardise(first)
    assert standard.mean(dim=(0, 2, 3)).abs().max() < 0.01
    assert (standard.std(dim=(0, 2, 3)) - 1.0).abs().max() < 0.05
    assert torch.allclose(heads.standardise(first + 30.0)[:, 0], torch.tensor(6.0)), "as the first ones, and bounded"


def test_the_heads_learn_first_and_then_the_network_does_too(config: TrainConfig, tmp_path: Path) -> None:
    alone = replace(config, distillation=DistillationConfig())
    for name, steps, same in (("one", 1, True), ("two", 2, False)):
        weights = []
        for kind, some in (("taught", config), ("alone", alone)):
            train(replace(some, epochs=steps, ema_decay=0.0), tmp_path / f"{name}-{kind}")
            weights.append(checkpoint.load(tmp_path / f"{name}-{kind}" / "last.pt")["model"])
        taught, untaught = weights
        assert taught.keys() == untaught.keys(), "a teacher leaves nothing in the detector"
        assert all(torch.equal(taught[key], untaught[key]) for key in taught) is same, name
    rows = [json.loads(line) for line in (tmp_path / "two-taught" / "curve.jsonl").read_text().splitlines()]
    assert all(row["distillation"] > 0 for row in rows if "total" in row)
    assert "distillation" not in (tmp_path / "two-alone" / "curve.jsonl").read_text()


def test_two_epochs_and_two_more_are_four(config: TrainConfig, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(config, whole).finished
    asked = iter((False, False, True))
    assert not train(config, parts, should_stop=lambda: next(asked)).finished
    with pytest.raises(ConfigError, match="distillation differs"):
        train(replace(config, distillation=DistillationConfig()), parts, resume=True)
    assert train(config, parts, resume=True).finished
    one, two = checkpoint.load(whole / "last.pt"), checkpoint.load(parts / "last.pt")
    for part in ("model", "ema", "teacher_heads"):
        assert one[part].keys() == two[part].keys()
        assert all(torch.equal(one[part][name], two[part][name]) for name in one[part]), part
    taught = one["teacher_heads"]
    assert taught["features.weight"].any(), "the heads are trained as well"


def test_a_teacher_cannot_join_a_run_under_way(config: TrainConfig, tmp_path: Path) -> None:
    asked = iter((False, True))
    train(replace(config, distillation=DistillationConfig()), tmp_path / "run", should_stop=lambda: next(asked))
    with pytest.raises(ConfigError, match="distillation differs"):
        train(config, tmp_path / "run", resume=True)
