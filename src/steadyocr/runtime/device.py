"""This process's memory on an accelerator, as :mod:`steadyocr.runtime.memory` tells that in RAM; 0 without one.

Torch alone keeps such books. It is not imported here: what is not loaded holds nothing.
"""

from __future__ import annotations

import sys
from types import ModuleType


def held_bytes() -> int:
    """Return what this process's allocator holds on the accelerator, in bytes."""
    cuda = _cuda()
    return int(cuda.memory_reserved()) if cuda else 0


def peak_bytes() -> int:
    """Return the most held since :func:`reset_peak`, in bytes."""
    cuda = _cuda()
    return int(cuda.max_memory_reserved()) if cuda else 0


def reset_peak() -> None:
    """Let :func:`peak_bytes` count from now on."""
    cuda = _cuda()
    if cuda:
        cuda.reset_peak_memory_stats()


def _cuda() -> ModuleType | None:
    cuda = sys.modules.get("torch.cuda")
    return cuda if cuda is not None and cuda.is_initialized() else None
