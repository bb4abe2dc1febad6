"""OpenVINO sessions: the default on x86, where it uses bf16 or int8 units that ONNX Runtime leaves idle."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from steadyocr.runtime.base import FloatArray, IntArray, SessionOptions
from steadyocr.runtime.cpu import bf16_is_slow
from steadyocr.runtime.faults import is_out_of_memory, memory_error

# Each new input shape leaves compiled kernels behind. Unbounded, 120 random shapes took a detector from 0.45 to
# 1.2 GB. Below this cache oneDNN keeps 1024 kernels of its own, which release_memory() does not drop, so a line
# width seen before costs 6 ms instead of 30.
_SHAPE_CACHE_ENTRIES = "16"


@functools.cache
def core() -> ov.Core:
    """The library's one core of this process.

    Each one that comes and goes loads the CPU plugin and lets it go again, and that leaves the thread's stack for
    signals in memory that is free: the next signal that Python handles is then written over something, or kills.
    """
    return ov.Core()


class OpenVINOSession:
    """A model on OpenVINO's CPU device."""

    def __init__(self, path: Path, options: SessionOptions) -> None:
        self._model = core().read_model(path)
        config: dict[str, Any] = {
            "INFERENCE_NUM_THREADS": options.threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # pinned threads of two engines would share the same cores
            "CPU_RUNTIME_CACHE_CAPACITY": _SHAPE_CACHE_ENTRIES,
        }
        # By itself the library takes bf16 wherever there is an instruction for it.
        if options.precision == "f32" or bf16_is_slow():
            config["INFERENCE_PRECISION_HINT"] = "f32"
        self._config = config
        self._plain: _Network | None = None
        self._argmax: _Network | None = None

    @property
    def backend(self) -> str:
        """Library and device."""
        return "openvino-cpu"

    @property
    def metadata(self) -> Mapping[str, str]:
        """Texts stored in the model file."""
        info = self._model.get_rt_info()
        if "framework" not in info:
            return {}
        return {key: str(entry.value) for key, entry in info["framework"].items()}

    def run(self, batch: FloatArray) -> FloatArray:
        """See :class:`~steadyocr.runtime.base.Session`.

        Raises:
            MemoryError: Memory is not enough.
        """
        if self._plain is None:
            self._plain = self._compiled(self._model)
        (result,) = self._infer(self._plain, batch)
        return result

    def run_argmax(self, batch: FloatArray) -> tuple[IntArray, FloatArray]:
        """See :class:`~steadyocr.runtime.base.Session`; the reduction runs inside the graph.

        Raises:
            MemoryError: Memory is not enough.
        """
        if self._argmax is None:
            self._argmax = self._compiled(_with_argmax(self._model))
        values, indices = self._infer(self._argmax, batch)
        return indices[..., 0].astype(np.int64), values[..., 0]

    def release_memory(self) -> None:
        """See :class:`~steadyocr.runtime.base.Session`."""
        for network in (self._plain, self._argmax):
            if network is not None:
                network.release_memory()

    def _compiled(self, model: ov.Model) -> _Network:
        return _Network(core().compile_model(model, "CPU", self._config))

    def _infer(self, network: _Network, batch: FloatArray) -> list[FloatArray]:
        try:
            return network.run(np.ascontiguousarray(batch))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error)
        self.release_memory()
        raise memory_error("cpu", reason)


class _Network:
    """A compiled model with its one request."""

    def __init__(self, compiled: ov.CompiledModel) -> None:
        self._compiled = compiled
        self._request = compiled.create_infer_request()

    def run(self, batch: FloatArray) -> list[FloatArray]:
        """Run it; copies of all outputs.

        Asked to wait for the result in one call (``infer``), a request of one thread says nothing when memory could
        not be had, and its outputs are still those of the run before: another picture's. Started and waited for, it
        raises. The mark in the first output, which is a float's, is there should it ever say nothing again.

        Raises:
            RuntimeError: Whatever the library met with.
        """
        count = len(self._compiled.outputs)
        self._request.get_output_tensor(0).data.fill(np.nan)
        self._request.start_async({0: batch}, share_inputs=True)
        self._request.wait()
        outputs = [np.array(self._request.get_output_tensor(index).data) for index in range(count)]
        if len(outputs[0]) != len(batch) or np.isnan(outputs[0].flat[:1]).any():
            raise RuntimeError("the network has written no result")
        return outputs

    def release_memory(self) -> None:
        """Give scratch memory back."""
        self._compiled.release_memory()


def _with_argmax(model: ov.Model) -> ov.Model:
    """Append a top-1 along the last axis: 18 000 classes a step would otherwise be copied out to find one."""
    output = model.outputs[0].get_node().input_value(0)
    top = ops.topk(output, np.int64(1), axis=-1, mode="max", sort="none", index_element_type="i32")
    return ov.Model([top.output(0), top.output(1)], model.get_parameters(), "argmax")
