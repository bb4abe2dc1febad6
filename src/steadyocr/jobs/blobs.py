"""Where pictures, archives and large results lie: by the sha256 of their content, each content once.

A blob is stored before the row that refers to it, so a crash leaves at most a blob that nobody refers to, which
:mod:`steadyocr.jobs.sweep` deletes when it is old. Storing what is there already makes it young again; that is what
keeps the sweep from taking a blob that is just about to be referred to.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import secrets
import stat
import tempfile
import time
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Protocol, Self

from steadyocr.errors import NotFoundError, PayloadTooLarge, SteadyOCRError, Unavailable
from steadyocr.jobs.disk import refuse_low_disk
from steadyocr.jobs.durability import disk_errors
from steadyocr.jobs.stopping import KeepOn, always, while_wanted

# What the names of files begin with that are being written.
UPLOAD: Final = "upload-"
KEY: Final = re.compile(r"[0-9a-f]{64}")
_CHECK_DISK_EVERY_BYTES: Final = 16 << 20
_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Blob:
    """A stored blob: the sha256 of its content in hexadecimal digits, and its size."""

    key: str
    size_bytes: int

    @classmethod
    def of(cls, content: bytes | bytearray) -> Self:
        """Return what this content is as a blob."""
        return cls(hashlib.sha256(content).hexdigest(), len(content))


class BlobStore(Protocol):
    """Content by its hash. Blocking; :func:`put_stream` is for event loops."""

    def writer(self, max_bytes: int, *, reserve: bool = False) -> BlobWriter:
        """Return a writer for a blob of at most this size.

        Args:
            max_bytes: The size.
            reserve: It ends work under way, and may take the disk space that is kept free for that.

        Raises:
            InsufficientStorage: The disk is too full to begin.
        """

    def put_many(self, contents: Sequence[bytes | bytearray]) -> list[Blob]:
        """Store many small contents together, for far less than one by one; returns their blobs in the same order.

        Raises:
            InsufficientStorage: They do not fit on the disk. None of them counts as stored.
        """

    def open(self, key: str) -> BinaryIO:
        """Open a blob for reading, at any place.

        Raises:
            NotFoundError: There is none.
        """

    def exists(self, key: str) -> bool:
        """Return whether there is such a blob."""

    def lost(self, keys: Iterable[str]) -> bool:
        """Return whether any of these blobs, stored a while ago and referred to by nobody yet, was swept away.

        That takes a clock that was set forward meanwhile, or a node whose clock is wrong.
        """

    def renew(self, key: str) -> bool:
        """Keep a blob that is referred to later than usual from being swept; returns whether it is still there.

        Raises:
            Unavailable: That cannot be said now.
            OSError: Nor here.
        """

    def delete(self, key: str, *, min_age_s: float = 0.0) -> bool:
        """Delete a blob unless it is younger than this; returns whether it was deleted."""

    def list_older(self, min_age_s: float, keep_on: KeepOn = always) -> Iterator[Blob]:
        """Go through all blobs that are at least this old; `keep_on` is asked before each look at one."""

    def usage_bytes(self) -> int:
        """Return what all blobs take."""

    def sweep_unfinished(self, min_age_s: float, keep_on: KeepOn = always) -> int:
        """Delete what uploads that broke off have left behind; returns how many files. See :meth:`list_older`."""


def check_key(key: str) -> str:
    """Return the key, which names a file.

    Raises:
        NotFoundError: It cannot be a key.
    """
    if not KEY.fullmatch(key):
        raise NotFoundError("this is not the key of a blob")
    return key


class Unreadable(Unavailable):
    """A blob cannot be read now, for a reason that may be the storage's or its own."""


