"""Static INT8 quantisation: ranges are measured on pictures, weights get one scale for each output channel.

The result is an ONNX file with QuantizeLinear / DequantizeLinear pairs, which ONNX Runtime and OpenVINO both turn
into int8 kernels. The first convolution (raw pixels) and the last layers (they draw the map that thresholds cut)
stay in float: they cost little and lose most.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from steadyocr.errors import DatasetError
from steadyocr.export.graph import INPUT, build_graph
from steadyocr.export.onnx import metadata
from steadyocr.imaging.resize import apply, plan_resize
from steadyocr.runtime.base import FloatArray
from steadyocr.runtime.manifest import InputEntry
from steadyocr.runtime.tensor import fill_tensor
from steadyocr.training.dialects import DetectorWeights
from steadyocr.training.model import SIDE_MULTIPLE
from steadyocr.training.pictures import read_image
from steadyocr.training.regions import LabelledImage

KEPT_IN_FLOAT: Final = ("backbone.conv1", "decoder.binarize.3", "decoder.binarize.6", "sigmoid")


class PictureReader(CalibrationDataReader):  # type: ignore[misc]
    """Hands pictures to the calibration, prepared as for detection.

    Args:
        images: Pictures; their labels are not used.
        entry: How a picture becomes input.
        max_side: Longer side shown, in pixels.
    """

    def __init__(self, images: Sequence[LabelledImage], entry: InputEntry, max_side: int) -> None:
        self._batches = (_tensor(image, entry, max_side) for image in images)

    def get_next(self) -> dict[str, FloatArray] | None:
        """Return the next input, or ``None`` after the last."""
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}


def _tensor(labelled: LabelledImage, entry: InputEntry, max_side: int) -> FloatArray:
    image = read_image(labelled.path)
    resized = apply(image, plan_resize(image.shape[1], image.shape[0], max_side, stride=SIDE_MULTIPLE))
    batch = np.empty((1, 3, *resized.shape[:2]), np.float32)
    fill_tensor(batch[0], resized, entry)
    return batch


def spread(images: Sequence[LabelledImage], count: int) -> list[LabelledImage]:
    """Choose pictures for calibration: the data sets in turn, so that none rules the ranges."""
    by_set: dict[str, list[LabelledImage]] = {}
    for image in images:
        by_set.setdefault(image.dataset, []).append(image)
    return [image for _, image in zip(range(count), _in_turn(list(by_set.values())), strict=False)]


def _in_turn(rows: Sequence[Sequence[LabelledImage]]) -> Iterator[LabelledImage]:
    for place in range(max(map(len, rows), default=0)):
        yield from (row[place] for row in rows if place < len(row))


def write_int8(
    weights: DetectorWeights,
    path: Path,
    images: Sequence[LabelledImage],
    *,
    max_side: int = 640,
    kept_in_float: Sequence[str] = KEPT_IN_FLOAT,
) -> None:
    """Quantise a detector.

    Args:
        weights: What to export.
        path: The ONNX file to write.
        images: Pictures to measure ranges on; a few dozen of the kinds that will come.
        max_side: Longer side at which they are measured, in pixels.
        kept_in_float: Names of the graph's nodes that are not quantised.

    Raises:
        DatasetError: There is no picture.
    """
    if not images:
        raise DatasetError("int8 needs pictures to measure value ranges on; name a folder of them")
    entry = InputEntry(
        channel_order=weights.preprocessing.channel_order,
        mean=weights.preprocessing.mean,
        std=weights.preprocessing.std,
    )
    with tempfile.TemporaryDirectory(prefix="steadyocr-int8-") as scratch, _quiet_root_logger():
        plain, prepared = Path(scratch) / "plain.onnx", Path(scratch) / "prepared.onnx"
        onnx.save(build_graph(weights.tensors, fp16_storage=False, metadata=metadata(weights)), plain)
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            path,
            PictureReader(images, entry, max_side),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_exclude=_present(prepared, kept_in_float),
            extra_options=_OPTIONS,
        )


# A moving average over pictures instead of the outermost values: one odd picture does not coarsen all the others.
_OPTIONS: Final[dict[str, Any]] = {"CalibMovingAverage": True, "CalibMovingAverageConstant": 0.1}


@contextmanager
def _quiet_root_logger() -> Iterator[None]:
    """The quantiser gives advice through the root logger."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


def _present(path: Path, names: Sequence[str]) -> list[str]:
    """Node names to leave out; the preparation may have fused a Relu into the node before it."""
    return [node.name for node in onnx.load(path).graph.node if node.name in names]
