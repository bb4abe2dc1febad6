"""Where training in bfloat16 pays."""

from __future__ import annotations

from pathlib import Path

import torch

from steadyocr.runtime.cpu import CPUINFO, cpu_flags
from steadyocr.runtime.torch import has_bf16_units


def bf16_pays(device: str, cpuinfo: Path = CPUINFO) -> bool:
    """Whether a device trains faster in bfloat16 than in float32.

    Torch computes in it everywhere, and emulates what a processor cannot: on AVX2 a step takes more than ten times as
    long, on AMX 0.4 times. Other processors have not been measured and get float32.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:N``; the card must be there.
        cpuinfo: What the kernel tells about the processor.
    """
    if device == "cpu":
        return "amx_bf16" in cpu_flags(cpuinfo)
    return has_bf16_units(torch.device(device))
