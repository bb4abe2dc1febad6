"""How pixels become network input, in one place, because the model's manifest must repeat it to the serving side."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

# Our own weights: RGB order, ImageNet statistics on the 0..255 scale.
MEAN: Final = (123.675, 116.28, 103.53)
STD: Final = (58.395, 57.12, 57.375)


def to_network_input(images: Tensor) -> Tensor:
    """Turn (N, H, W, 3) uint8 RGB into (N, 3, H, W) float32, normalised, laid out channels last."""
    mean = torch.tensor(MEAN, device=images.device)
    std = torch.tensor(STD, device=images.device)
    # Arithmetic before the permutation keeps the memory order that channels_last wants, without a copy.
    return ((images.float() - mean) / std).permute(0, 3, 1, 2)
