"""Pixels to network input, the way a manifest says."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from steadyocr.runtime.base import FloatArray
from steadyocr.runtime.manifest import InputEntry


def fill_tensor(destination: FloatArray, image: NDArray[np.uint8], entry: InputEntry) -> None:
    """Write ``(image - mean) / std`` into the left part of a tensor.

    Args:
        destination: (3, H, W) float32, written in place in columns 0 to the image's width.
        image: (H, w, 3) uint8 RGB with w <= W.
        entry: The manifest's input entry.
    """
    width = image.shape[1]
    for plane in range(3):
        source = 2 - plane if entry.channel_order == "BGR" else plane
        out = destination[plane, :, :width]
        np.multiply(image[..., source], np.float32(1.0 / entry.std[plane]), out=out)
        out -= np.float32(entry.mean[plane] / entry.std[plane])
