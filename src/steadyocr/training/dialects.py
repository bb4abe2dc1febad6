"""Reading a detector checkpoint in every dialect that is about, and refusing what does not fit, with the reason.

====================== =========================================================================
ours                   ``format`` key; the averaged weights, with preprocessing and thresholds
ModelScope             flat dictionary, no prefix (``pytorch_model.pt``)
ModelScope's trainer   ``model.module.`` before each name (``final.pt``, ``db_resnet18_public_...``)
its wrapper class      ``detector.`` before each name
others                 ``module.``, ``model.``, or all of it under a ``state_dict`` key
MhLiao/DB              ``model.module.``; ``backbone.fc`` and ``backbone.smooth`` are dropped
====================== =========================================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch
from torch import Tensor

from steadyocr.errors import CheckpointMismatch
from steadyocr.training import checkpoint
from steadyocr.training.model import DBNet
from steadyocr.training.normalise import MEAN, STD

_PREFIX: Final = re.compile(r"^(?:(?:model|module|detector)\.)*(?=backbone\.|decoder\.)")
_DROPPED: Final = ("backbone.fc.", "backbone.smooth.")
# Inference needs neither; a checkpoint may lack both.
_OPTIONAL: Final = re.compile(r"^decoder\.thresh\.|\.num_batches_tracked$")
_SHOWN: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """How a picture becomes the network's input: ``(pixel - mean) / std``, planes in this order."""

    channel_order: Literal["RGB", "BGR"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


OURS: Final = Preprocessing(channel_order="RGB", mean=MEAN, std=STD)
# The means are those of R, G, B, taken from B, G, R: a slip of the first DB code that its weights have learned.
MODELSCOPE: Final = Preprocessing(channel_order="BGR", mean=(123.68, 116.78, 103.94), std=(255.0, 255.0, 255.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorWeights:
    """A detector's weights and what must go with them.

    Attributes:
        tensors: Float32 tensors under our names; threshold head and counters may be missing.
        inner_channels: Width of the neck.
        preprocessing: How its input is made.
        bin_threshold: Post-processing that goes with the weights.
        box_threshold: The same.
        unclip_ratio: The same.
        max_side: Longer side that the thresholds were chosen at, in pixels.
        shrink_ratio: Of the targets these weights have learned (``TargetParams.shrink_ratio``).
        dialect: How the file was written.
        dropped: Names that were in the file and are not needed.
    """

    tensors: Mapping[str, Tensor]
    inner_channels: int
    preprocessing: Preprocessing
    bin_threshold: float = 0.2
    box_threshold: float = 0.3
    unclip_ratio: float = 1.5
    max_side: int = 1280
    shrink_ratio: float = 0.4
    dialect: str = "flat"
    dropped: tuple[str, ...] = ()

    def network(self) -> DBNet:
        """Return the network with these weights, ready to run."""
        network = DBNet(self.inner_channels)
        self.load_into(network)
        return network.eval().requires_grad_(False)

    def load_into(self, network: DBNet) -> None:
        """Put these weights into a network of the same width; what a checkpoint may lack stays as it is."""
        network.load_state_dict(dict(self.tensors), strict=False)  # every name has been checked before


def read_weights(path: Path) -> DetectorWeights:
    """Read a checkpoint file.

    Raises:
        ModelMissing: There is no such file.
        ModelCorrupt: It cannot be read, or holds more than plain tensors and values.
        CheckpointMismatch: It holds another network; the message lists what does not fit.
    """
    values = checkpoint.load(path)
    if values.get("format") == checkpoint.FORMAT:
        return _ours(values, path.name)
    flat, dialect = _flatten(values, path.name)
    tensors, dropped = _needed(flat, path.name)
    return DetectorWeights(
        tensors=tensors,
        inner_channels=int(tensors["decoder.in5.weight"].shape[0]),
        preprocessing=MODELSCOPE,
        dialect=dialect,
        dropped=dropped,
    )


def _ours(values: Mapping[str, Any], where: str) -> DetectorWeights:
    tensors, _ = _needed(dict(checkpoint.weights_of(values)), where)
    verdict = values.get("validation") or {}
    judged = values["config"]["validation"]
    mean, std = values.get("mean", MEAN), values.get("std", STD)
    return DetectorWeights(
        tensors=tensors,
        inner_channels=int(tensors["decoder.in5.weight"].shape[0]),
        preprocessing=Preprocessing(channel_order="RGB", mean=tuple(mean), std=tuple(std)),
        bin_threshold=float(verdict.get("bin_threshold", _only(judged, "bin_thresholds", 0.3))),
        box_threshold=float(judged["box_threshold"]),
        unclip_ratio=float(verdict.get("unclip_ratio", _only(judged, "unclip_ratios", 1.5))),
        max_side=int(judged["max_side"]),
        shrink_ratio=float(values["config"]["targets"]["shrink_ratio"]),
        dialect="steadyocr",
    )


def _only(judged: Mapping[str, Any], name: str, otherwise: float) -> float:
    """What a run that judged nothing was told to use; of several values none has been chosen."""
    values: Sequence[float] = judged.get(name, ())
    return float(values[0]) if len(values) == 1 else otherwise


def _flatten(values: Mapping[str, Any], where: str) -> tuple[dict[str, Tensor], str]:
    """Take tensors out of their wrapper and their names' prefix off."""
    marks = []
    if isinstance(values.get("state_dict"), Mapping):
        values = values["state_dict"]
        marks.append("state_dict")
    tensors = {str(name): value for name, value in values.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointMismatch(f"{where}: holds no tensors")
    prefixes = {found[0] for found in map(_PREFIX.match, tensors) if found}
    if len(prefixes) > 1:
        names = ", ".join(prefix or "no prefix" for prefix in sorted(prefixes))
        raise CheckpointMismatch(f"{where}: holds several networks, under {names}")
    marks += filter(None, prefixes)
    return {_PREFIX.sub("", name): value for name, value in tensors.items()}, " ".join(marks) or "flat"


def _needed(tensors: Mapping[str, Tensor], where: str) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Check names and shapes, strictly, and drop what is known and not needed."""
    _refuse_other_networks(tensors, where)
    expected = expected_shapes(int(tensors["decoder.in5.weight"].shape[0]))
    dropped = tuple(name for name in tensors if name.startswith(_DROPPED))
    rest = {name: value for name, value in tensors.items() if name not in dropped}
    problems = {
        "missing": [name for name in expected if name not in rest and not _OPTIONAL.search(name)],
        "unexpected": [name for name in rest if name not in expected],
        "misshapen": [
            f"{name} is {_shape(rest[name])}, not {_shape(shape)}"
            for name, shape in expected.items()
            if name in rest and tuple(rest[name].shape) != shape
        ],
        "not finite": [name for name, value in rest.items() if not bool(torch.isfinite(value).all())],
    }
    if any(problems.values()):
        raise CheckpointMismatch(f"{where}: does not fit the ResNet-18 DBNet: {_listing(problems)}", problems=problems)
    floats = {name: value.float() if value.is_floating_point() else value for name, value in rest.items()}
    return floats, dropped


def check_tensors(tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Return the tensors the network has use for.

    Raises:
        CheckpointMismatch: One is missing, unexpected, misshapen or not finite.
    """
    return _needed(tensors, where)[0]


def _refuse_other_networks(tensors: Mapping[str, Tensor], where: str) -> None:
    def has(pattern: str) -> bool:
        return any(re.search(pattern, name) for name in tensors)

    reasons = (
        (
            has(r"\.conv2_offset\."),
            "its backbone has deformable convolutions (conv2_offset). They are not supported: no inference library "
            "here runs them. Use a checkpoint without DCN, such as ModelScope's",
        ),
        (
            has(r"layer\d\.\d+\.conv3\.weight"),
            "its backbone is a ResNet-50 (VLPT or another); only ResNet-18 is supported",
        ),
        (
            has(r"^backbone\.") and not has(r"^backbone\.layer1\.0\.conv1\.weight$"),
            "its backbone is no ResNet (ModelScope's proxyless NAS model, perhaps); only ResNet-18 is supported",
        ),
        (
            "decoder.in5.weight" not in tensors or tensors["decoder.in5.weight"].ndim != 4,
            "there is no tensor decoder.in5.weight: not a DBNet checkpoint. The SegLink++ models are TensorFlow "
            "graphs and cannot be imported",
        ),
        (
            has(r"^decoder\.in5\.weight$") and tensors["decoder.in5.weight"].shape[0] % 4 != 0,
            "the width of its neck is no multiple of 4",
        ),
    )
    for holds, reason in reasons:
        if holds:
            raise CheckpointMismatch(f"{where}: {reason}")


def expected_shapes(inner_channels: int) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every tensor of the network (158 of them)."""
    with torch.device("meta"):
        network = DBNet(inner_channels)
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def _shape(shape: Tensor | Iterable[int]) -> str:
    return "x".join(str(size) for size in (shape.shape if isinstance(shape, Tensor) else shape)) or "a number"


def _listing(problems: Mapping[str, list[str]]) -> str:
    parts = []
    for title, names in problems.items():
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            parts.append(f"{len(names)} {title}: {', '.join(names[:_SHOWN])}{more}")
    return "; ".join(parts)
