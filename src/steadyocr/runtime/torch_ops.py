"""ONNX operations in torch, as far as text detectors and recognisers use them (operator sets 11 to 17)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from steadyocr.errors import BackendUnavailable

Attributes = Mapping[str, Any]
Operation = Callable[..., Tensor]

# TensorProto.DataType
_TYPES: Final = {1: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool, 10: torch.float16, 11: torch.float64}


def _same_pads(x: Tensor, attributes: Attributes) -> list[int]:
    """Begin and end of each spatial axis, as ``auto_pad = SAME_UPPER`` asks for: the odd pixel goes to the end."""
    kernel, strides = attributes["kernel_shape"], attributes["strides"]
    dilations = attributes.get("dilations", [1] * len(kernel))
    begins, ends = [], []
    for size, width, stride, dilation in zip(x.shape[2:], kernel, strides, dilations, strict=True):
        total = max(0, (math.ceil(size / stride) - 1) * stride + (width - 1) * dilation + 1 - size)
        begins.append(total // 2)
        ends.append(total - total // 2)
    return begins + ends


def _padded(x: Tensor, attributes: Attributes, value: float) -> tuple[Tensor, list[int]]:
    """Return the input, padded by hand where the two ends differ, and the padding that is left to the operation."""
    rank = x.ndim - 2
    automatic = attributes.get("auto_pad", b"NOTSET")
    if automatic == b"SAME_UPPER":
        pads = _same_pads(x, attributes)
    elif automatic in (b"NOTSET", b"VALID"):
        pads = list(attributes.get("pads", [0] * 2 * rank))
    else:
        raise BackendUnavailable(f"auto_pad {automatic!r} is not known to the torch backend; use onnxruntime")
    begins, ends = pads[:rank], pads[rank:]
    if begins == ends:
        return x, begins
    flat = [edge for axis in reversed(range(rank)) for edge in (begins[axis], ends[axis])]
    return functional.pad(x, flat, value=value), [0] * rank


def _conv(attributes: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    x, padding = _padded(x, attributes, 0.0)
    return functional.conv2d(
        x.to(weight.dtype),
        weight,
        None if bias is None else bias.to(weight.dtype),
        stride=attributes.get("strides", [1, 1]),
        padding=padding,
        dilation=attributes.get("dilations", [1, 1]),
        groups=attributes.get("group", 1),
    )


def _conv_transpose(attributes: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if any(attributes.get("pads", ())) or any(attributes.get("output_padding", ())):
        raise BackendUnavailable("a padded ConvTranspose is not known to the torch backend; use onnxruntime")
    return functional.conv_transpose2d(
        x.to(weight.dtype),
        weight,
        None if bias is None else bias.to(weight.dtype),
        stride=attributes.get("strides", [1, 1]),
        groups=attributes.get("group", 1),
    )


def _max_pool(attributes: Attributes, x: Tensor) -> Tensor:
    x, padding = _padded(x, attributes, -math.inf)
    return functional.max_pool2d(
        x,
        attributes["kernel_shape"],
        stride=attributes.get("strides", [1, 1]),
        padding=padding,
        ceil_mode=bool(attributes.get("ceil_mode", 0)),
    )


def _average_pool(attributes: Attributes, x: Tensor) -> Tensor:
    x, padding = _padded(x, attributes, 0.0)
    return functional.avg_pool2d(
        x,
        attributes["kernel_shape"],
        stride=attributes.get("strides", [1, 1]),
        padding=padding,
        ceil_mode=bool(attributes.get("ceil_mode", 0)),
        count_include_pad=bool(attributes.get("count_include_pad", 0)),
    )


def _batch_norm(attributes: Attributes, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    return functional.batch_norm(x.float(), mean, var, weight, bias, eps=attributes.get("epsilon", 1e-5))


def _resize(
    attributes: Attributes,
    x: Tensor,
    roi: Tensor | None = None,
    scales: Tensor | None = None,
    sizes: Tensor | None = None,
) -> Tensor:
    del roi
    wanted = {"mode": b"nearest", "coordinate_transformation_mode": b"asymmetric", "nearest_mode": b"floor"}
    if any(attributes.get(name) != value for name, value in wanted.items()):
        raise BackendUnavailable("only nearest resizing is known to the torch backend; use onnxruntime")
    if sizes is not None and sizes.numel():
        return functional.interpolate(x, size=sizes.tolist()[2:], mode="nearest")
    if scales is None:
        raise BackendUnavailable("a Resize without scales and sizes is not known to the torch backend")
    size = [math.floor(side * scale) for side, scale in zip(x.shape[2:], scales.tolist()[2:], strict=True)]
    return functional.interpolate(x, size=size, mode="nearest")


def _reduce_mean(attributes: Attributes, x: Tensor) -> Tensor:
    return x.mean(dim=attributes["axes"], keepdim=bool(attributes.get("keepdims", 1)))


def _slice(
    attributes: Attributes,
    x: Tensor,
    starts: Tensor,
    ends: Tensor,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    del attributes
    count = starts.numel()
    along = axes.tolist() if axes is not None else list(range(count))
    strides = steps.tolist() if steps is not None else [1] * count
    places = [slice(None)] * x.ndim
    for axis, start, end, stride in zip(along, starts.tolist(), ends.tolist(), strides, strict=True):
        places[axis] = slice(start, end, stride)
    return x[tuple(places)]


def _squeeze(attributes: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    along = attributes.get("axes") or (axes.tolist() if axes is not None else None)
    return x.squeeze() if along is None else x.squeeze(tuple(along))


def _unsqueeze(attributes: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    along = attributes.get("axes") or (axes.tolist() if axes is not None else [])
    rank = x.ndim + len(along)
    for axis in sorted(axis % rank for axis in along):
        x = x.unsqueeze(axis)
    return x


def _reshape(attributes: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    del attributes
    # 0 keeps the input's own size there.
    return x.reshape([x.shape[place] if size == 0 else size for place, size in enumerate(shape.tolist())])


def _shape(attributes: Attributes, x: Tensor) -> Tensor:
    del attributes
    return torch.tensor(x.shape, dtype=torch.int64)


def _mat_mul(attributes: Attributes, a: Tensor, b: Tensor) -> Tensor:
    del attributes
    low = next((dtype for dtype in (a.dtype, b.dtype) if dtype is not torch.float32), torch.float32)
    return torch.matmul(a.to(low), b.to(low))


def _plain(function: Callable[..., Tensor]) -> Operation:
    """An operation without attributes that matter."""
    return lambda _, *inputs: function(*inputs)


def _exact(function: Callable[..., Tensor]) -> Operation:
    """One whose low-precision result would be worth nothing."""
    return lambda _, *inputs: function(*(each.float() for each in inputs))


OPERATIONS: Final[Mapping[str, Operation]] = {
    "Add": _plain(torch.add),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": lambda attributes, x: x.to(_TYPES[attributes["to"]]),
    "Clip": _plain(torch.clamp),
    "Concat": lambda attributes, *inputs: torch.cat(inputs, dim=attributes["axis"]),
    "Constant": lambda attributes: attributes["value"],
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Div": _plain(torch.div),
    "Erf": _plain(torch.erf),
    "Gather": lambda attributes, x, index: x[(slice(None),) * attributes.get("axis", 0) + (index,)],
    "GlobalAveragePool": lambda _, x: x.mean(dim=(2, 3), keepdim=True),
    "HardSigmoid": lambda attributes, x: torch.clamp(
        x * attributes.get("alpha", 0.2) + attributes.get("beta", 0.5), 0.0, 1.0
    ),
    "HardSwish": _plain(functional.hardswish),
    "Identity": lambda _, x: x,
    "MatMul": _mat_mul,
    "MaxPool": _max_pool,
    "Mul": _plain(torch.mul),
    "Pow": _exact(torch.pow),
    "ReduceMean": _reduce_mean,
    "Relu": _plain(torch.relu),
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Sigmoid": _exact(torch.sigmoid),
    "Slice": _slice,
    "Softmax": lambda attributes, x: torch.softmax(x.float(), dim=attributes.get("axis", -1)),
    "Sqrt": _exact(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _plain(torch.sub),
    "Transpose": lambda attributes, x: x.permute(attributes["perm"]),
    "Unsqueeze": _unsqueeze,
}
