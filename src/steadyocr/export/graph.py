"""The detector as an ONNX graph, built from its weights: BatchNorm folded, nothing traced.

Drawing the graph by hand keeps it the same whatever torch version exports, and leaves it to us how weights are
stored and how the neck enlarges its maps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

FloatArray = NDArray[np.float32]

OPSET: Final = 17
INPUT: Final = "images"
OUTPUT: Final = "probability"

_IR_VERSION: Final = 8
_BN_EPS: Final = 1e-5


def build_graph(
    tensors: Mapping[str, Tensor],
    *,
    fp16_storage: bool,
    size: tuple[int, int] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> onnx.ModelProto:
    """Build the inference network.

    Args:
        tensors: The weights under our names.
        fp16_storage: Keep convolution weights as float16, made float32 again when the file is loaded: half the
            bytes, same speed.
        size: A fixed (height, width), or ``None`` for any multiple of 32. The batch stays free either way.
        metadata: Texts to keep in the file.

    Returns:
        A checked model: ``images`` (N, 3, H, W) float32 in, ``probability`` (N, 1, H, W) float32 out.
    """
    draft = _Draft({name: value.detach().cpu().numpy() for name, value in tensors.items()}, fp16_storage)
    output = _head(draft, _neck(draft, _backbone(draft, INPUT)))
    height, width = size if size is not None else ("height", "width")
    graph = helper.make_graph(
        draft.nodes,
        "steadyocr-dbnet-resnet18",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", 3, height, width])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", 1, height, width])],
        draft.initialisers,
    )
    graph.node.append(helper.make_node("Sigmoid", [output], [OUTPUT], name="sigmoid"))
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR_VERSION, producer_name="steadyocr"
    )
    helper.set_model_props(model, dict(metadata or {}))
    onnx.checker.check_model(model, full_check=True)
    return model


class _Draft:
    """Nodes and weights gathered so far; every method adds a node and returns its output's name."""

    def __init__(self, weights: Mapping[str, NDArray[Any]], fp16_storage: bool) -> None:
        self._weights = weights
        self._fp16 = fp16_storage
        self.nodes: list[onnx.NodeProto] = []
        self.initialisers: list[TensorProto] = []

    def node(self, kind: str, inputs: Sequence[str], name: str, **attributes: str | int | list[int]) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [f"{name}_out"], name=name, **cast("Any", attributes)))
        return f"{name}_out"

    def relu(self, x: str, name: str) -> str:
        return self.node("Relu", [x], f"{name}.relu")

    def conv(self, x: str, name: str, *, stride: int = 1, norm: str | None = None) -> str:
        """A convolution, with the BatchNorm ``norm`` folded in."""
        weight = self._weights[f"{name}.weight"].astype(np.float64)
        inputs = [x]
        if norm is not None:
            scale, shift = self._affine(norm)
            inputs += self._store(name, weight * scale[:, None, None, None], shift)
        else:
            inputs += self._store(name, weight, None)
        kernel = weight.shape[2]
        return self.node("Conv", inputs, name, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[kernel // 2] * 4)

    def deconv(self, x: str, name: str, *, norm: str | None = None) -> str:
        """A transposed 2x2 convolution of stride 2; its weights are (in, out, 2, 2)."""
        weight = self._weights[f"{name}.weight"].astype(np.float64)
        bias = self._weights[f"{name}.bias"].astype(np.float64)
        if norm is not None:
            scale, shift = self._affine(norm)
            weight, bias = weight * scale[None, :, None, None], bias * scale + shift
        inputs = [x, *self._store(name, weight, bias)]
        return self.node("ConvTranspose", inputs, name, kernel_shape=[2, 2], strides=[2, 2])

    def enlarge(self, x: str, factor: int, name: str) -> str:
        """Repeat every pixel ``factor`` times along both sides."""
        scales = f"scale_{factor}"
        if all(known.name != scales for known in self.initialisers):
            self._keep(scales, np.array([1, 1, factor, factor], np.float32))
        return self.node(
            "Resize",
            [x, "", scales],
            name,
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )

    def has(self, name: str) -> bool:
        return f"{name}.weight" in self._weights

    def _affine(self, norm: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """BatchNorm at inference is ``scale * x + shift``."""
        weight, bias, mean, variance = (
            self._weights[f"{norm}.{part}"].astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = weight / np.sqrt(variance + _BN_EPS)
        return scale, bias - mean * scale

    def _store(self, name: str, weight: NDArray[np.float64], bias: NDArray[np.float64] | None) -> list[str]:
        names = [self._store_weight(name, weight)]
        if bias is not None:
            self._keep(f"{name}.bias", bias.astype(np.float32))
            names.append(f"{name}.bias")
        return names

    def _store_weight(self, name: str, weight: NDArray[np.float64]) -> str:
        if not self._fp16:
            self._keep(f"{name}.weight", weight.astype(np.float32))
            return f"{name}.weight"
        self._keep(f"{name}.weight_fp16", weight.astype(np.float16))
        return self.node("Cast", [f"{name}.weight_fp16"], f"{name}.weight", to=TensorProto.FLOAT)

    def _keep(self, name: str, values: NDArray[Any]) -> None:
        self.initialisers.append(numpy_helper.from_array(values, name))


def _backbone(draft: _Draft, x: str) -> list[str]:
    """ResNet-18; returns the features at 1/4, 1/8, 1/16 and 1/32."""
    x = draft.relu(draft.conv(x, "backbone.conv1", stride=2, norm="backbone.bn1"), "backbone.conv1")
    x = draft.node("MaxPool", [x], "backbone.maxpool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    features = []
    for stage in range(1, 5):
        for block in range(2):
            stride = 2 if stage > 1 and block == 0 else 1
            x = _block(draft, x, f"backbone.layer{stage}.{block}", stride)
        features.append(x)
    return features


def _block(draft: _Draft, x: str, name: str, stride: int) -> str:
    shortcut = x
    if draft.has(f"{name}.downsample.0"):
        shortcut = draft.conv(x, f"{name}.downsample.0", stride=stride, norm=f"{name}.downsample.1")
    inner = draft.relu(draft.conv(x, f"{name}.conv1", stride=stride, norm=f"{name}.bn1"), f"{name}.conv1")
    inner = draft.conv(inner, f"{name}.conv2", norm=f"{name}.bn2")
    return draft.relu(draft.node("Add", [inner, shortcut], f"{name}.add"), f"{name}.add")


def _neck(draft: _Draft, features: Sequence[str]) -> str:
    """Feature pyramid: from the deepest map up, then all four side by side at 1/4."""
    merged = draft.conv(features[3], "decoder.in5")
    sides = [draft.enlarge(draft.conv(merged, "decoder.out5.0"), 8, "decoder.out5.1")]
    for level, factor in ((4, 4), (3, 2), (2, 1)):
        above = draft.enlarge(merged, 2, f"decoder.up{level}")
        merged = draft.node(
            "Add", [draft.conv(features[level - 2], f"decoder.in{level}"), above], f"decoder.sum{level}"
        )
        if factor > 1:
            side = draft.enlarge(draft.conv(merged, f"decoder.out{level}.0"), factor, f"decoder.out{level}.1")
        else:
            side = draft.conv(merged, f"decoder.out{level}")
        sides.append(side)
    return draft.node("Concat", sides, "decoder.concat", axis=1)


def _head(draft: _Draft, x: str) -> str:
    """The probability head, short of its sigmoid."""
    x = draft.relu(draft.conv(x, "decoder.binarize.0", norm="decoder.binarize.1"), "decoder.binarize.0")
    x = draft.relu(draft.deconv(x, "decoder.binarize.3", norm="decoder.binarize.4"), "decoder.binarize.3")
    return draft.deconv(x, "decoder.binarize.6")
