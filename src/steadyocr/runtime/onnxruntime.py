"""ONNX Runtime sessions: everywhere, and the fallback where OpenVINO is missing; on CUDA when configured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime as ort

from steadyocr.errors import BackendUnavailable
from steadyocr.runtime import device
from steadyocr.runtime.base import FloatArray, IntArray, SessionOptions
from steadyocr.runtime.faults import is_out_of_memory, memory_error
from steadyocr.runtime.nvml import DeviceMonitor, card_index

_LOG_ERRORS_ONLY = 3
_CUDA = "CUDAExecutionProvider"
_SHRINK = "memory.enable_memory_arena_shrinkage"


class OnnxRuntimeSession:
    """A model on ONNX Runtime's CPU provider, or on its CUDA provider where the installed build has one."""

    def __init__(self, path: Path, options: SessionOptions) -> None:
        config = ort.SessionOptions()
        config.intra_op_num_threads = options.threads
        config.inter_op_num_threads = 1
        # The arena keeps its high-water mark for ever: measured 1.6 GB instead of 0.2 GB after 40 random shapes.
        config.enable_cpu_mem_arena = False
        config.enable_mem_pattern = False
        config.log_severity_level = _LOG_ERRORS_ONLY
        # Spinning workers burn the quota that decode and post-processing need.
        config.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._device = options.device
        self._session = ort.InferenceSession(path, config, providers=_providers(options))
        self._input = self._session.get_inputs()[0].name
        if self._device != "cpu" and _CUDA not in self._session.get_providers():
            # The library falls back to the CPU with no more than a log line; a slow service would be the only sign.
            raise BackendUnavailable(
                "onnxruntime could not open the CUDA device; check the driver and the CUDA libraries"
            )
        # Of the inputs so far: what is run again to shrink the arena.
        self._smallest: tuple[int, ...] | None = None
        if self._device != "cpu":
            device.watch(self._device)

    @property
    def backend(self) -> str:
        """Library and device."""
        return f"onnxruntime-{self._device}"

    @property
    def metadata(self) -> Mapping[str, str]:
        """Texts stored in the model file."""
        texts: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        return texts

    def run(self, batch: FloatArray) -> FloatArray:
        """See :class:`~steadyocr.runtime.base.Session`.

        Raises:
            MemoryError: Memory is not enough; a :class:`~steadyocr.runtime.base.DeviceMemoryError` for the card's.
        """
        try:
            output: FloatArray = self._session.run(None, {self._input: np.ascontiguousarray(batch)})[0]
        except Exception as error:  # the library's own types share no base with Python's
            if not is_out_of_memory(error):
                raise
            reason = str(error)
        else:
            if self._smallest is None or batch.size < math.prod(self._smallest):
                self._smallest = batch.shape
            return output
        self.release_memory()
        raise memory_error(self._device, reason)

    def run_argmax(self, batch: FloatArray) -> tuple[IntArray, FloatArray]:
        """See :class:`~steadyocr.runtime.base.Session`."""
        output = self.run(batch)
        index = output.argmax(axis=-1)
        return index, np.take_along_axis(output, index[..., None], axis=-1)[..., 0]

    def release_memory(self) -> None:
        """Shrink the card's arena; on a CPU there is none, and ONNX Runtime frees after each run.

        The library shrinks at the end of a run and in no other way, so the smallest input so far is run again. To let
        every run do it would cost each of them its allocations anew, and nobody would ever see the peak.
        """
        if self._device == "cpu" or self._smallest is None:
            return
        device.note_peak()
        options = ort.RunOptions()
        options.add_run_config_entry(_SHRINK, f"gpu:{card_index(self._device)}")
        try:
            self._session.run(None, {self._input: np.zeros(self._smallest, np.float32)}, options)
        except Exception as error:
            # Full, the card is so by others' doing, and there is nothing to give back.
            if not is_out_of_memory(error):
                raise


def refuse_without_cuda() -> None:
    """Refuse a build that cannot use a card.

    Raises:
        BackendUnavailable: It is one.
    """
    if _CUDA not in ort.get_available_providers():
        raise BackendUnavailable(
            "engines.device is cuda, but the installed onnxruntime has no CUDA provider; install onnxruntime-gpu in "
            "its place, or set engines.device = 'cpu'"
        )


def _providers(options: SessionOptions) -> list[str | tuple[str, dict[str, object]]]:
    if options.device == "cpu":
        return ["CPUExecutionProvider"]
    refuse_without_cuda()
    choices: dict[str, object] = {
        "device_id": card_index(options.device),
        # As on the CPU: grow by what is needed, and pick algorithms by rule; shapes change with every picture.
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
    }
    card = DeviceMonitor(options.device).read()
    if card is not None:
        # The limit is each session's own, and an engine has two.
        choices["gpu_mem_limit"] = int(card.total * options.device_memory_share / 2)
    return [(_CUDA, choices), "CPUExecutionProvider"]
