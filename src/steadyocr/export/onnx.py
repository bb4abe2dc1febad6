"""Writing a detector as a model folder: ``model.onnx``, ``manifest.toml`` and what fine-tuning needs besides."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import onnx

from steadyocr.errors import ConfigError, ConflictError
from steadyocr.export.graph import build_graph
from steadyocr.runtime.manifest import MANIFEST_NAME, Manifest, load_manifest, sha256_of
from steadyocr.training.dialects import DetectorWeights
from steadyocr.training.model import SIDE_MULTIPLE
from steadyocr.training.start import write_remainder

MODEL_NAME: Final = "model.onnx"
PARITY_NAME: Final = "parity.json"

_LARGEST_SIDE: Final = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What a manifest says about weights apart from numbers."""

    name: str
    licence: str = "unstated"
    source: str = "unstated"


@dataclass(frozen=True, slots=True)
class FixedSize:
    """A fixed input size in pixels, and a sentence on why it is not the one that was asked for (or empty)."""

    height: int
    width: int
    explanation: str


def snap_size(height: int, width: int) -> FixedSize:
    """Round a wanted input size up to what the network can take.

    Raises:
        ConfigError: A side is below 1 or out of all reason.
    """
    if not (1 <= height <= _LARGEST_SIDE and 1 <= width <= _LARGEST_SIDE):
        raise ConfigError(f"height and width must be from 1 to {_LARGEST_SIDE} pixels")
    snapped = (_round_up(height), _round_up(width))
    why = ""
    if snapped != (height, width):
        why = (
            f"{height} x {width} became {snapped[0]} x {snapped[1]}: the network halves its input five times, so both "
            f"sides must be multiples of {SIDE_MULTIPLE}; pad pictures at the right and bottom rather than stretch them"
        )
    return FixedSize(*snapped, why)


def _round_up(side: int) -> int:
    return math.ceil(side / SIDE_MULTIPLE) * SIDE_MULTIPLE


def write_model_folder(
    weights: DetectorWeights,
    folder: Path,
    label: Label,
    *,
    fp16_storage: bool = True,
    replace: bool = False,
) -> Manifest:
    """Write a model folder that the service can use.

    Args:
        weights: What to export.
        folder: To be created.
        label: Name, licence and source for the manifest.
        fp16_storage: Half the bytes; see :func:`~steadyocr.export.graph.build_graph`.
        replace: Put it in the place of an older one.

    Returns:
        The manifest, as read back.

    Raises:
        ConflictError: The folder is there already.
    """
    with fresh_folder(folder, replace=replace) as fresh:
        model = build_graph(weights.tensors, fp16_storage=fp16_storage, metadata=metadata(weights))
        onnx.save(model, fresh / MODEL_NAME)
        write_manifest(fresh, manifest_values(weights, label, sha256_of(fresh / MODEL_NAME)))
        write_remainder(weights, fresh)
    return load_manifest(folder)


@contextmanager
def fresh_folder(folder: Path, *, replace: bool) -> Iterator[Path]:
    """Yield an empty folder that takes the place of ``folder`` once a readable manifest lies in it.

    Raises:
        ConflictError: ``folder`` is there already and is not to be replaced.
    """
    if folder.exists() and not replace:
        raise ConflictError(f"{folder}: is there already; choose another name or ask to replace it")
    fresh = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        yield fresh
        load_manifest(fresh)
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def write_fixed(weights: DetectorWeights, folder: Path, size: FixedSize, *, fp16_storage: bool = True) -> Path:
    """Write ``model_<h>x<w>.onnx``, for runtimes that need one size; the service itself does not use such files."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"model_{size.height}x{size.width}.onnx"
    model = build_graph(
        weights.tensors, fp16_storage=fp16_storage, size=(size.height, size.width), metadata=metadata(weights)
    )
    onnx.save(model, path)
    return path


def metadata(weights: DetectorWeights) -> dict[str, str]:
    """Return what a stranger to the manifest needs to run the file, as texts."""
    entry = weights.preprocessing
    return {
        "channel_order": entry.channel_order,
        "mean": json.dumps(entry.mean),
        "std": json.dumps(entry.std),
        "stride": str(SIDE_MULTIPLE),
        "bin_threshold": str(weights.bin_threshold),
        "box_threshold": str(weights.box_threshold),
        "unclip_ratio": str(weights.unclip_ratio),
    }


def manifest_values(weights: DetectorWeights, label: Label, sha256: str, file: str = MODEL_NAME) -> dict[str, Any]:
    """Return a manifest as plain values, in the order they are written."""
    entry = weights.preprocessing
    return {
        "name": label.name,
        "task": "detection",
        "licence": label.licence,
        "source": label.source,
        "file": {"path": file, "sha256": sha256},
        "input": {
            "channel_order": entry.channel_order,
            "mean": list(entry.mean),
            "std": list(entry.std),
            "stride": SIDE_MULTIPLE,
        },
        "defaults": {
            "bin_threshold": weights.bin_threshold,
            "box_threshold": weights.box_threshold,
            "unclip_ratio": weights.unclip_ratio,
            "max_side": weights.max_side,
        },
    }


def write_manifest(folder: Path, values: Mapping[str, Any]) -> None:
    """Write ``manifest.toml``; plain values first, then one table for each mapping."""
    rows = [f"{key} = {_toml(value)}" for key, value in values.items() if not isinstance(value, Mapping)]
    for title, table in values.items():
        if isinstance(table, Mapping):
            rows += ["", f"[{title}]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
    (folder / MANIFEST_NAME).write_text("\n".join(rows) + "\n", encoding="utf-8")


def _toml(value: object) -> str:
    # JSON's texts, numbers and lists are TOML's as well.
    return json.dumps(value, ensure_ascii=False)
