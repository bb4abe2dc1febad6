"""Blobs in a folder."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from steadyocr.errors import NotFoundError, Unavailable
from steadyocr.jobs.blobs import KEY, UPLOAD, Blob, BlobWriter, age_s, check_key, none_cleaned_away, sweep_folder
from steadyocr.jobs.disk import refuse_low_disk
from steadyocr.jobs.durability import FileSystem, disk_errors, flush, flush_each
from steadyocr.jobs.stopping import KeepOn, always, while_wanted

_FOLDER_AWAY_S: Final = 5.0


class LocalBlobs:
    """Blobs in a folder, ``ab/abcd…``, on a disk of this machine or one that several nodes share.

    Args:
        root: The folder; made when it is not there.
        min_free_bytes: Disk space that must stay free for work under way; what would eat into it is refused.
    """

    def __init__(self, root: Path, *, min_free_bytes: int = 0) -> None:
        self._root = root
        self._min_free_bytes = min_free_bytes
        self._unfinished = root / "unfinished"
        missing = [folder for folder in (root, *root.parents) if not folder.exists()]
        self._unfinished.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in missing:
            flush(folder.parent)
        # Folders that are known to outlast a power cut.
        self._lasting: set[Path] = set()

    def _path(self, key: str) -> Path:
        return Path(self._place(check_key(key)))

    def _place(self, key: str) -> str:
        # As text: for ten thousand small files, making paths would take as long as writing them.
        return f"{self._root}/{key[:2]}/{key}"

    def _folders(self, blobs: Iterable[Blob]) -> set[Path]:
        return {self._root / name for name in {blob.key[:2] for blob in blobs}}

    def writer(self, max_bytes: int, *, reserve: bool = False) -> BlobWriter:
        """See :meth:`BlobStore.writer`."""
        floor = 0 if reserve else self._min_free_bytes
        return BlobWriter(self._unfinished, self._keep, max_bytes=max_bytes, min_free_bytes=floor)

    def _keep(self, written: Path, blob: Blob) -> None:
        if not self._make_young(blob.key):
            self._move_in(str(written), blob.key)
        self._make_last(self._folders([blob]), flush_each)

    def _make_last(self, folders: set[Path], flush_all: Callable[[Collection[Path]], object]) -> None:
        """Flush the folders of blobs, and theirs where that may be missing.

        Those of blobs that were there already as well: who put them there may not have come to it yet.
        """
        flush_all(folders if folders <= self._lasting else {*folders, self._root})
        self._lasting |= folders

    def _make_young(self, key: str) -> bool:
        """Keep a blob from the sweep; returns whether it is there."""
        try:
            os.utime(self._place(key))
        except FileNotFoundError:
            return False
        return True

    def _move_in(self, written: str, key: str) -> None:
        place = self._place(key)
        try:
            os.rename(written, place)  # noqa: PTH104
        except FileNotFoundError:
            Path(place).parent.mkdir(exist_ok=True)
            os.rename(written, place)  # noqa: PTH104

    def put_many(self, contents: Sequence[bytes | bytearray]) -> list[Blob]:
        """See :meth:`BlobStore.put_many`.

        All are written, flushed together, moved to their places, and their folders flushed together: at no moment
        does a name stand for content that a power cut could take, and when this returns, neither can be lost.
        What is there already takes no room, so a low disk is no reason to refuse it.
        """
        blobs = [Blob.of(content) for content in contents]
        new = {
            blob.key: content for blob, content in zip(blobs, contents, strict=True) if not self._make_young(blob.key)
        }
        if new:
            refuse_low_disk(self._unfinished, self._min_free_bytes, sum(map(len, new.values())))
        mark = secrets.token_hex(8)
        places = {f"{self._unfinished}/{UPLOAD}{mark}-{number}": key for number, key in enumerate(new)}
        file_system = FileSystem(self._root)
        try:
            with disk_errors(), none_cleaned_away():
                for place, key in places.items():
                    _write(place, new[key])
                file_system.flush_all(places)
                for place, key in places.items():
                    self._move_in(place, key)
                self._make_last(self._folders(blobs), file_system.flush_all)
        except BaseException:
            for place in places:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(place)  # noqa: PTH108
            raise
        finally:
            file_system.close()
        return blobs

    def open(self, key: str) -> BinaryIO:
        """See :meth:`BlobStore.open`."""
        try:
            return self._path(key).open("rb")
        except FileNotFoundError as error:
            if not self._unfinished.is_dir():
                raise Unavailable("the folder of pictures is not there", retry_after_s=_FOLDER_AWAY_S) from error
            raise NotFoundError("the blob is not there any more") from error

    def exists(self, key: str) -> bool:
        """See :meth:`BlobStore.exists`."""
        return self._path(key).exists()

    def lost(self, keys: Iterable[str]) -> bool:
        """See :meth:`BlobStore.lost`."""
        return not all(os.path.exists(self._place(key)) for key in keys)  # noqa: PTH110

    def renew(self, key: str) -> bool:
        """See :meth:`BlobStore.renew`."""
        try:
            os.utime(self._path(key))
        except FileNotFoundError:
            return False
        return True

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

    def list_older(self, min_age_s: float, keep_on: KeepOn = always) -> Iterator[Blob]:
        """See :meth:`BlobStore.list_older`."""
        for path, info in while_wanted(self._files(), keep_on):
            if time.time() - info.st_mtime >= min_age_s:
                yield Blob(path.name, info.st_size)

    def usage_bytes(self) -> int:
        """See :meth:`BlobStore.usage_bytes`."""
        return sum(info.st_size for _, info in self._files())

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self._root.glob("??/*"):
            with contextlib.suppress(FileNotFoundError):
                if KEY.fullmatch(path.name):
                    yield path, path.stat()

    def sweep_unfinished(self, min_age_s: float, keep_on: KeepOn = always) -> int:
        """See :meth:`BlobStore.sweep_unfinished`."""
        return sweep_folder(self._unfinished, min_age_s, keep_on)


def _write(place: str, content: bytes | bytearray) -> None:
    descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    finally:
        os.close(descriptor)
