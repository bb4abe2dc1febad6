"""The one seam between our code and an inference library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

Precision = Literal["auto", "f32"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """How a session runs.

    Attributes:
        threads: Threads of one inference.
        precision: ``auto`` uses bf16 where the CPU or the card is faster with it; ``f32`` forbids it.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        device_memory_share: Of the card's memory, that this process may take, from 0 to 1.
    """

    threads: int
    precision: Precision = "auto"
    device: str = "cpu"
    device_memory_share: float = 1.0


class DeviceMemoryError(MemoryError):
    """The accelerator's memory was not enough; what the attempt held has been given back."""


class Session(Protocol):
    """A loaded model with one image-like input (N, 3, H, W) float32. Not thread-safe; owned by one engine process."""

    @property
    def backend(self) -> str:
        """Name of the library and device that runs it."""

    @property
    def metadata(self) -> Mapping[str, str]:
        """Texts stored in the model file."""

    def run(self, batch: FloatArray) -> FloatArray:
        """Run the network; returns its first output as float32, owned by the caller."""

    def run_argmax(self, batch: FloatArray) -> tuple[IntArray, FloatArray]:
        """Run the network; returns index and value of the largest entry along the last axis of its output."""

    def release_memory(self) -> None:
        """Give scratch memory of the last inferences back."""
