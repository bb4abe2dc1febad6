"""Files that a kill or a power cut leaves as they were or as they should be, never in between."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


def replace_whole(path: Path, data: bytes) -> None:
    """Give a file other contents; a link stays one, and rights stay as they are.

    Raises:
        OSError: It cannot be written, and is as it was.
    """
    path = path.resolve()
    with _written(path, data, rights_of=path) as temporary:
        temporary.replace(path)
    _sync_folder(path.parent)


def write_first(path: Path, data: bytes, *, rights_of: Path) -> None:
    """Write a file unless there is one of its name, which is left alone.

    Raises:
        OSError: It cannot be written, and is not there.
    """
    if path.exists():
        return
    with _written(path, data, rights_of=rights_of) as temporary:
        try:
            os.link(temporary, path)  # unlike a renaming, never over another file
        except FileExistsError:
            return
        except OSError:  # a file system without second names
            temporary.replace(path)
    _sync_folder(path.parent)


@contextlib.contextmanager
def _written(path: Path, data: bytes, *, rights_of: Path) -> Iterator[Path]:
    """A file beside ``path`` that is safely on the disk; gone in the end unless it was renamed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            shutil.copymode(rights_of, temporary)
            os.fsync(stream.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
