"""Fine-tuning goes on from what is shipped and from foreign checkpoints with the same network, number for number."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which is not installed")
pytest.importorskip("onnx", reason="model folders need onnx, which is not installed")

from torch import Tensor  # noqa: E402

from steadyocr.errors import ModelCorrupt, ModelMissing  # noqa: E402
from steadyocr.export.onnx import Label, write_model_folder  # noqa: E402
from steadyocr.runtime.manifest import REMAINDER_NAME  # noqa: E402
from steadyocr.training.dialects import MODELSCOPE, OURS, DetectorWeights, Preprocessing  # noqa: E402
from steadyocr.training.model import DBNet  # noqa: E402
from steadyocr.training.start import starting_weights, to_own_preprocessing  # noqa: E402


@pytest.fixture(scope="module")
def weights() -> DetectorWeights:
    torch.manual_seed(6)
    network = DBNet(8)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            torch.nn.init.uniform_(module.bias, -0.3, 0.3)
    torch.nn.init.normal_(network.decoder.binarize[6].weight, std=0.5)
    return DetectorWeights(tensors=network.state_dict(), inner_channels=8, preprocessing=OURS, shrink_ratio=0.5)


def test_model_folder_gives_the_trained_network_back(weights: DetectorWeights, tmp_path: Path) -> None:
    write_model_folder(weights, tmp_path / "m", Label(name="m"))
    assert (tmp_path / "m" / REMAINDER_NAME).stat().st_size < 300_000
    back = starting_weights(tmp_path / "m")
    assert back.tensors.keys() == weights.tensors.keys()
    assert (back.shrink_ratio, back.inner_channels) == (0.5, 8)
    for name, value in weights.tensors.items():
        # Weights are stored as float16: eleven bits.
        assert torch.allclose(back.tensors[name].float(), value.float(), rtol=2e-3, atol=1e-5), name


def test_folder_without_remainder_or_with_half_of_one_cannot_be_trained(
    weights: DetectorWeights, tmp_path: Path
) -> None:
    write_model_folder(weights, tmp_path / "m", Label(name="m"))
    remainder = tmp_path / "m" / REMAINDER_NAME
    whole = remainder.read_bytes()
    for part in (whole[: len(whole) // 2], b""):
        remainder.write_bytes(part)
        with pytest.raises(ModelCorrupt):
            starting_weights(tmp_path / "m")
    (tmp_path / "m" / REMAINDER_NAME).unlink()
    with pytest.raises(ModelMissing, match="cannot be trained further"):
        starting_weights(tmp_path / "m")


def test_remainder_of_another_model_is_not_trained_on(weights: DetectorWeights, tmp_path: Path) -> None:
    """It has the right names and shapes: only its hash tells."""
    write_model_folder(weights, tmp_path / "m", Label(name="m"))
    other = {name: value * 2 if ".thresh." in name else value for name, value in weights.tensors.items()}
    write_model_folder(replace(weights, tensors=other), tmp_path / "other", Label(name="other"))
    (tmp_path / "other" / REMAINDER_NAME).replace(tmp_path / "m" / REMAINDER_NAME)
    with pytest.raises(ModelCorrupt, match="sha256"):
        starting_weights(tmp_path / "m")


def prepared(pixels: Tensor, how: Preprocessing) -> Tensor:
    planes = pixels if how.channel_order == "RGB" else pixels.flip(1)
    result: Tensor = (planes - torch.tensor(how.mean)[:, None, None]) / torch.tensor(how.std)[:, None, None]
    return result


def test_foreign_preprocessing_moves_into_the_first_layer(weights: DetectorWeights) -> None:
    foreign = replace(weights, preprocessing=MODELSCOPE)
    own = to_own_preprocessing(foreign)
    assert own.preprocessing == OURS
    pixels = torch.randint(0, 255, (1, 3, 128, 128)).float()
    features = [w.network().backbone.conv1 for w in (foreign, own)]
    norms = [w.network().backbone.bn1 for w in (foreign, own)]
    with torch.no_grad():
        theirs = norms[0](features[0](prepared(pixels, MODELSCOPE)))
        ours = norms[1](features[1](prepared(pixels, OURS)))
    # The padded border differs: zero means another colour there.
    assert torch.allclose(theirs[..., 2:-2, 2:-2], ours[..., 2:-2, 2:-2], atol=1e-4)
