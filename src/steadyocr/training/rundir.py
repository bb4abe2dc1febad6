"""The run folder: its files, who may write into it, and the curve."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from steadyocr.errors import ConfigError, ConflictError, SteadyOCRError
from steadyocr.training import checkpoint
from steadyocr.training.checkpoint import BEST_NAME, LAST_NAME

CURVE_NAME: Final = "curve.jsonl"
CONFIG_NAME: Final = "config.json"
_LOCK_NAME: Final = ".lock"

_log = logging.getLogger("steadyocr.training")


@contextlib.contextmanager
def open_run_folder(folder: Path, *, resume: bool) -> Iterator[None]:
    """Create a run folder, or make sure that there is one to go on with, and keep every other run out of it.

    A run that was killed before its first checkpoint has left nothing that could be lost, so its folder counts as
    empty. Older versions left a ``best.pt`` there, the judged start; it may go, trained weights may not.

    Raises:
        ConfigError: The folder holds something and ``resume`` was not asked for, or holds no checkpoint and it was.
        ConflictError: Another process trains in it.
    """
    _check(folder, resume)
    folder.mkdir(parents=True, exist_ok=True)
    with _claimed(folder):
        _check(folder, resume)  # again: another run may have come and gone in between
        for path in folder.iterdir():
            if path.name != _LOCK_NAME and (not resume or _is_temporary(path)):
                path.unlink()
        yield


def _check(folder: Path, resume: bool) -> None:
    if resume:
        require_checkpoint(folder)
    elif folder.exists() and not (folder.is_dir() and _counts_as_empty(folder)):
        if _has_best_alone(folder):
            raise ConfigError(f"{folder}: is not empty and is never overwritten. {_only_best(folder)}")
        raise ConfigError(f"{folder}: is not empty and is never overwritten; resume it or name another folder")


def _counts_as_empty(folder: Path) -> bool:
    rest = [path for path in folder.iterdir() if not _is_leftover(path)]
    return not rest or (rest == [folder / BEST_NAME] and _is_untrained(folder))


def _has_best_alone(folder: Path) -> bool:
    return (folder / BEST_NAME).is_file() and not (folder / LAST_NAME).is_file()


def _is_untrained(folder: Path) -> bool:
    """Whether ``best.pt`` is the start that a run has judged first, and there has been no step after it."""
    curve = folder / CURVE_NAME
    try:
        at_start = checkpoint.load(folder / BEST_NAME).get("step") == 0
        rows = curve.read_text(encoding="utf-8").splitlines() if curve.is_file() else []
    except (SteadyOCRError, OSError, ValueError):
        return False
    return at_start and all(_step(row) == 0 for row in rows)


def _only_best(folder: Path) -> str:
    return (
        f"Its run cannot be resumed, there is no {LAST_NAME}; go on from its best weights in a new run, with "
        f"--init {folder / BEST_NAME} and another folder for --out, or delete it"
    )


@contextlib.contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """Hold a run folder for this process; the kernel lets go of it however the process ends.

    As with the service's data folder, where there can be no lock there is none.
    """
    with contextlib.ExitStack() as held:
        try:
            # Not inherited: a crop-making process that outlives us keeps nobody out.
            lock = os.open(folder / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            held.callback(os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConflictError(
                f"{folder}: another process trains in it; stop it first or name another folder"
            ) from error
        except OSError:
            _log.warning("Nothing keeps a second run out of the run folder", exc_info=True)
        yield


def require_checkpoint(folder: Path) -> None:
    """Make sure that there is something to go on with.

    Raises:
        ConfigError: There is no checkpoint.
    """
    if (folder / LAST_NAME).is_file():
        return
    if _has_best_alone(folder) and not _is_untrained(folder):
        raise ConfigError(f"{folder}: nothing to resume. {_only_best(folder)}")
    raise ConfigError(f"{folder}: nothing to resume, there is no {LAST_NAME}; start without resume")


def _is_leftover(path: Path) -> bool:
    return path.is_file() and (path.name in (CONFIG_NAME, CURVE_NAME, _LOCK_NAME) or _is_temporary(path))


def _is_temporary(path: Path) -> bool:
    """A half-written file of ours that a kill has left."""
    return path.is_file() and path.name.startswith(".") and path.name.endswith(".tmp")


def write_config(folder: Path, values: Mapping[str, Any]) -> None:
    """Keep the configuration beside what it made."""
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    _replace(folder / CONFIG_NAME, text)


class Curve:
    """Rows of JSON, one a line, appended as the run goes.

    Args:
        folder: The run folder.
        first_step: Rows of later steps are dropped: a killed run had written them after its last checkpoint.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        self._path = folder / CURVE_NAME
        if self._path.is_file():
            kept = [line for line in self._path.read_text(encoding="utf-8").splitlines() if _step(line) <= first_step]
            _replace(self._path, "".join(f"{line}\n" for line in kept))

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one row.

        Raises:
            InsufficientStorage: The disk is full.
        """
        with checkpoint.writing(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        # The last line of a killed run may be cut off.
        return float("inf")


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with checkpoint.writing(path):
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
