"""Writing a detector as a model folder: ``model.onnx``, ``manifest.toml`` and what fine-tuning needs besides."""

from __future__ import annotations

import fcntl
import json
import logging
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import onnx

from steadyocr.errors import ConfigError, ConflictError
from steadyocr.export.graph import build_graph
from steadyocr.runtime.manifest import MANIFEST_NAME, REMAINDER_NAME, Manifest, load_manifest, sha256_of
from steadyocr.training.dialects import DetectorWeights
from steadyocr.training.model import SIDE_MULTIPLE
from steadyocr.training.start import write_remainder

_log = logging.getLogger("steadyocr.export")

MODEL_NAME: Final = "model.onnx"
PARITY_NAME: Final = "parity.json"

_LARGEST_SIDE: Final = 8192
# What exports write, fixed sizes and their reports included.
_MODEL_FILE: Final = re.compile(r"model(_\d+x\d+)?\.onnx|(model_\d+x\d+\.)?parity\.json|manifest\.toml|finetune\.npz")
_SHOWN: Final = 5


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
        ConflictError: The folder is there already, or another process is writing it.
    """
    with fresh_folder(folder, replace=replace) as fresh:
        fill_model_folder(weights, fresh, label, fp16_storage=fp16_storage)
    return load_manifest(folder)


def fill_model_folder(weights: DetectorWeights, folder: Path, label: Label, *, fp16_storage: bool) -> Manifest:
    """Write a model's files into an empty folder; returns the manifest, as read back."""
    model = build_graph(weights.tensors, fp16_storage=fp16_storage, metadata=metadata(weights))
    onnx.save(model, folder / MODEL_NAME)
    values = manifest_values(weights, label, sha256_of(folder / MODEL_NAME))
    if write_remainder(weights, folder):
        values["finetune"] = {"path": REMAINDER_NAME, "sha256": sha256_of(folder / REMAINDER_NAME)}
    write_manifest(folder, values)
    return load_manifest(folder)


@contextmanager
def fresh_folder(folder: Path, *, replace: bool) -> Iterator[Path]:
    """Yield an empty folder that takes the place of ``folder`` once a readable manifest lies in it.

    A kill at any moment leaves the old folder or the new one, whole: under its own name or, between two renames, as
    ``.NAME.old``, which the next call puts back.

    Raises:
        ConflictError: ``folder`` is there already and is not to be replaced, or is no model folder, or another process
            is writing it.
    """
    folder = folder.resolve()  # of a link, what it leads to is replaced
    fresh, old = (folder.with_name(f".{folder.name}.{mark}") for mark in ("new", "old"))
    # Held to the end: what lies beside the folder is taken for what a killed call has left.
    with claimed(folder):
        _settle(folder, old)
        if folder.exists():
            if not replace:
                raise ConflictError(f"{folder}: is there already; choose another name or ask to replace it")
            _refuse_other_than_model(folder)
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        try:
            yield fresh
            load_manifest(fresh)
            if folder.exists():
                folder.rename(old)
            fresh.rename(folder)
        finally:
            _settle(folder, old)
            shutil.rmtree(fresh, ignore_errors=True)


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep every other export out of a folder; the kernel lets go of it however the process ends.

    As with a run folder, where there can be no lock there is none.

    Raises:
        ConflictError: Another export holds it.
    """
    folder = folder.resolve()
    path = folder.with_name(f".{folder.name}.lock")
    with ExitStack() as held:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _lock(path, held)
        except BlockingIOError as error:
            raise ConflictError(f"{folder}: another export or import is writing it; wait for that to end") from error
        except OSError as error:
            _log.warning("%s: nothing keeps a second export out of it: %s", folder, error)
        yield


def _lock(path: Path, held: ExitStack) -> None:
    """Lock a file that is made for it, and goes with it.

    Raises:
        BlockingIOError: It is locked.
        OSError: There can be no lock here.
    """
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        held.callback(os.close, lock)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(lock, path):
            # Deleted while it is locked: who has opened it in the meantime sees that it is not this file any more.
            held.callback(path.unlink, missing_ok=True)
            return


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is still the one of this name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _settle(folder: Path, old: Path) -> None:
    """End a replacement: what was put aside goes, or comes back where nothing took its place."""
    if old.is_dir() and not folder.exists():
        old.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _refuse_other_than_model(folder: Path) -> None:
    """Never delete what was not written here: a run's checkpoints, say, where its folder was named by mistake."""
    if not folder.is_dir():
        raise ConflictError(f"{folder}: is no folder and is not replaced; choose another name")
    names = sorted(path.name for path in folder.iterdir())
    others = [name for name in names if not _MODEL_FILE.fullmatch(name) or (folder / name).is_dir()]
    if others:
        raise ConflictError(f"{folder}: is not replaced, it holds more than a model: {', '.join(others[:_SHOWN])}")
    if names and MANIFEST_NAME not in names:
        raise ConflictError(f"{folder}: is not replaced, it is no model folder: there is no {MANIFEST_NAME}")


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
