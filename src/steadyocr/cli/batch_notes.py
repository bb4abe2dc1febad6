"""Which job a batch became, so that the same command finds it again instead of sending everything once more.

A lost note costs only that sending: the job is found by its idempotency key all the same.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Final

_KEEP_S: Final = 30 * 86_400.0


class Notes:
    """Small files in a folder, one for each batch, for as long as jobs may live."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _path(self, key: str, to: str) -> Path:
        return self._folder / hashlib.sha256(f"{to}\n{key}".encode()).hexdigest()[:32]

    def job_of(self, key: str, to: str) -> str | None:
        """Return the job that a batch became at a server (empty: here), if that is known."""
        try:
            return self._path(key, to).read_text(encoding="ascii").strip() or None
        except (OSError, UnicodeDecodeError):
            return None

    def remember(self, key: str, to: str, job_id: str) -> None:
        """Note a batch's job, and forget what is old."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for path in self._folder.iterdir():
            if path.stat().st_mtime < time.time() - _KEEP_S:
                path.unlink(missing_ok=True)
        self._path(key, to).write_text(f"{job_id}\n", encoding="ascii")
