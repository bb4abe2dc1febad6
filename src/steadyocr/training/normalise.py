"""How pixels become network input, in one place, because the model's manifest must repeat it to the serving side."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steadyocr.training.model import SIDE_MULTIPLE

# Our own weights: RGB order, ImageNet statistics on the 0..255 scale.
MEAN: Final = (123.675, 116.28, 103.53)
STD: Final = (58.395, 57.12, 57.375)


def network_size(width: int, height: int, max_side: int) -> tuple[int, int]:
    """Return the (width, height) a picture is resized to: longer side at most max_side, ratio kept, multiples of 32.

    Pictures are never enlarged beyond the rounding.
    """
    scale = min(1.0, max_side / max(width, height))
    return _snap(width * scale), _snap(height * scale)


def _snap(side: float) -> int:
    return max(SIDE_MULTIPLE, round(side / SIDE_MULTIPLE) * SIDE_MULTIPLE)


def resize_for_network(image: NDArray[np.uint8], max_side: int) -> NDArray[np.uint8]:
    """Resize an (H, W, 3) picture to its network size; averaging when it shrinks, so that thin strokes survive."""
    height, width = image.shape[:2]
    size = network_size(width, height, max_side)
    if size == (width, height):
        return image
    shrinks = size[0] * size[1] < width * height
    resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return np.asarray(resized, np.uint8)


def to_network_input(images: Tensor) -> Tensor:
    """Turn (N, H, W, 3) uint8 RGB into (N, 3, H, W) float32, normalised, laid out channels last."""
    mean = torch.tensor(MEAN, device=images.device)
    std = torch.tensor(STD, device=images.device)
    # Arithmetic before the permutation keeps the memory order that channels_last wants, without a copy.
    return ((images.float() - mean) / std).permute(0, 3, 1, 2)
