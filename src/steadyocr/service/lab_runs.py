"""Fine-tuning runs: asked for, started, watched, stopped, resumed. One at a time."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from steadyocr.errors import ConflictError, InvalidOption
from steadyocr.runtime.manifest import REMAINDER_NAME, list_models
from steadyocr.service.lab_child import Ending, read_tail
from steadyocr.service.lab_gate import PICTURE_CACHE_MB
from steadyocr.service.lab_records import LOG_NAME, WORK_NAME, Record, State

CHECKPOINT_NAME: Final = "last.pt"
BEST_NAME: Final = "best.pt"
_CURVE_NAME: Final = "curve.jsonl"
# `steadyocr train` ends so when it was stopped with a checkpoint written.
_INTERRUPTED: Final = 130
_MAX_CURVE_BYTES: Final = 4 << 20
_MAX_POINTS: Final = 500
_LOG_TAIL_BYTES: Final = 8 << 10
_LOG_TAIL_LINES: Final = 60
NOT_WRITTEN: Final = "it was stopped because the disk does not take its record"


@dataclass(frozen=True, slots=True)
class Range:
    """A number's default and range; the first three are those of the original system."""

    default: float
    minimum: float
    maximum: float
    whole: bool = True
    step: int = 1


RANGES: Final[Mapping[str, Range]] = {
    "batch_size": Range(8, 1, 32),
    "epochs": Range(5, 1, 100),
    "lr": Range(0.007, 0.0001, 0.1, whole=False),
    "crop_size": Range(640, 128, 1024, step=32),
    "crops_per_picture": Range(4, 1, 64),
}


def base_models(user_models: Path) -> dict[str, Path]:
    """Return the models that fine-tuning can start from, by name."""
    found = list_models(user_models)
    return {name: folder for name, folder in sorted(found.items()) if (folder / REMAINDER_NAME).is_file()}


def parse_run(values: Mapping[str, Any], models: Mapping[str, Path], default_model: str) -> dict[str, Any]:
    """Check what a run was asked to be; fills defaults in.

    Raises:
        InvalidOption: A field is unknown, of the wrong type or out of range.
    """
    known = {"dataset", "base_model", *RANGES}
    for name in values:
        if name not in known:
            raise InvalidOption(f"unknown field {name[:40]!r}; known: {', '.join(sorted(known))}", option=name[:40])
    params: dict[str, Any] = {name: _number(name, values.get(name, rule.default)) for name, rule in RANGES.items()}
    asked = values.get("base_model")
    base = default_model if asked in (None, "") else asked
    if not isinstance(base, str) or base not in models:
        raise InvalidOption(
            f"base_model must be one that can be trained on: {', '.join(models) or 'there is none'}",
            option="base_model",
        )
    dataset = values.get("dataset")
    if not isinstance(dataset, str) or not dataset:
        raise InvalidOption("name a data set, see /v1/lab/datasets", option="dataset")
    return {"dataset": dataset, "base_model": base, **params}


def _number(name: str, value: object) -> float:
    rule = RANGES[name]
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    # Compared as it came: JSON has whole numbers that no float holds.
    if not known or not rule.minimum <= value <= rule.maximum:  # type: ignore[operator]
        raise InvalidOption(f"{name} must be a number from {rule.minimum:g} to {rule.maximum:g}", option=name)
    number = float(value)  # type: ignore[arg-type]
    if rule.whole and (number != int(number) or int(number) % rule.step):
        kind = "whole" if rule.step == 1 else f"multiple of {rule.step}, a whole"
        raise InvalidOption(f"{name} must be a {kind} number", option=name)
    return int(number) if rule.whole else number


def train_command(dataset: Path, base: Path, work: Path, params: Mapping[str, Any], threads: int) -> list[str]:
    """Return the command of a new run."""
    options = {
        "--out": work,
        "--init": base,
        "--batch-size": params["batch_size"],
        "--epochs": params["epochs"],
        "--lr": params["lr"],
        "--crop-size": params["crop_size"],
        "--crops-per-picture": params["crops_per_picture"],
        "--threads": threads,
        # Crops are made in the process itself: one process, one memory limit.
        "--workers": 0,
        "--cache-mb": PICTURE_CACHE_MB,
    }
    return [
        *(sys.executable, "-m", "steadyocr", "train", str(dataset)),
        *(str(word) for option in options.items() for word in option),
    ]


