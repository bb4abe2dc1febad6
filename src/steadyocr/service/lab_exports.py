"""Exports: what may be asked for, the commands that make it, and what came out."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from steadyocr.errors import InvalidOption, NotFoundError
from steadyocr.imaging.plan import round_up
from steadyocr.options import parse_boolean
from steadyocr.runtime.manifest import sha256_of
from steadyocr.service.lab_child import Ending
from steadyocr.service.lab_records import WORK_NAME, Record, State
from steadyocr.service.lab_runs import NOT_WRITTEN, last_words

MIN_SIDE: Final = 320
MAX_SIDE: Final = 1536
STRIDE: Final = 32
FORMATS: Final = ("onnx", "openvino")
_FIELDS: Final = frozenset({"model", "format", "height", "width", "int8", "dataset"})
# Largest difference of a probability that is still rounding. The lowest threshold in use is 0.02.
ALLOWED_DIFFERENCE: Final = 1e-3
# Rendered for int8 when no data set is named; value ranges settle with few pictures.
_CALIBRATION_PICTURES: Final = 24


def parse_export(values: Mapping[str, Any]) -> dict[str, Any]:
    """Check what an export was asked to be; fills defaults in.

    Raises:
        InvalidOption: A field is unknown or out of range, or fields do not go together.
    """
    for name in values:
        if name not in _FIELDS:
            raise InvalidOption(f"unknown field {name[:40]!r}; known: {', '.join(sorted(_FIELDS))}", option=name[:40])
    model, kind, dataset = values.get("model"), values.get("format", "onnx"), values.get("dataset") or ""
    if not isinstance(model, str) or not model:
        raise InvalidOption("name the model, or the id of a run", option="model")
    if kind not in FORMATS:
        raise InvalidOption(f"format must be one of {', '.join(FORMATS)}", option="format")
    if not isinstance(dataset, str):
        raise InvalidOption("dataset must be a name, see /v1/lab/datasets", option="dataset")
    int8 = parse_boolean(values.get("int8", False), "int8")
    height, width = _side("height", values.get("height")), _side("width", values.get("width"))
    if (height is None) != (width is None):
        raise InvalidOption("a fixed size needs both height and width", option="height" if height is None else "width")
    if height is not None and kind != "onnx":
        raise InvalidOption("a fixed size is for format=onnx; OpenVINO reshapes a file itself", option="height")
    if int8 and (kind != "onnx" or height is not None):
        raise InvalidOption(
            "an int8 file is ONNX and takes all sizes; leave format, height and width out", option="int8"
        )
    return {"model": model, "format": kind, "height": height, "width": width, "int8": int8, "dataset": dataset}


def _side(name: str, value: object) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not MIN_SIDE <= value <= MAX_SIDE:
        raise InvalidOption(f"{name} must be a whole number from {MIN_SIDE} to {MAX_SIDE}", option=name)
    return value


def snapped(params: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the size that a file will have, and why it is not the one asked for; ``None`` for all sizes."""
    height, width = params["height"], params["width"]
    if height is None:
        return None
    size = (round_up(height, STRIDE), round_up(width, STRIDE))
    why = ""
    if size != (height, width):
        why = (
            f"{height} x {width} became {size[0]} x {size[1]}: the network halves its input five times, so both sides "
            f"must be multiples of {STRIDE}"
        )
    return {"height": size[0], "width": size[1], "explanation": why}


def commands(
    source: Path, folder: Path, params: Mapping[str, Any], calibration: Path | None, threads: int
) -> list[list[str]]:
    """Return the commands of an export, in order.

    Args:
        source: Folder of a model, or a checkpoint.
        folder: Of the export.
        params: From :func:`parse_export`.
        calibration: A data set for int8; without one, pictures are rendered.
        threads: Of each inference.
    """
    program = [sys.executable, "-m", "steadyocr"]
    out = folder / WORK_NAME
    export = [*program, "export", str(source), "--out", str(out), "--name", "exported", "--threads", str(threads)]
    if params["int8"]:
        pictures = calibration or folder / "calibration"
        export += ["--format", "int8", "--calibration", str(pictures)]
        if calibration is None:
            return [[*program, "synth", "--out", str(pictures), "--count", str(_CALIBRATION_PICTURES)], export]
        return [export]
    export += ["--format", params["format"]]
    if params["height"] is not None:
        export += ["--height", str(params["height"]), "--width", str(params["width"])]
    return [export]


def end_export(record: Record, ending: Ending, folder: Path) -> None:
    """Write down how an export ended and what came out."""
    _remove_scratch(folder)
    if ending.reason == "asked":
        record.end(State.CANCELLED)
    elif ending.reason == "disk":
        record.end(State.FAILED, NOT_WRITTEN)
    elif ending.reason:
        record.end(State.FAILED, f"it was stopped: it took more {ending.reason} than lab allows")
    elif ending.code:
        record.end(State.FAILED, last_words(folder) or f"the process ended with status {ending.code}")
    else:
        record.facts |= _result(folder, record.params)
        record.end(State.FINISHED)


def _remove_scratch(folder: Path) -> None:
    shutil.rmtree(folder / "calibration", ignore_errors=True)


def _result(folder: Path, params: Mapping[str, Any]) -> dict[str, Any]:
    """Put the file to download in place; returns its name, size, checksum and parity."""
    work = folder / WORK_NAME
    report = json.loads(next(work.glob("*parity.json")).read_text(encoding="utf-8"))
    file = folder / _file_name(params)
    if params["format"] == "openvino":
        # Two files belong together; weights do not compress.
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for path in sorted(work.iterdir()):
                archive.write(path, path.name)
    else:
        (work / report["file"]).replace(file)
    parity = {
        name: max(entry["max_abs_difference"] for entry in entries) for name, entries in report["outputs"].items()
    }
    return {
        "file": file.name,
        "bytes": file.stat().st_size,
        # Of what is handed out; the report's is that of one file in the archive.
        "sha256": sha256_of(file),
        "parity": {
            "reference": report["reference"],
            "max_abs_difference": parity,
            # Eight bits differ on purpose; there is nothing to allow or forbid.
            **({} if params["int8"] else _verdict(parity)),
        },
        "speed": report.get("speed_f32_hint"),
    }


def _verdict(differences: Mapping[str, float]) -> dict[str, Any]:
    return {"allowed": ALLOWED_DIFFERENCE, "same": max(differences.values()) <= ALLOWED_DIFFERENCE}


def _file_name(params: Mapping[str, Any]) -> str:
    if params["format"] == "openvino":
        return "model_openvino.zip"
    if params["int8"]:
        return "model_int8.onnx"
    size = snapped(params)
    return f"model_{size['height']}x{size['width']}.onnx" if size else "model_dynamic.onnx"


def file_of(record: Record, folder: Path) -> Path:
    """Return the file to download.

    Raises:
        NotFoundError: The export has not made one.
    """
    path = folder / str(record.facts.get("file", ""))
    if record.state is not State.FINISHED or not path.is_file():
        raise NotFoundError("this export has no file (yet)")
    return path
