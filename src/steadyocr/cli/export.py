"""``steadyocr export``: a checkpoint as a file for a runtime, with its parity report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steadyocr.cli.models import refuse_name
from steadyocr.errors import InvalidOption
from steadyocr.export.deliver import Delivery, Proof, deliver_fixed, deliver_int8, deliver_onnx, deliver_openvino
from steadyocr.export.int8 import spread
from steadyocr.export.onnx import Label, snap_size
from steadyocr.runtime.cpu import available_threads
from steadyocr.training.dialects import DetectorWeights, read_weights
from steadyocr.training.labels import read_folder
from steadyocr.training.start import starting_weights

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRun:
    """What was asked on the command line; ``None`` means what the checkpoint says."""

    checkpoint: Path
    folder: Path
    kind: str
    label: Label
    height: int | None
    width: int | None
    fp16_storage: bool
    data: Path | None
    split: str
    pictures: int
    calibration: Path | None
    calibration_pictures: int
    defaults: Mapping[str, float | int | None]
    threads: int
    replace: bool


def run_export(run: ExportRun, say: Say) -> None:
    """Export and say what came out."""
    read = starting_weights if run.checkpoint.is_dir() else read_weights
    weights = with_defaults(read(run.checkpoint), run.defaults)
    images = read_folder(run.data, run.split) if run.data else []
    proof = Proof(
        images=spread(images, run.pictures) if run.pictures else images, threads=run.threads or available_threads()
    )
    delivery = _deliver(run, weights, proof)
    say(f"{delivery.path}: {delivery.report['bytes'] / 1e6:.1f} MB")
    describe(delivery, say)


def _deliver(run: ExportRun, weights: DetectorWeights, proof: Proof) -> Delivery:
    if run.kind != "onnx" and (run.height is not None or run.width is not None):
        raise InvalidOption("a fixed size is for --format onnx; the others take all sizes")
    if run.kind == "int8" or (run.kind == "onnx" and run.height is None and run.width is None):
        refuse_name(run.label.name, "; add --name")
    if run.kind == "openvino":
        return deliver_openvino(weights, run.folder, proof, fp16_storage=run.fp16_storage)
    if run.kind == "int8":
        if run.calibration is None:
            raise InvalidOption("int8 measures value ranges on pictures: add --calibration FOLDER")
        pictures = spread(read_folder(run.calibration), run.calibration_pictures)
        return deliver_int8(weights, run.folder, run.label, proof, pictures, replace=run.replace)
    if run.kind != "onnx":
        raise InvalidOption("--format is onnx, openvino or int8")
    if run.height is not None or run.width is not None:
        if run.height is None or run.width is None:
            raise InvalidOption("a fixed size needs both --height and --width")
        size = snap_size(run.height, run.width)
        return deliver_fixed(weights, run.folder, size, proof, fp16_storage=run.fp16_storage)
    return deliver_onnx(weights, run.folder, run.label, proof, fp16_storage=run.fp16_storage, replace=run.replace)


def with_defaults(weights: DetectorWeights, values: Mapping[str, Any]) -> DetectorWeights:
    """Put thresholds given on the command line in the place of the checkpoint's."""
    from dataclasses import replace

    return replace(weights, **{name: value for name, value in values.items() if value is not None})


def describe(delivery: Delivery, say: Say) -> None:
    """Say the parity report in a few lines."""
    report = delivery.report
    if "size" in report:
        say(report["size"])
    for name, entries in report["outputs"].items():
        say(f"{name}: largest difference to torch {max(entry['max_abs_difference'] for entry in entries):.2e}")
    for name, entry in report.get("hmean", {}).items():
        say(f"{name}: H-mean {entry['hmean']:.4f} ({entry['hmean_difference']:+.4f})")
    for name, entry in report.get("speed_f32_hint", {}).items():
        say(f"{name}: {entry['median_ms']:.1f} ms at 640 x 640, float32 hint")
