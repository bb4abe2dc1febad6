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
        precision: ``auto`` lets the library use bf16 where the CPU has it; ``f32`` forbids it.
    """

    threads: int
    precision: Precision = "auto"


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
