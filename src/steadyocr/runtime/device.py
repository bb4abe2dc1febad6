"""This process's memory on an accelerator, as :mod:`steadyocr.runtime.memory` tells that in RAM; 0 without one.

Torch keeps such books itself. It is not imported here: what is not loaded holds nothing. ONNX Runtime keeps none that
it would show, so the driver is asked (NVML), which counts the context of the process in.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType

from steadyocr.runtime.nvml import DeviceMonitor


class _DriversBooks:
    """What the driver says of this process, and the most of it that was seen."""

    def __init__(self) -> None:
        self._monitor: DeviceMonitor | None = None
        self._peak = 0

    def watch(self, monitor: DeviceMonitor | None) -> None:
        self._monitor, self._peak = monitor, 0

    def held(self) -> int:
        return (self._monitor.process_bytes(os.getpid()) or 0) if self._monitor is not None else 0

    def peak(self) -> int:
        self._peak = max(self._peak, self.held())
        return self._peak

    def reset(self) -> None:
        self._peak = 0


_driver = _DriversBooks()


def watch(device: str, monitor: DeviceMonitor | None = None) -> None:
    """Have the driver asked about a card from now on: for a library that does not say what it holds.

    Args:
        device: ``cuda`` or ``cuda:N``; ``cpu`` ends the watch.
        monitor: What asks.
    """
    _driver.watch(None if device == "cpu" else monitor or DeviceMonitor(device))


def note_peak() -> None:
    """Look at what is held, for :func:`peak_bytes`: what is asked of the driver is seen only when somebody looks."""
    _driver.peak()


def held_bytes() -> int:
    """Return what this process holds on the accelerator, in bytes: what its allocator has taken, in use or not."""
    cuda = _cuda()
    return int(cuda.memory_reserved()) if cuda else _driver.held()


def peak_bytes() -> int:
    """Return the most held since :func:`reset_peak`, in bytes."""
    cuda = _cuda()
    return int(cuda.max_memory_reserved()) if cuda else _driver.peak()


def reset_peak() -> None:
    """Let :func:`peak_bytes` count from now on."""
    cuda = _cuda()
    if cuda:
        cuda.reset_peak_memory_stats()
    _driver.reset()


def card_name(device: str) -> str:
    """Return what the driver calls a card; empty for ``cpu`` and where it cannot be asked."""
    if device == "cpu":
        return ""
    monitor = DeviceMonitor(device)
    try:
        return monitor.name() or ""
    finally:
        monitor.close()


def _cuda() -> ModuleType | None:
    cuda = sys.modules.get("torch.cuda")
    return cuda if cuda is not None and cuda.is_initialized() else None
