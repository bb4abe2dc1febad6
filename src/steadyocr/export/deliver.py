"""Exports as a user asks for them: the file, what goes with it, and the proof that it is the same network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from steadyocr.export.onnx import (
    MODEL_NAME,
    PARITY_NAME,
    FixedSize,
    Label,
    claimed,
    fill_model_folder,
    fresh_folder,
    manifest_values,
    write_fixed,
    write_manifest,
    write_model_folder,
)
from steadyocr.export.parity import SHAPES, TorchSession, compare_hmean, compare_outputs, compare_speed, write_report
from steadyocr.runtime.base import Session, SessionOptions
from steadyocr.runtime.loader import Backend, open_session
from steadyocr.runtime.manifest import Manifest, load_manifest, sha256_of
from steadyocr.training.dialects import DetectorWeights
from steadyocr.training.regions import LabelledImage

_BACKENDS: Final[tuple[Backend, ...]] = ("onnxruntime", "openvino")
_SPEED_SIDE: Final = 640


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """How thoroughly an export is checked.

    Attributes:
        images: Labelled pictures for the H-mean comparison; none leaves it out.
        max_side: Longer side for it; ``None`` takes the manifest's.
        threads: Of one inference.
    """

    images: Sequence[LabelledImage] = ()
    max_side: int | None = None
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Delivery:
    """What was written: the main file and the contents of the report beside it."""

    path: Path
    report: Mapping[str, Any] = field(default_factory=dict)


def deliver_onnx(
    weights: DetectorWeights, folder: Path, label: Label, proof: Proof, *, fp16_storage: bool, replace: bool
) -> Delivery:
    """Write a model folder with one dynamic ONNX file; the service can use it."""
    with fresh_folder(folder, replace=replace) as fresh:
        manifest = fill_model_folder(weights, fresh, label, fp16_storage=fp16_storage)
        sessions = _sessions(weights, manifest, proof.threads)
        # Before an older model makes way: the proof may fail.
        report = _proven(fresh / MODEL_NAME, sessions, manifest, proof, SHAPES).report
    return Delivery(folder / MODEL_NAME, report)


def deliver_fixed(
    weights: DetectorWeights, folder: Path, size: FixedSize, proof: Proof, *, fp16_storage: bool
) -> Delivery:
    """Write an ONNX file of one input size.

    Raises:
        ConflictError: Another process is writing into the folder.
    """
    with claimed(folder):
        path = write_fixed(weights, folder, size, fp16_storage=fp16_storage)
        sessions = _sessions(weights, _scratch_manifest(weights, path), proof.threads)
        # Pictures come in all sizes, so no H-mean: the numbers of the dynamic file hold, the weights are the same.
        report: dict[str, Any] = {"outputs": _outputs(sessions, [(1, size.height, size.width)])}
        if size.explanation:
            report["size"] = size.explanation
        return _written(path, path.with_suffix(f".{PARITY_NAME}"), report)


def deliver_openvino(weights: DetectorWeights, folder: Path, proof: Proof, *, fp16_storage: bool) -> Delivery:
    """Write OpenVINO IR.

    Raises:
        ConflictError: Another process is writing into the folder.
    """
    from steadyocr.export.openvino_ir import write_ir
    from steadyocr.runtime.openvino import OpenVINOSession

    with claimed(folder):
        with _float_model(weights, folder / ".scratch") as plain:
            path = write_ir(plain.folder / MODEL_NAME, folder, fp16_storage=fp16_storage)
        options = SessionOptions(threads=proof.threads, precision="f32")
        sessions: dict[str, Session] = {
            "torch": TorchSession(weights.network()),
            "openvino": OpenVINOSession(path, options),
        }
        return _proven(path, sessions, plain, proof, SHAPES)


@contextmanager
def _float_model(weights: DetectorWeights, scratch: Path) -> Iterator[Manifest]:
    """Yield a plain model in a folder of its own, which goes afterwards; the caller keeps others out of it."""
    shutil.rmtree(scratch, ignore_errors=True)  # half of one, say, that a kill has left
    try:
        yield write_model_folder(weights, scratch, Label(name="float32"), fp16_storage=False)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def deliver_int8(
    weights: DetectorWeights,
    folder: Path,
    label: Label,
    proof: Proof,
    calibration: Sequence[LabelledImage],
    *,
    replace: bool,
) -> Delivery:
    """Write a model folder with a quantised ONNX file; the report also compares speed with float32."""
    from steadyocr.export.int8 import write_int8

    at = folder.resolve()  # "." has no name
    scratch = at.with_name(f".{at.name}.float")
    with fresh_folder(folder, replace=replace) as fresh, _float_model(weights, scratch) as plain:
        write_int8(weights, fresh / MODEL_NAME, calibration)
        write_manifest(fresh, manifest_values(weights, label, sha256_of(fresh / MODEL_NAME)))
        manifest = load_manifest(fresh)
        sessions = _sessions(weights, plain, proof.threads)
        sessions |= {f"{name} int8": each for name, each in _opened(manifest, proof.threads).items()}
        speed = compare_speed(
            {name: each for name, each in sessions.items() if name != "torch"}, _SPEED_SIDE, _SPEED_SIDE
        )
        more = {"speed_f32_hint": speed}
        report = _proven(fresh / MODEL_NAME, sessions, manifest, proof, SHAPES, more).report
    return Delivery(folder / MODEL_NAME, report)


def _sessions(weights: DetectorWeights, manifest: Manifest, threads: int) -> dict[str, Session]:
    return {"torch": TorchSession(weights.network()), **_opened(manifest, threads)}


def _opened(manifest: Manifest, threads: int) -> dict[str, Session]:
    # Full precision: what is judged is the file, not a CPU's bf16.
    options = SessionOptions(threads=threads, precision="f32")
    return {backend: open_session(manifest, backend, options) for backend in _BACKENDS if _installed(backend)}


def _installed(backend: Backend) -> bool:
    import importlib.util

    return importlib.util.find_spec(backend) is not None


def _outputs(
    sessions: Mapping[str, Session], shapes: Sequence[tuple[int, int, int]]
) -> dict[str, list[dict[str, Any]]]:
    reference = sessions["torch"]
    others = {name: each for name, each in sessions.items() if each is not reference}
    return compare_outputs(reference, others, shapes)


def _proven(
    path: Path,
    sessions: Mapping[str, Session],
    manifest: Manifest,
    proof: Proof,
    shapes: Sequence[tuple[int, int, int]],
    more: Mapping[str, Any] | None = None,
) -> Delivery:
    report: dict[str, Any] = {"outputs": _outputs(sessions, shapes), **(more or {})}
    if proof.images:
        report["pictures"] = len(proof.images)
        report["max_side"] = proof.max_side or manifest.defaults.max_side
        report["hmean"] = compare_hmean(manifest, sessions, proof.images, proof.max_side)
    return _written(path, path.parent / PARITY_NAME, report)


def _written(path: Path, report_path: Path, report: Mapping[str, Any]) -> Delivery:
    binary = path.with_suffix(".bin")
    size = path.stat().st_size + (binary.stat().st_size if binary.is_file() else 0)
    values = {"file": path.name, "bytes": size, "sha256": sha256_of(path), "reference": "torch float32", **report}
    write_report(values, report_path)
    return Delivery(path, values)


def _scratch_manifest(weights: DetectorWeights, path: Path) -> Manifest:
    values = manifest_values(weights, Label(name="fixed"), sha256_of(path), path.name)
    return Manifest.model_validate({**values, "folder": path.parent})
