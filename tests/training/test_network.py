"""Names and shapes are a contract with the checkpoints of ModelScope's cv_resnet18_ocr-detection."""

from __future__ import annotations

import subprocess
import sys

import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which is not installed")

from steadyocr.training.dialects import expected_shapes  # noqa: E402
from steadyocr.training.model import DBNet  # noqa: E402

NORM = {"weight": 1, "bias": 1, "running_mean": 1, "running_var": 1, "num_batches_tracked": 0}


def norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.{part}": (channels,) * rank for part, rank in NORM.items()}


def modelscope_table() -> dict[str, tuple[int, ...]]:
    """Its tensors, row by row."""
    table: dict[str, tuple[int, ...]] = {"backbone.conv1.weight": (64, 3, 7, 7), **norm("backbone.bn1", 64)}
    below = 64
    for layer, width in ((1, 64), (2, 128), (3, 256), (4, 512)):
        for block in (0, 1):
            name = f"backbone.layer{layer}.{block}"
            table[f"{name}.conv1.weight"] = (width, below if block == 0 else width, 3, 3)
            table[f"{name}.conv2.weight"] = (width, width, 3, 3)
            table |= norm(f"{name}.bn1", width) | norm(f"{name}.bn2", width)
        if layer > 1:
            table[f"backbone.layer{layer}.0.downsample.0.weight"] = (width, below, 1, 1)
            table |= norm(f"backbone.layer{layer}.0.downsample.1", width)
        below = width
    for level, width in ((5, 512), (4, 256), (3, 128), (2, 64)):
        table[f"decoder.in{level}.weight"] = (256, width, 1, 1)
    for name in ("out5.0", "out4.0", "out3.0", "out2"):
        table[f"decoder.{name}.weight"] = (64, 256, 3, 3)
    for head in ("binarize", "thresh"):
        table[f"decoder.{head}.0.weight"] = (64, 256, 3, 3)
        table |= norm(f"decoder.{head}.1", 64) | norm(f"decoder.{head}.4", 64)
        table |= {f"decoder.{head}.3.weight": (64, 64, 2, 2), f"decoder.{head}.3.bias": (64,)}
        table |= {f"decoder.{head}.6.weight": (64, 1, 2, 2), f"decoder.{head}.6.bias": (1,)}
    return table


def test_every_tensor_has_modelscopes_name_and_shape() -> None:
    table = modelscope_table()
    assert len(table) == 158
    assert expected_shapes(256) == table


def test_shapes_cost_no_compiler() -> None:
    code = (
        "import sys\n"
        "from steadyocr.training.dialects import expected_shapes\n"
        "assert len(expected_shapes(64)) == 158\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_parameter_count_is_the_published_one() -> None:
    with torch.device("meta"):
        network = DBNet(256)
    assert sum(p.numel() for p in network.parameters()) == 12_340_930
    assert sum(p.numel() for p in network.backbone.parameters()) == 11_176_512
    assert sum(p.numel() for p in network.decoder.thresh.parameters()) == 164_417


@pytest.mark.parametrize("width", [0, 2, 30])
def test_neck_width_must_be_a_multiple_of_four(width: int) -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        DBNet(width)


def test_output_is_a_probability_of_the_inputs_size() -> None:
    network = DBNet(8).eval()
    with torch.no_grad():
        images = torch.zeros(1, 3, 64, 96)
        probability = network.inference(images)
        logits, _ = network(images)
    assert probability.shape == (1, 1, 64, 96)
    assert torch.allclose(probability, torch.sigmoid(logits))
    # A fresh network says "no text" nearly everywhere, below every useful threshold.
    assert float(probability.max()) < 0.2
