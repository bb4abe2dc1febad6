"""Small files that are whole or not there, readable by their owner only."""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path
from typing import Final

_UNFINISHED: Final = re.compile(r"\..+\.\d+\.tmp")
# No write takes so long; and the process that a number names may be another one by now.
_GIVEN_UP_S: Final = 600.0


def write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader, or a start after a power cut, sees the old one or the new one.

    Raises:
        OSError: It cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def forget_unfinished(folder: Path) -> None:
    """Delete what writers of :func:`write_whole` left when they were killed; with each kill it would become more."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            # A clock that was set back makes it no younger.
            if _UNFINISHED.fullmatch(path.name) and abs(time.time() - path.lstat().st_mtime) >= _GIVEN_UP_S:
                path.unlink(missing_ok=True)
