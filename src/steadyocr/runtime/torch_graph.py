"""An ONNX graph run by torch, operation by operation: any model folder serves on torch, whatever its architecture.

Only what exported detectors and recognisers are made of is known; a model with anything else is refused by name when
it is loaded, not at the first picture. Intermediate results are dropped as soon as nobody needs them any more, so the
peak is that of the network, not of all its layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from steadyocr.errors import BackendUnavailable, ModelCorrupt
from steadyocr.runtime.torch_ops import OPERATIONS, Attributes

# Their weights decide speed and memory, so these alone are stored in the low precision.
_HEAVY = frozenset({"Conv", "ConvTranspose", "MatMul"})


@dataclass(frozen=True, slots=True)
class _Step:
    """One operation: its name, where it reads, where it writes, and what may be forgotten afterwards."""

    operation: str
    attributes: Attributes
    inputs: tuple[str, ...]
    output: str
    drop: tuple[str, ...] = ()


class TorchGraph:
    """A network with one input and one output.

    Args:
        path: The ONNX file.
        device: Where it runs.
        weights: Type of the weights of convolutions and matrix products.

    Raises:
        ModelCorrupt: The file cannot be read.
        BackendUnavailable: The network has an operation that is not known here.
    """

    def __init__(self, path: Path, device: torch.device, weights: torch.dtype) -> None:
        try:
            model = onnx.load(path)
        except Exception as error:  # protobuf raises types of its own
            raise ModelCorrupt(f"{path.name} is no readable ONNX file: {error}") from error
        self.metadata: Mapping[str, str] = {entry.key: entry.value for entry in model.metadata_props}
        unknown = sorted({node.op_type for node in model.graph.node} - OPERATIONS.keys())
        if unknown:
            raise BackendUnavailable(
                f"{path.name} uses {', '.join(unknown)}, which the torch backend does not know; use onnxruntime"
            )
        constants = {entry.name: _tensor(entry) for entry in model.graph.initializer}
        steps = _fold([_step(node) for node in model.graph.node], constants)
        self._input = next(entry.name for entry in model.graph.input if entry.name not in constants)
        self._output = model.graph.output[0].name
        self._steps = _with_drops(steps, self._output)
        self._constants = _placed(steps, constants, device, weights)

    def run(self, batch: Tensor) -> Tensor:
        """Run the network.

        Args:
            batch: (N, 3, H, W) on the graph's device.

        Returns:
            Its first output, on that device.
        """
        values: dict[str, Tensor] = {self._input: batch}
        for step in self._steps:
            inputs = [self._constants.get(name, values.get(name)) if name else None for name in step.inputs]
            values[step.output] = OPERATIONS[step.operation](step.attributes, *inputs)
            for name in step.drop:
                values.pop(name, None)
        return values[self._output]


def _tensor(entry: onnx.TensorProto) -> Tensor:
    # A copy: what numpy is given here lies in the file's buffer and is not writable.
    return torch.from_numpy(numpy_helper.to_array(entry).copy())


def _step(node: onnx.NodeProto) -> _Step:
    attributes: dict[str, Any] = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
    values = {
        name: _tensor(value) if isinstance(value, onnx.TensorProto) else value for name, value in attributes.items()
    }
    return _Step(node.op_type, values, tuple(node.input), node.output[0])


def _fold(steps: Sequence[_Step], constants: dict[str, Tensor]) -> list[_Step]:
    """Do once what depends on constants only (unpacking of fp16 weights, renaming); returns what is left to do."""
    left = []
    for step in steps:
        if all(name in constants for name in step.inputs if name):
            inputs = [constants[name] if name else None for name in step.inputs]
            constants[step.output] = OPERATIONS[step.operation](step.attributes, *inputs)
        else:
            left.append(step)
    return left


def _with_drops(steps: Sequence[_Step], output: str) -> list[_Step]:
    needed, reversed_steps = {output}, []
    for step in reversed(steps):
        drop = tuple(dict.fromkeys(name for name in step.inputs if name and name not in needed))
        needed.update(step.inputs)
        reversed_steps.append(_Step(step.operation, step.attributes, step.inputs, step.output, drop))
    return reversed_steps[::-1]


def _placed(
    steps: Sequence[_Step], constants: Mapping[str, Tensor], device: torch.device, weights: torch.dtype
) -> dict[str, Tensor]:
    """Move what is still needed to the device; whole numbers (shapes, axes) stay with the program that reads them."""
    heavy = {name for step in steps if step.operation in _HEAVY for name in step.inputs[1:2]}
    used = {name for step in steps for name in step.inputs}
    placed = {}
    for name in sorted(used & constants.keys()):
        value = constants[name]
        if value.is_floating_point():
            value = value.to(device, weights if name in heavy else torch.float32)
        # The layout that tensor cores and oneDNN work in: without it each convolution converts there and back.
        placed[name] = value.contiguous(memory_format=torch.channels_last) if _is_filter(value) else value
    return placed


def _is_filter(value: Tensor) -> bool:
    return value.is_floating_point() and value.ndim == 4
