"""What a run leaves on disk: a kill at any moment leaves the old file or the new one, whole."""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import random
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from steadyocr.errors import CheckpointMismatch, InsufficientStorage, ModelCorrupt, ModelMissing

LAST_NAME: Final = "last.pt"
BEST_NAME: Final = "best.pt"
FORMAT: Final = "steadyocr-train-1"

# A quota and a limit on the size of files count as a full disk.
_DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# What torch.load raises on files that are damaged or no checkpoints at all.
_UNREADABLE: Final = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    struct.error,
    OSError,
    zipfile.BadZipFile,
    zlib.error,
)


def save_atomically(values: Mapping[str, Any], path: Path) -> None:
    """Write ``values`` so that ``path`` is never half a file, even over a power cut.

    Raises:
        InsufficientStorage: The disk is full; what was there before still is.
        OSError: It cannot be written for another reason; likewise.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        try:
            with temporary.open("wb") as file:
                torch.save(dict(values), file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name the file in the error of a failed write.

    Raises:
        InsufficientStorage: The disk is full.
        OSError: It cannot be written for another reason.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        reason = _behind(error)
        if reason is None:
            raise
        if reason.errno in _DISK_FULL:
            raise InsufficientStorage(
                f"{path}: cannot be written, the disk is full; free some space and resume the run"
            ) from error
        raise OSError(reason.errno, reason.strerror, str(path)) from error


def _behind(error: BaseException | None) -> OSError | None:
    """The system's own error, which torch puts its RuntimeError in the place of."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint; only plain values and tensors are accepted, never code."""
    if not path.is_file():
        raise ModelMissing(f"{path}: no such checkpoint")
    try:
        _refuse_damaged(path)
        values = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise ModelCorrupt(
            f"{path}: not a readable checkpoint of plain tensors (damaged, another format, or holding objects whose "
            "code would have to be run)"
        ) from error
    if not isinstance(values, dict):
        raise CheckpointMismatch(f"{path}: holds a {type(values).__name__}, not named tensors")
    return values


def _refuse_damaged(path: Path) -> None:
    """Compare an archive's parts with their checksums, which torch does not."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        if (damaged := archive.testzip()) is not None:
            raise zipfile.BadZipFile(damaged)


def weights_of(values: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """Return the weights to use from one of our checkpoints (the average) or from a flat dictionary."""
    for key in ("ema", "state_dict"):
        if isinstance(values.get(key), Mapping):
            found: Mapping[str, Tensor] = values[key]
            return found
    return values


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Load strictly: every tensor must be there, in the right shape, and none besides."""
    try:
        model.load_state_dict(dict(weights), strict=True)
    except RuntimeError as error:
        raise CheckpointMismatch(f"{where}: does not fit the network: {error}") from error


def rng_states() -> dict[str, Any]:
    """Return the state of every global generator as plain values and tensors."""
    version, words, gauss = random.getstate()
    state = np.random.get_state(legacy=False)
    keys = state["state"]["key"]
    return {
        "python": [version, list(words), gauss],
        "numpy": [
            torch.from_numpy(keys.astype(np.int64)),
            int(state["state"]["pos"]),
            int(state["has_gauss"]),
            float(state["gauss"]),
        ],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_rng(states: Mapping[str, Any]) -> None:
    """Undo :func:`rng_states`."""
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words), gauss))
    keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])
