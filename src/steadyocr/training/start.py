"""Where fine-tuning starts: a checkpoint of any dialect, or a model folder as it is shipped.

A shipped model has its BatchNorm folded into its convolutions. Going on with training needs it back, and the
threshold head too; both are small and lie beside the ONNX file in ``finetune.npz``. Dividing the folded weights by
BatchNorm's scale gives the convolutions.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor

from steadyocr.errors import CheckpointMismatch, ModelCorrupt, ModelMissing
from steadyocr.runtime.manifest import MANIFEST_NAME, REMAINDER_NAME, load_manifest
from steadyocr.training.dialects import OURS, DetectorWeights, Preprocessing, check_tensors, read_weights

_SHRINK_RATIO: Final = "shrink_ratio"
_BN_EPS: Final = 1e-5
_BN_PARTS: Final = ("weight", "bias", "running_mean", "running_var")
# Below this scale a channel is all but dead; dividing by less would only blow rounding up.
_LEAST_SCALE: Final = 1e-4


def starting_weights(path: Path) -> DetectorWeights:
    """Read weights to start from, made to fit this program's own preprocessing.

    Args:
        path: A checkpoint file, or a folder with ``manifest.toml`` and ``finetune.npz``.
    """
    weights = _from_folder(path) if path.is_dir() else read_weights(path)
    return to_own_preprocessing(weights)


def to_own_preprocessing(weights: DetectorWeights) -> DetectorWeights:
    """Change the first layer so that it takes our input (RGB, ImageNet statistics) and answers the same.

    The first layer is linear, so scale and channel order go into its weights; the shift goes into the mean of the
    BatchNorm behind it. Only pixels at the picture's edge, where the padding stands, come out slightly different.
    """
    theirs = weights.preprocessing
    if theirs == OURS:
        return weights
    kernel = weights.tensors["backbone.conv1.weight"].double()
    # Plane p of theirs shows colour source[p], numbered as in ours (R, G, B).
    source = [2, 1, 0] if theirs.channel_order == "BGR" else [0, 1, 2]
    own = torch.zeros_like(kernel)
    shift = torch.zeros(kernel.shape[0], dtype=torch.float64)
    for plane, colour in enumerate(source):
        own[:, colour] = kernel[:, plane] * (OURS.std[colour] / theirs.std[plane])
        shift += kernel[:, plane].sum(dim=(1, 2)) * ((OURS.mean[colour] - theirs.mean[plane]) / theirs.std[plane])
    tensors = dict(weights.tensors)
    tensors["backbone.conv1.weight"] = own.float()
    tensors["backbone.bn1.running_mean"] = (tensors["backbone.bn1.running_mean"].double() - shift).float()
    return replace(weights, tensors=tensors, preprocessing=OURS)


def write_remainder(weights: DetectorWeights, folder: Path) -> bool:
    """Write what the ONNX file lacks for fine-tuning; False when the checkpoint has no threshold head itself."""
    if "decoder.thresh.0.weight" not in weights.tensors:
        return False
    kept = {name: value.numpy() for name, value in weights.tensors.items() if _is_norm(name) or ".thresh." in name}
    arrays = {name: _compact(value) for name, value in kept.items()}
    arrays[_SHRINK_RATIO] = np.array(weights.shrink_ratio)
    np.savez(folder / REMAINDER_NAME, **arrays)  # type: ignore[arg-type]
    return True


def _is_norm(name: str) -> bool:
    return name.endswith(("running_mean", "running_var", "num_batches_tracked")) or _beside_norm(name)


def _beside_norm(name: str) -> bool:
    layer = name.rpartition(".")[0]
    return ".bn" in f".{layer.rpartition('.')[2]}" or layer.endswith(("downsample.1", "binarize.1", "binarize.4"))


def _compact(value: NDArray[Any]) -> NDArray[Any]:
    return value.astype(np.float16) if value.ndim == 4 else value


def _from_folder(folder: Path) -> DetectorWeights:
    manifest = load_manifest(folder)
    path = manifest.verified_remainder()
    if path is None:
        raise ModelMissing(
            f"{folder / MANIFEST_NAME}: this model cannot be trained further, {REMAINDER_NAME} is not beside it"
        )
    try:
        # Opened here: of a damaged file numpy would leave its own open.
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            remainder: dict[str, NDArray[Any]] = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ModelCorrupt(f"{path}: not readable: {error}") from error
    shrink_ratio = float(remainder.pop(_SHRINK_RATIO, np.array(0.4)))
    folded = _initialisers(manifest.verified_file())
    tensors = _unfolded(folded, remainder, folder.name)
    entry = manifest.input
    return DetectorWeights(
        tensors=check_tensors(tensors, folder.name),
        inner_channels=int(tensors["decoder.in5.weight"].shape[0]),
        preprocessing=Preprocessing(channel_order=entry.channel_order, mean=entry.mean, std=entry.std),
        bin_threshold=manifest.defaults.bin_threshold,
        box_threshold=manifest.defaults.box_threshold,
        unclip_ratio=manifest.defaults.unclip_ratio,
        max_side=manifest.defaults.max_side,
        shrink_ratio=shrink_ratio,
        dialect="model folder",
    )


def _initialisers(path: Path) -> dict[str, NDArray[np.float64]]:
    return {
        entry.name.removesuffix("_fp16"): numpy_helper.to_array(entry).astype(np.float64)
        for entry in onnx.load(path).graph.initializer
        if ".weight" in entry.name or ".bias" in entry.name
    }


def _unfolded(
    folded: Mapping[str, NDArray[np.float64]], remainder: Mapping[str, NDArray[Any]], where: str
) -> dict[str, Tensor]:
    """Take BatchNorm's scale out of the convolutions again."""
    arrays: dict[str, NDArray[Any]] = {name: value.astype(np.float64) for name, value in remainder.items()}
    for name, value in folded.items():
        layer, _, part = name.rpartition(".")
        norm = _norm_of(layer, remainder)
        if norm is None:
            arrays[name] = value
            continue
        try:
            weight, bias, mean, variance = (arrays[f"{norm}.{each}"] for each in _BN_PARTS)
        except KeyError as error:
            raise CheckpointMismatch(f"{where}: {REMAINDER_NAME} lacks {error}") from error
        scale = weight / np.sqrt(variance + _BN_EPS)
        safe = np.where(np.abs(scale) < _LEAST_SCALE, np.copysign(_LEAST_SCALE, scale), scale)
        if part == "weight":
            # A transposed convolution has its outputs second.
            arrays[name] = value / (safe[None, :, None, None] if _is_deconv(layer) else safe[:, None, None, None])
        elif _is_deconv(layer):
            arrays[name] = (value - bias) / safe + mean
    return {
        name: torch.tensor(value, dtype=torch.int64 if name.endswith("num_batches_tracked") else torch.float32)
        for name, value in arrays.items()
    }


def _norm_of(layer: str, remainder: Mapping[str, NDArray[Any]]) -> str | None:
    """Name of the BatchNorm behind a convolution, by the network's naming."""
    head, _, last = layer.rpartition(".")
    if last.startswith("conv"):
        candidate = f"{head}.bn{last.removeprefix('conv')}"
    elif last.isdigit():
        candidate = f"{head}.{int(last) + 1}"
    else:
        return None
    return candidate if f"{candidate}.running_var" in remainder else None


def _is_deconv(layer: str) -> bool:
    return layer.endswith(("binarize.3", "binarize.6", "thresh.3", "thresh.6"))
