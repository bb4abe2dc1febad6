"""Keeps what memory measurements have found, so that a service measures a machine once and not at every start."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_log = logging.getLogger("steadyocr.engine")

# What a fit is not one without.
_NEEDED: Final = frozenset({"base", "per_pixel", "per_network_pixel"})
# Bytes. No machine has so much; a figure beyond it is damage, and would refuse every picture.
_MOST: Final = 1e15


class FitStore:
    """One fit in one file.

    Args:
        folder: Where it lies; ``None`` keeps nothing.
        made_of: What it depends on: models, backend, versions, the machine. Another of them, another file.
    """

    def __init__(self, folder: Path | None, made_of: Sequence[str]) -> None:
        key = hashlib.sha256("|".join(made_of).encode()).hexdigest()[:16]
        self._file = folder / f"memory-model-{key}.json" if folder is not None else None

    def load(self) -> dict[str, float] | None:
        """Return the fit that was kept; ``None`` without one, or when the file is damaged in whatever way."""
        if self._file is None:
            return None
        try:
            values = json.loads(self._file.read_bytes())
        except (OSError, ValueError, RecursionError):
            return None
        return values if _is_fit(values) else None

    def save(self, fit: dict[str, float]) -> None:
        """Keep a fit. Where that fails it is measured again at the next start; nothing is lost but the time."""
        if self._file is None:
            return
        temporary = self._file.with_suffix(f".{os.getpid()}.tmp")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("w", encoding="utf-8") as stream:
                json.dump(fit, stream)
                stream.flush()
                # Without it a power cut may leave the new name with nothing in it.
                os.fsync(stream.fileno())
            temporary.replace(self._file)
        except OSError:
            _log.exception("The memory fit cannot be kept")
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def _is_fit(values: object) -> bool:
    """Whether this is a dict of finite numbers, none negative, with all that is needed."""
    return (
        isinstance(values, dict)
        and values.keys() >= _NEEDED
        # Nothing holds for what is no number at all (NaN).
        and all(type(value) in (int, float) and 0 <= value <= _MOST for value in values.values())
    )
