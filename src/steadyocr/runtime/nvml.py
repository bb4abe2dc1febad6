"""How full an NVIDIA card is, asked of the driver (NVML): all processes on it count, not only ours.

The library is optional (``nvidia-ml-py``, part of the ``torch`` extra). Without it, without a driver or without a card
there is no reading, which is not an error: the device's own out-of-memory answer is still caught.
"""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from types import ModuleType
from typing import Any


def card_index(device: str) -> int:
    """Return the number of the card that ``cuda`` or ``cuda:N`` names."""
    return int(device.partition(":")[2] or 0)


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Memory of one card, in bytes."""

    used: int
    total: int


class DeviceMonitor:
    """Reads one card. Opens the library at the first reading, and only then.

    Args:
        device: ``cuda`` or ``cuda:N``, as the engines number it.
        library: The NVML binding; imported when needed.
    """

    def __init__(self, device: str, library: ModuleType | None = None) -> None:
        self._index = card_index(device)
        self._library = library
        self._handle: Any = None
        self._failed = False

    def read(self) -> DeviceMemory | None:
        """Return the card's memory, or ``None`` where it cannot be read. Never raises."""
        if self._failed:
            return None
        try:
            if self._handle is None:
                self._open()
            memory = self._require().nvmlDeviceGetMemoryInfo(self._handle)
        except Exception:  # noqa: BLE001 - no library, no driver, no card: each has an error of its own
            # Asked once a second: what is not there at the first reading is not looked for again.
            self._failed = self._handle is None
            return None
        return DeviceMemory(used=int(memory.used), total=int(memory.total))

    def process_bytes(self, pid: int) -> int | None:
        """Return what one process holds on the card, in bytes; ``None`` where that cannot be read. Never raises.

        The driver numbers processes as the machine does, so from inside a container none may be found.
        """
        if self._failed or (self._handle is None and self.read() is None):
            return None
        try:
            processes = self._require().nvmlDeviceGetComputeRunningProcesses(self._handle)
        except Exception:  # noqa: BLE001 - as above
            return None
        held = [process.usedGpuMemory for process in processes if process.pid == pid]
        return int(held[0]) if held and held[0] is not None else None

    def name(self) -> str | None:
        """Return what the card is called, or ``None`` where it cannot be read. Never raises."""
        if self.read() is None:
            return None
        try:
            name = self._require().nvmlDeviceGetName(self._handle)
        except Exception:  # noqa: BLE001 - as above
            return None
        return name.decode(errors="replace") if isinstance(name, bytes) else str(name)

    def close(self) -> None:
        """Let go of the library. Safe to call twice."""
        if self._handle is not None:
            self._handle, self._failed = None, True
            self._require().nvmlShutdown()

    def _require(self) -> ModuleType:
        if self._library is None:
            self._library = importlib.import_module("pynvml")
        return self._library

    def _open(self) -> None:
        library = self._require()
        library.nvmlInit()
        name = _visible_device(self._index)
        if name.isdigit():
            self._handle = library.nvmlDeviceGetHandleByIndex(int(name))
        else:
            self._handle = library.nvmlDeviceGetHandleByUUID(name)


def _visible_device(index: int) -> str:
    """The driver's number or name of a card that CUDA numbers after ``CUDA_VISIBLE_DEVICES``."""
    visible = [part.strip() for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part.strip()]
    return visible[index] if index < len(visible) else str(index)
