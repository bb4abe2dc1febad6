"""Checkpoints as they are about, generated here: same names, same wrappers, same containers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="checkpoints need torch, which is not installed")

from torch import Tensor  # noqa: E402

from steadyocr.errors import CheckpointMismatch, ModelCorrupt, ModelMissing  # noqa: E402
from steadyocr.training.dialects import MODELSCOPE, OURS, read_weights  # noqa: E402
from steadyocr.training.model import DBNet  # noqa: E402

WIDTH = 16
Tensors = dict[str, Tensor]


@pytest.fixture(scope="module")
def flat() -> Tensors:
    torch.manual_seed(5)
    return DBNet(WIDTH).state_dict()


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    def save(values: object, **options: bool) -> Path:
        torch.save(values, tmp_path / "pytorch_model.pt", **options)
        return tmp_path / "pytorch_model.pt"

    return save


@pytest.mark.parametrize(
    ("wrap", "dialect"),
    [
        (lambda flat: flat, "flat"),
        (lambda flat: {f"model.module.{name}": value for name, value in flat.items()}, "model.module."),
        (lambda flat: {f"detector.{name}": value for name, value in flat.items()}, "detector."),
        (lambda flat: {f"module.{name}": value for name, value in flat.items()}, "module."),
        (lambda flat: {"state_dict": flat, "epoch": 3}, "state_dict"),
        (
            lambda flat: {"state_dict": {f"model.{name}": value for name, value in flat.items()}},
            "state_dict model.",
        ),
    ],
)
def test_dialect_is_read(
    flat: Tensors, saved: Callable[..., Path], wrap: Callable[[Tensors], object], dialect: str
) -> None:
    weights = read_weights(saved(wrap(flat)))
    assert (weights.dialect, weights.inner_channels, weights.preprocessing) == (dialect, WIDTH, MODELSCOPE)
    assert (weights.bin_threshold, weights.box_threshold, weights.unclip_ratio) == (0.2, 0.3, 1.5)
    assert all(torch.equal(weights.tensors[name], value) for name, value in flat.items())


def test_legacy_container_is_read(flat: Tensors, saved: Callable[..., Path]) -> None:
    assert len(read_weights(saved(flat, _use_new_zipfile_serialization=False)).tensors) == 158


def test_threshold_head_and_counters_may_be_missing(flat: Tensors, saved: Callable[..., Path]) -> None:
    needed = {n: v for n, v in flat.items() if ".thresh." not in n and not n.endswith("num_batches_tracked")}
    assert read_weights(saved(needed)).tensors.keys() == needed.keys()


def test_classifier_and_smoothing_are_dropped(flat: Tensors, saved: Callable[..., Path]) -> None:
    more = {
        "model.module.backbone.fc.weight": torch.zeros(10, 512),
        "model.module.backbone.smooth.bias": torch.zeros(3),
    }
    weights = read_weights(saved({f"model.module.{name}": value for name, value in flat.items()} | more))
    assert set(weights.dropped) == {"backbone.fc.weight", "backbone.smooth.bias"}
    assert len(weights.tensors) == 158


def test_half_precision_becomes_single(flat: Tensors, saved: Callable[..., Path]) -> None:
    half = {name: value.half() if value.is_floating_point() else value for name, value in flat.items()}
    assert read_weights(saved(half)).tensors["backbone.conv1.weight"].dtype == torch.float32


def without(name: str) -> Callable[[Tensors], Tensors]:
    return lambda flat: {key: value for key, value in flat.items() if key != name}


def plus(name: str, *shape: int) -> Callable[[Tensors], Tensors]:
    return lambda flat: {**flat, name: torch.zeros(*shape)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (plus("backbone.layer2.0.conv2_offset.weight", 27, 128, 3, 3), "deformable"),
        (plus("backbone.layer1.0.conv3.weight", 256, 64, 1, 1), "ResNet-50"),
        (lambda flat: {n.replace("layer", "blocks"): v for n, v in flat.items()}, "proxyless"),
        (without("decoder.in5.weight"), "not a DBNet"),
        (without("backbone.layer3.1.bn2.running_mean"), "1 missing: backbone.layer3.1.bn2.running_mean"),
        (plus("decoder.extra.weight", 1), "1 unexpected: decoder.extra.weight"),
        (plus("backbone.conv1.weight", 64, 1, 7, 7), "backbone.conv1.weight is 64x1x7x7, not 64x3x7x7"),
        (lambda flat: {**flat, "backbone.bn1.bias": torch.full((64,), float("nan"))}, "1 not finite"),
        (lambda flat: {f"model.{n}": v for n, v in flat.items()} | flat, "several networks, under no prefix, model."),
        (lambda _: {"a": 1}, "no tensors"),
        (lambda _: [1, 2], "not named tensors"),
    ],
)
def test_other_networks_are_refused_with_the_reason(
    flat: Tensors, saved: Callable[..., Path], change: Callable[[Tensors], object], message: str
) -> None:
    with pytest.raises(CheckpointMismatch, match=message):
        read_weights(saved(change(flat)))


def test_all_problems_are_listed(flat: Tensors, saved: Callable[..., Path]) -> None:
    broken = {name: value for name, value in flat.items() if "layer4" not in name}
    with pytest.raises(CheckpointMismatch) as caught:
        read_weights(saved(broken | {"decoder.odd": torch.zeros(1)}))
    problems = caught.value.details["problems"]
    assert isinstance(problems, dict)
    assert len(problems["missing"]) == 25
    assert problems["unexpected"] == ["decoder.odd"]
    assert "and 17 more" in caught.value.message


class Payload:
    """Something whose unpickling would run code."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return (open, ("/tmp/steadyocr-was-here",))


def test_code_in_a_checkpoint_is_never_run(saved: Callable[..., Path]) -> None:
    with pytest.raises(ModelCorrupt):
        read_weights(saved({"state_dict": Payload()}))


def test_a_checkpoint_that_is_cut_off_or_has_a_flipped_bit_is_refused(saved: Callable[..., Path]) -> None:
    """Its archive has checksums, which torch does not look at."""
    whole = saved({"state_dict": {"weight": torch.arange(4096.0)}})
    data = whole.read_bytes()
    # Past the names, in the numbers.
    middle = data.index(torch.arange(2048.0, 2050.0).numpy().tobytes())
    for damaged in (data[:5000], data[:-100], data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :]):
        whole.write_bytes(damaged)
        with pytest.raises(ModelCorrupt):
            read_weights(whole)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut off", b"\x80\x02}q\x00."[:4]])
def test_files_that_are_no_checkpoints(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    with pytest.raises((ModelCorrupt, CheckpointMismatch)):
        read_weights(path)
    with pytest.raises(ModelMissing):
        read_weights(tmp_path / "gone.pt")


def test_own_checkpoint_brings_its_thresholds(flat: Tensors, saved: Callable[..., Path]) -> None:
    from steadyocr.training.config import Source, TrainConfig

    values = {
        "format": "steadyocr-train-1",
        "state_dict": flat,
        "mean": [1.0, 2.0, 3.0],
        "std": [4.0, 5.0, 6.0],
        "validation": {"bin_threshold": 0.4, "unclip_ratio": 1.2},
        "config": TrainConfig(sources=(Source(path="x"),)).to_dict(),
    }
    weights = read_weights(saved(values))
    assert weights.preprocessing.mean == pytest.approx((1, 2, 3))
    assert (weights.bin_threshold, weights.unclip_ratio, weights.max_side) == pytest.approx((0.4, 1.2, 960))
    assert weights.preprocessing.channel_order == OURS.channel_order
