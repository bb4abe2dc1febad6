"""Bringing to the disk what was written, so that a power cut does not take it."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Final

from steadyocr.errors import InsufficientStorage

_DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_SUCH_CALL: Final = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})
# From so many on, one flush of the whole file system costs less, although it takes the neighbours' data along.
_MANY: Final = 8


@contextlib.contextmanager
def disk_errors() -> Iterator[None]:
    """Say with an error of ours that a disk is full.

    Raises:
        InsufficientStorage: It is.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise InsufficientStorage("the disk for pictures is full; free some space", retry_after_s=60.0) from error
        raise


def flush(path: Path | str) -> None:
    """Flush one file or folder. A folder's flush is what makes a rename in it last."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_each(paths: Iterable[Path | str]) -> None:
    """Flush these files or folders, one by one."""
    for path in paths:
        flush(path)


class FileSystem:
    """The file system of a folder, held open from before the first write, so that a flush hears of every failed one."""

    def __init__(self, folder: Path) -> None:
        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)

    def flush_all(self, paths: Collection[Path | str]) -> None:
        """Flush these files or folders, one by one or together with everything beside them."""
        if len(paths) < _MANY or not self._flush_whole():
            flush_each(paths)

    def _flush_whole(self) -> bool:
        call = _syncfs()
        if call is None:
            return False
        if call(self._folder) == 0:
            return True
        number = ctypes.get_errno()
        if number in _NO_SUCH_CALL:
            return False
        raise OSError(number, os.strerror(number))

    def close(self) -> None:
        """Let go of it."""
        os.close(self._folder)


@functools.cache
def _syncfs() -> Callable[[int], int] | None:
    # Linux only; Python has no name for it.
    with contextlib.suppress(AttributeError, OSError):
        call: Callable[[int], int] = ctypes.CDLL(None, use_errno=True).syncfs
        return call
    return None