def resume_command(work: Path) -> list[str]:
    """Return the command that goes on with a run."""
    return [sys.executable, "-m", "steadyocr", "train", "--out", str(work), "--resume"]


def can_resume(record: Record, folder: Path) -> bool:
    """Whether a run has ended before its time, with something to go on from."""
    unfinished = record.state in (State.CANCELLED, State.INTERRUPTED, State.FAILED)
    return unfinished and (folder / WORK_NAME / CHECKPOINT_NAME).is_file()


def refuse_resume(record: Record, folder: Path) -> None:
    """Refuse to go on with what cannot be gone on with.

    Raises:
        ConflictError: It runs, has finished, or has left no checkpoint.
    """
    if not can_resume(record, folder):
        raise ConflictError(
            "only a run that was stopped, has failed or was interrupted after its first checkpoint resumes"
        )


def end_run(record: Record, ending: Ending, folder: Path) -> None:
    """Write down how a run ended."""
    if ending.reason == "asked":
        record.end(State.CANCELLED, "its last checkpoint is kept" if _has_checkpoint(folder) else "")
    elif ending.reason == "memory":
        record.end(State.FAILED, "it was stopped because it held more memory than lab.max_memory_bytes allows")
    elif ending.reason == "time":
        record.end(State.FAILED, "it was stopped after lab.max_hours; it can be resumed")
    elif ending.reason == "disk":
        record.end(State.FAILED, NOT_WRITTEN)
    elif ending.code == 0:
        record.end(State.FINISHED)
    elif ending.code == _INTERRUPTED:
        record.end(State.INTERRUPTED, "it was told to stop from outside; it can be resumed")
    else:
        record.end(State.FAILED, last_words(folder) or f"the process ended with status {ending.code}")


def _has_checkpoint(folder: Path) -> bool:
    return (folder / WORK_NAME / CHECKPOINT_NAME).is_file()


def last_words(folder: Path) -> str:
    """The last line of a log that says something; paths of this machine are cut down to names."""
    lines = [line.strip() for line in tail_of_log(folder) if line.strip()]
    return (
        " ".join(Path(word).name if word.startswith("/") else word for word in lines[-1].split())[:400] if lines else ""
    )


def tail_of_log(folder: Path) -> list[str]:
    """Return the last lines of a log."""
    text = read_tail(folder / LOG_NAME, _LOG_TAIL_BYTES).decode("utf-8", "replace")
    return text.splitlines()[-_LOG_TAIL_LINES:]


def progress_of(record: Record, folder: Path) -> dict[str, Any]:
    """Return how far a run is: progress 0 to 1, seconds to go, the curve, the best H-mean."""
    rows = list(_rows(folder / WORK_NAME / _CURVE_NAME))
    last = rows[-1] if rows else {}
    hmeans = [row["hmean"] for row in rows if "hmean" in row]
    done = 1.0 if record.state is State.FINISHED else float(last.get("done", 0.0))
    return {
        "progress": done,
        "step": int(last.get("step", 0)),
        "eta_s": last.get("eta_s") if record.state is State.RUNNING else None,
        "best_hmean": max(hmeans, default=None),
        "curve": _thinned([_point(row) for row in rows]),
    }


def _rows(path: Path) -> list[dict[str, Any]]:
    rows = []
    for line in read_tail(path, _MAX_CURVE_BYTES).splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue  # cut off at either end
        if isinstance(row, dict) and "step" in row:
            rows.append(row)
    return rows


def _point(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"step": row["step"], "loss": row.get("total"), "hmean": row.get("hmean")}


def _thinned(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most so many points; those with an H-mean are rare and stay."""
    every = -(-len(points) // _MAX_POINTS) or 1
    kept = [point for index, point in enumerate(points) if index % every == 0 or point["hmean"] is not None]
    return kept[-2 * _MAX_POINTS :]