class BlobWriter:
    """Takes the content of one blob bit by bit, into a file beside the store. Nothing is kept without a commit.

    Args:
        folder: Where the file is written.
        keep: Makes the written file a blob, under its key.
        max_bytes: More is refused as soon as it comes.
        min_free_bytes: Disk space that must stay free.
    """

    def __init__(
        self, folder: Path, keep: Callable[[Path, Blob], None], *, max_bytes: int, min_free_bytes: int
    ) -> None:
        refuse_low_disk(folder, min_free_bytes)
        self._folder = folder
        self._keep = keep
        self._max_bytes = max_bytes
        self._min_free_bytes = min_free_bytes
        self._hash = hashlib.sha256()
        self._size_bytes = 0
        self._checked_bytes = 0
        with disk_errors():
            descriptor, name = tempfile.mkstemp(prefix=UPLOAD, dir=folder)
        self._path = Path(name)
        self._file = os.fdopen(descriptor, "wb", buffering=0)

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Add some bytes.

        Raises:
            PayloadTooLarge: They are more than allowed.
            InsufficientStorage: They do not fit on the disk.
        """
        self._size_bytes += len(chunk)
        if self._size_bytes > self._max_bytes:
            raise PayloadTooLarge(f"the upload has more than {self._max_bytes} bytes", limit_bytes=self._max_bytes)
        if self._size_bytes - self._checked_bytes > _CHECK_DISK_EVERY_BYTES:
            self._checked_bytes = self._size_bytes
            refuse_low_disk(self._folder, self._min_free_bytes)
        self._hash.update(chunk)
        rest = memoryview(chunk)
        with disk_errors():
            while rest:
                rest = rest[self._file.write(rest) :]

    def reopen(self) -> BinaryIO:
        """Open what was written so far for reading."""
        return self._path.open("rb")

    def commit(self) -> Blob:
        """Make what was written a blob that survives a power cut.

        Raises:
            InsufficientStorage: It does not fit on the disk.
            Unavailable: It was taken for a leftover and cleaned away, as happens when the clock is set forward.
        """
        blob = Blob(self._hash.hexdigest(), self._size_bytes)
        with disk_errors(), none_cleaned_away():
            os.fsync(self._file.fileno())
            self._keep(self._path, blob)
        return blob

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)


@contextlib.contextmanager
def none_cleaned_away() -> Iterator[None]:
    """Say with an error of ours that a file is gone that was being written.

    Raises:
        Unavailable: It is.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise cleaned_away() from error


def cleaned_away() -> Unavailable:
    """Return the error for content that was taken for somebody's leftover before its job was stored."""
    return Unavailable("what was sent first was cleaned away already; send it again", retry_after_s=1.0)


async def put_stream(blobs: BlobStore, chunks: AsyncIterable[bytes], max_bytes: int) -> Blob:
    """Store an upload while it comes in; memory holds at most about a megabyte of it.

    Raises:
        PayloadTooLarge: It has more bytes than allowed.
        InsufficientStorage: It does not fit on the disk.
    """
    buffer = bytearray()
    with await asyncio.to_thread(blobs.writer, max_bytes) as writer:
        async for chunk in chunks:
            buffer += chunk
            if len(buffer) >= _CHUNK_BYTES:
                await asyncio.to_thread(writer.write, buffer)
                buffer = bytearray()
        await asyncio.to_thread(writer.write, buffer)
        return await asyncio.to_thread(writer.commit)


def put_bytes(blobs: BlobStore, content: bytes, *, reserve: bool = False) -> Blob:
    """Store what is in memory already."""
    with blobs.writer(len(content), reserve=reserve) as writer:
        writer.write(content)
        return writer.commit()


def storage_works(blobs: BlobStore) -> bool:
    """Return whether something can be stored now and read back. It is deleted again, where that can be done."""
    content = secrets.token_bytes(16)
    try:
        key = put_bytes(blobs, content, reserve=True).key
    except (SteadyOCRError, OSError):
        return False
    try:
        with blobs.open(key) as stream:
            # From the disk, not from what the kernel remembers of writing it.
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return stream.read() == content
    except (SteadyOCRError, OSError):
        return False
    finally:
        with contextlib.suppress(SteadyOCRError, OSError):
            blobs.delete(key)


def sweep_folder(folder: Path, min_age_s: float, keep_on: KeepOn = always) -> int:
    """Delete the files of a folder that are at least this old; returns how many. What is no file is not ours."""
    deleted = 0
    for path in while_wanted(folder.iterdir(), keep_on):
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISREG(path.lstat().st_mode) and age_s(path) >= min_age_s:
                path.unlink()
                deleted += 1
    return deleted


def age_s(path: Path) -> float:
    """Return how long ago a file was stored or made young again."""
    return time.time() - path.stat().st_mtime
