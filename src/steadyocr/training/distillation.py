"""Learning from another detector that sees the same crops, beside the labels.

Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", and Romero et al. 2015, "FitNets: Hints for Thin
Deep Nets". Labels teach a few thousand photographs by heart; what a teacher of many more answers at every pixel of
any crop, text that nobody labelled included, teaches what text looks like. It is learned by heads of its own on the
neck's features, so the network's answer stays one about the labels, whatever the teacher's target looks like.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from steadyocr.errors import ConfigError
from steadyocr.runtime.manifest import load_manifest
from steadyocr.runtime.openvino import core
from steadyocr.runtime.tensor import fill_tensor
from steadyocr.training.config import DistillationConfig

# Features further from their mean, in standard deviations, are not told apart: single spikes would rule the loss.
_MAX_DEVIATION: Final = 6.0
# What a text pixel counts more than another, in the loss on features.
_TEXT_WEIGHT: Final = 5.0
# What a pixel far from all text counts, against one near it, in the loss on the probability.
_FAR_WEIGHT: Final = 0.2
_NEAR_PX: Final = 9
# The head's fused features and the answer have a fourth of the input's size, and the input's.
_STRIDE: Final = 4
_HIDDEN: Final = 32
_PRIOR_LOGIT: Final = -3.0


class Teacher:
    """A detector of the model folder kind, run on the CPU.

    Args:
        folder: With a ``manifest.toml``.
        features: Name of a tensor inside the network, (N, C, H / 4, W / 4), that is taught as well.
        threads: 0 leaves the library's choice.

    Raises:
        ConfigError: It has no such tensor.
        ModelError: The folder holds no usable model.
    """

    def __init__(self, folder: Path, features: str, threads: int) -> None:
        manifest = load_manifest(folder)
        self._input = manifest.input
        network = core().read_model(manifest.verified_file())
        found = [out for op in network.get_ops() for out in op.outputs() if features in out.get_names()]
        if not found:
            raise ConfigError(f"distillation.features: {manifest.name} has no tensor named {features!r}")
        network.add_outputs(found[0])
        self.channels = int(found[0].get_partial_shape()[1].get_length())
        options = {"INFERENCE_PRECISION_HINT": "f32", **({"INFERENCE_NUM_THREADS": threads} if threads else {})}
        self._network = core().compile_model(network, "CPU", options)

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Look at crops.

        Args:
            images: (N, H, W, 3) uint8, RGB.

        Returns:
            Probability maps (N, 1, H, W) from 0 to 1, and features (N, C, H / 4, W / 4).
        """
        pixels = images.cpu().numpy()
        batch = np.empty((len(pixels), 3, *pixels.shape[1:3]), np.float32)
        for tensor, image in zip(batch, pixels, strict=True):
            fill_tensor(tensor, image, self._input)
        # One after the other: a batch at once holds much more memory and is no faster.
        answers = [self._answer(one) for one in batch]
        return torch.stack([answer[0] for answer in answers]), torch.stack([answer[1] for answer in answers])

    def _answer(self, pixels: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
        found = self._network(pixels[None])
        return torch.from_numpy(found[0][0].copy()), torch.from_numpy(found[1][0].copy())


class Heads(nn.Module):
    """Says what the teacher says, from the student's features. Not part of the detector.

    Args:
        channels: Of the student's fused features.
        teacher_channels: Of the teacher's.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int, teacher_channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.features = nn.Conv2d(channels, teacher_channels, 1)
        nn.init.zeros_(self.features.weight)
        last = nn.Conv2d(_HIDDEN, _STRIDE * _STRIDE, 1)
        nn.init.constant_(last.bias, _PRIOR_LOGIT)  # type: ignore[arg-type]
        self.probability = nn.Sequential(
            nn.Conv2d(channels, _HIDDEN, 3, padding=1, bias=False),
            nn.BatchNorm2d(_HIDDEN),
            nn.ReLU(inplace=True),
            last,
            nn.PixelShuffle(_STRIDE),
        )
        # The teacher's statistics, from the first batch.
        self.register_buffer("mean", torch.zeros(teacher_channels, 1, 1))
        self.register_buffer("std", torch.zeros(teacher_channels, 1, 1))

    def standardise(self, features: Tensor) -> Tensor:
        """Bring the teacher's features to mean 0 and deviation 1, by the first ones that were seen."""
        if not self.std.any():
            self.mean.copy_(features.mean(dim=(0, 2, 3))[:, None, None])
            self.std.copy_(features.std(dim=(0, 2, 3)).clamp_min(1e-3)[:, None, None])
        return ((features - self.mean) / self.std).clamp(-_MAX_DEVIATION, _MAX_DEVIATION)

    def forward(self, fused: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits of the probability map (N, 1, H, W) and features (N, C, H / 4, W / 4)."""
        fused = self.norm(fused)
        return self.probability(fused), self.features(fused)


class Distillation:
    """The second lesson of a training run.

    Args:
        config: What to learn from whom.
        channels: Of the student's fused features.
        device: Where the student is.
        threads: Of the teacher; 0 leaves the library's choice.

    Raises:
        ConfigError: The teacher has no such features.
        ModelError: There is no such teacher.
    """

    def __init__(self, config: DistillationConfig, channels: int, device: str, threads: int) -> None:
        self._config = config
        self._device = device
        self._teacher = Teacher(Path(config.teacher), config.features, threads)
        self.heads = Heads(channels, self._teacher.channels).to(device)

    def loss(self, images: Tensor, fused: Tensor, step: int) -> Tensor:
        """Compute the loss.

        Args:
            images: (N, H, W, 3) uint8, RGB, what both have seen.
            fused: The student's fused features, (N, C, H / 4, W / 4), with gradient.
            step: Of the run. In the first ones the new heads learn and the student does not: what they say at first
                is no reason to change it.

        Returns:
            A number, with gradient.
        """
        probability, features = (each.to(self._device) for each in self._teacher(images))
        logits, own = self.heads((fused.detach() if step < self._config.warmup_steps else fused).float())
        on_features = feature_loss(own, self.heads.standardise(features), probability)
        on_probability = probability_loss(logits, probability)
        return self._config.feature_weight * on_features + self._config.probability_weight * on_probability


def feature_loss(own: Tensor, wanted: Tensor, probability: Tensor) -> Tensor:
    """Smooth L1, in which places with text count more, as they are few.

    Args:
        own: (N, C, H / 4, W / 4).
        wanted: The same of the teacher, standardised.
        probability: The teacher's, (N, 1, H, W).
    """
    error = functional.smooth_l1_loss(own, wanted, reduction="none").mean(dim=1, keepdim=True)
    weight = 1.0 + (_TEXT_WEIGHT - 1.0) * functional.max_pool2d(probability, _STRIDE)
    return (error * weight).sum() / weight.sum()


def probability_loss(logits: Tensor, probability: Tensor) -> Tensor:
    """Mean divergence (Kullback and Leibler) from the teacher's answer; 0 where both say the same.

    Args:
        logits: (N, 1, H, W).
        probability: The teacher's, (N, 1, H, W).
    """
    wanted = probability.clamp(0.0, 1.0)
    cross = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    entropy = -(torch.xlogy(wanted, wanted) + torch.xlogy(1.0 - wanted, 1.0 - wanted))
    weight = _FAR_WEIGHT + functional.max_pool2d(wanted, _NEAR_PX, stride=1, padding=_NEAR_PX // 2)
    return ((cross - entropy) * weight).sum() / weight.sum()
