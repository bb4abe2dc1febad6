"""Where training in bfloat16 pays."""

from __future__ import annotations

import torch

from steadyocr.runtime.cpu import training_pays_in_bf16
from steadyocr.runtime.torch import has_bf16_units


def bf16_pays(device: str) -> bool:
    """Whether a device trains faster in bfloat16 than in float32.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:N``; the card must be there.
    """
    return training_pays_in_bf16() if device == "cpu" else has_bf16_units(torch.device(device))
