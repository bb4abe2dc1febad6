"""Torch sessions: the way to NVIDIA's cards, and a second opinion on a CPU."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
import torch
from torch import Tensor

from steadyocr.errors import BackendUnavailable
from steadyocr.runtime.base import FloatArray, IntArray, SessionOptions
from steadyocr.runtime.faults import is_out_of_memory, memory_error
from steadyocr.runtime.torch_graph import TorchGraph

T = TypeVar("T")

# Ampere: the first with units for bf16. Older cards are said to support it too, and emulate it.
_BF16_CAPABILITY: Final = (8, 0)


class TorchSession:
    """A model on torch, on the CPU in float32 or on a CUDA card in the precision it is good at."""

    def __init__(self, path: Path, options: SessionOptions) -> None:
        self._device = _open_device(options)
        self._graph = TorchGraph(path, self._device, _weight_type(self._device, options))

    @property
    def backend(self) -> str:
        """Library and device."""
        return f"torch-{self._device}"

    @property
    def metadata(self) -> Mapping[str, str]:
        """Texts stored in the model file."""
        return self._graph.metadata

    def run(self, batch: FloatArray) -> FloatArray:
        """See :class:`~steadyocr.runtime.base.Session`.

        Raises:
            MemoryError: Memory is not enough; a :class:`~steadyocr.runtime.base.DeviceMemoryError` for the card's.
        """
        output = self._guarded(lambda: self._forward(batch).to("cpu", torch.float32))
        # On a CPU the output may be a view of something the graph keeps.
        return np.array(output.numpy(), np.float32, order="C")

    def run_argmax(self, batch: FloatArray) -> tuple[IntArray, FloatArray]:
        """See :class:`~steadyocr.runtime.base.Session`; the reduction runs on the device.

        Raises:
            MemoryError: Memory is not enough; a :class:`~steadyocr.runtime.base.DeviceMemoryError` for the card's.
        """

        def best() -> tuple[Tensor, Tensor]:
            value, index = self._forward(batch).max(dim=-1)
            return index.cpu(), value.to("cpu", torch.float32)

        index, value = self._guarded(best)
        return index.numpy(), value.numpy()

    def release_memory(self) -> None:
        """Give cached blocks of the card back to the driver."""
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _forward(self, batch: FloatArray) -> Tensor:
        # A copy: the caller's array stays its own, and torch warns of arrays that it may not write to.
        images = torch.from_numpy(np.array(batch, np.float32)).to(self._device)
        return self._graph.run(images.contiguous(memory_format=torch.channels_last)).float()

    def _guarded(self, work: Callable[[], T]) -> T:
        try:
            with torch.inference_mode():
                return work()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error)
            # The traceback holds the frames of the failed attempt, and those all its activations.
            traceback.clear_frames(error.__traceback__)
        # Left behind, the error cannot hold anything any more: only now are the blocks free, and go back to the driver.
        self.release_memory()
        raise memory_error(self._device.type, reason)


def refuse_without_cuda(index: int) -> None:
    """Refuse a build or a machine on which torch does not see this card.

    Raises:
        BackendUnavailable: It is one.
    """
    if not torch.cuda.is_available():
        raise BackendUnavailable(
            "engines.device is cuda, but torch finds no CUDA device; check the driver, or set engines.device = 'cpu'"
        )
    if index >= torch.cuda.device_count():
        raise BackendUnavailable(f"there is no CUDA device {index}; torch sees {torch.cuda.device_count()}")


def _open_device(options: SessionOptions) -> torch.device:
    device = torch.device(options.device)
    if device.type != "cuda":
        torch.set_num_threads(options.threads)
        return device
    refuse_without_cuda(device.index or 0)
    device = torch.device("cuda", device.index or 0)
    # What is asked without naming a card (how much is held, say) is asked of this one.
    torch.cuda.set_device(device)
    torch.cuda.set_per_process_memory_fraction(options.device_memory_share, device)
    # Shapes change with every picture: trying algorithms for each costs more than the best one saves.
    torch.backends.cudnn.benchmark = False
    return device


def _weight_type(device: torch.device, options: SessionOptions) -> torch.dtype:
    if options.precision == "f32" or device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if has_bf16_units(device) else torch.float16


def has_bf16_units(card: torch.device) -> bool:
    """Whether a CUDA card computes in bfloat16 itself and does not emulate it."""
    return torch.cuda.get_device_capability(card) >= _BF16_CAPABILITY
