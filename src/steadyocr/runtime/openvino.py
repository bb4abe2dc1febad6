"""OpenVINO sessions: the default on x86, where it uses bf16 or int8 units that ONNX Runtime leaves idle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops

from steadyocr.runtime.base import FloatArray, IntArray, SessionOptions
from steadyocr.runtime.cpu import bf16_is_slow

# Each new input shape leaves compiled kernels behind. Unbounded, 120 random shapes took a detector from 0.45 to
# 1.2 GB. Below this cache oneDNN keeps 1024 kernels of its own, which release_memory() does not drop, so a line
# width seen before costs 6 ms instead of 30.
_SHAPE_CACHE_ENTRIES = "16"


class OpenVINOSession:
    """A model on OpenVINO's CPU device."""

    def __init__(self, path: Path, options: SessionOptions) -> None:
        core = ov.Core()
        self._model = core.read_model(path)
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
        self._core, self._config = core, config
        self._plain: ov.CompiledModel | None = None
        self._argmax: ov.CompiledModel | None = None

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
        """See :class:`~steadyocr.runtime.base.Session`."""
        if self._plain is None:
            self._plain = self._core.compile_model(self._model, "CPU", self._config)
        result: FloatArray = self._plain(np.ascontiguousarray(batch), share_inputs=True)[0]
        return result

    def run_argmax(self, batch: FloatArray) -> tuple[IntArray, FloatArray]:
        """See :class:`~steadyocr.runtime.base.Session`; the reduction runs inside the graph."""
        if self._argmax is None:
            self._argmax = self._core.compile_model(_with_argmax(self._model), "CPU", self._config)
        result = self._argmax(np.ascontiguousarray(batch), share_inputs=True)
        return result[1][..., 0].astype(np.int64), result[0][..., 0]

    def release_memory(self) -> None:
        """See :class:`~steadyocr.runtime.base.Session`."""
        for compiled in (self._plain, self._argmax):
            if compiled is not None:
                compiled.release_memory()


def _with_argmax(model: ov.Model) -> ov.Model:
    """Append a top-1 along the last axis: 18 000 classes a step would otherwise be copied out to find one."""
    output = model.outputs[0].get_node().input_value(0)
    top = ops.topk(output, np.int64(1), axis=-1, mode="max", sort="none", index_element_type="i32")
    return ov.Model([top.output(0), top.output(1)], model.get_parameters(), "argmax")
