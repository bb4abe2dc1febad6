"""Blobs in a folder."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from steadyocr.errors import NotFoundError
from steadyocr.jobs.blobs import KEY, Blob, BlobWriter, age_s, check_key, sweep_folder


class LocalBlobs:
    """Blobs in a folder, ``ab/cd/abcd…``, on a disk of this machine or one that several nodes share.

    Args:
        root: The folder; made when it is not there.
        min_free_bytes: Disk space that must stay free for work under way; what would eat into it is refused.
    """

    def __init__(self, root: Path, *, min_free_bytes: int = 0) -> None:
        self._root = root
        self._min_free_bytes = min_free_bytes
        self._unfinished = root / "unfinished"
        self._unfinished.mkdir(parents=True, exist_ok=True, mode=0o700)

    def _path(self, key: str) -> Path:
        return self._root / check_key(key)[:2] / key[2:4] / key

    def writer(self, max_bytes: int) -> BlobWriter:
        """See :meth:`BlobStore.writer`."""
        return BlobWriter(self._unfinished, self._keep, max_bytes=max_bytes, min_free_bytes=self._min_free_bytes)

    def _keep(self, written: Path, blob: Blob) -> None:
        path = self._path(blob.key)
        with contextlib.suppress(FileNotFoundError):
            os.utime(path)
            return
        missing = [folder for folder in (path.parent.parent, path.parent) if not folder.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        written.rename(path)
        for folder in (path.parent, *(new.parent for new in reversed(missing))):
            _sync_folder(folder)

    def open(self, key: str) -> BinaryIO:
        """See :meth:`BlobStore.open`."""
        try:
            return self._path(key).open("rb")
        except FileNotFoundError as error:
            raise NotFoundError("the blob is not there any more") from error

    def exists(self, key: str) -> bool:
        """See :meth:`BlobStore.exists`."""
        return self._path(key).exists()

    def delete(self, key: str, *, min_age_s: float = 0.0) -> bool:
        """See :meth:`BlobStore.delete`.

        The blob is moved aside and looked at again before it goes: who stored the same content meanwhile has either
        made it young, and it is put back, or has found none and stored it anew.
        """
        path = self._path(key)
        aside = self._unfinished / f"delete-{key}-{os.getpid()}"
        try:
            if age_s(path) < min_age_s:
                return False
            path.rename(aside)
            if age_s(aside) < min_age_s:
                aside.rename(path)
                return False
        except FileNotFoundError:
            return False
        aside.unlink(missing_ok=True)
        return True

    def list_older(self, min_age_s: float) -> Iterator[Blob]:
        """See :meth:`BlobStore.list_older`."""
        for path, info in self._files():
            if time.time() - info.st_mtime >= min_age_s:
                yield Blob(path.name, info.st_size)

    def usage_bytes(self) -> int:
        """See :meth:`BlobStore.usage_bytes`."""
        return sum(info.st_size for _, info in self._files())

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self._root.glob("??/??/*"):
            with contextlib.suppress(FileNotFoundError):
                if KEY.fullmatch(path.name):
                    yield path, path.stat()

    def sweep_unfinished(self, min_age_s: float) -> int:
        """See :meth:`BlobStore.sweep_unfinished`."""
        return sweep_folder(self._unfinished, min_age_s)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
