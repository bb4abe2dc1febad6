"""One file on its way into the blob store, checked by its first bytes and by its size while it arrives."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, Self

from steadyocr.errors import EmptyInput, InputError, UndecodableImage
from steadyocr.imaging.header import ImageLimits, check_limits, check_size, probe
from steadyocr.jobs.archive_input import check_archive
from steadyocr.jobs.blobs import Blob, BlobStore, BlobWriter
from steadyocr.jobs.config import ArchiveLimits
from steadyocr.jobs.gathering import SMALL_BYTES
from steadyocr.jobs.models import ItemKind, NewItem
from steadyocr.settings import Settings

_ZIP_MAGICS: Final = (b"PK\x03\x04", b"PK\x05\x06")
# What is kept in memory of a file before it goes on.
CHUNK_BYTES: Final = SMALL_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeLimits:
    """What one job may bring.

    Attributes:
        picture: What a picture may be.
        archive: What an archive may be.
        max_files: Files.
        max_bytes: Bytes of all files together, and of an archive.
        max_waiting: Items of all jobs that may wait.
        max_uploads: Jobs that may come in at the same time.
        timeout_s: Seconds that all of it may take.
    """

    picture: ImageLimits
    archive: ArchiveLimits
    max_files: int
    max_bytes: int
    max_waiting: int
    max_uploads: int
    timeout_s: float

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Take them from the settings."""
        jobs = settings.jobs
        return cls(
            picture=settings.image_limits(),
            archive=jobs.archive_limits(settings.limits.max_bytes),
            max_files=jobs.max_files,
            max_bytes=jobs.max_upload_bytes,
            max_waiting=jobs.max_waiting,
            max_uploads=jobs.max_uploads,
            timeout_s=jobs.upload_timeout_s,
        )


class IncomingFile:
    """A file that is coming in: :meth:`write` …, then :meth:`finish` or :meth:`discard`.

    A picture that fits into the buffer has not been written anywhere at its end; :meth:`whole` gives it out.

    Args:
        name: What its sender calls it.
        blobs: Where it goes.
        limits: What it may be.
        archive: It is sent as an archive; whatever else it is is refused, as a whole.

    Attributes:
        name: What its sender calls it.
    """

    def __init__(self, name: str, blobs: BlobStore, limits: IntakeLimits, *, archive: bool = False) -> None:
        self.name = name
        self._blobs = blobs
        self._limits = limits
        self._buffer = bytearray()
        self._size_bytes = 0
        self._kind: ItemKind = "expand" if archive else "read"
        self._writer: BlobWriter | None = None
        self._refusal: InputError | None = None

    async def write(self, chunk: bytes) -> None:
        """Add to the file. Of one that is refused already, nothing more is kept.

        Raises:
            InsufficientStorage: The disk is too full.
        """
        self._size_bytes += len(chunk)
        if self._refusal is not None:
            return
        self._buffer += chunk
        if len(self._buffer) < CHUNK_BYTES:
            return
        try:
            self._check()
        except InputError as error:
            self._refusal = error
            await self.discard()
            return
        full, self._buffer = self._buffer, bytearray()
        await asyncio.to_thread(self._store, full)

    def whole(self) -> NewItem | bytearray | None:
        """Return a picture that is in the buffer as a whole, or the item that a refused file enters as.

        ``None`` is returned for a file that must be finished: a large one, or an archive.

        Raises:
            InputError: It is an archive, and empty.
        """
        if self._writer is not None:
            return None
        try:
            if self._refusal is not None:
                raise self._refusal
            self._check()
        except InputError as error:
            if self._kind == "expand":
                raise
            return NewItem(input_ref=None, name=self.name, error=error.to_wire())
        return self._buffer if self._kind == "read" else None

    async def finish(self) -> NewItem:
        """Make an item of the file; one that cannot be used enters as failed, with the reason.

        Raises:
            InputError: It is an archive that is broken or dangerous as a whole.
            InsufficientStorage: The disk is too full.
        """
        try:
            if self._refusal is None:
                self._check()
                blob = await asyncio.to_thread(self._commit)
                return NewItem(input_ref=blob.key, name=self.name, size_bytes=blob.size_bytes, kind=self._kind)
            refusal = self._refusal
        except InputError as error:
            refusal = error
        finally:
            await self.discard()
        if self._kind == "expand":
            raise refusal
        return NewItem(input_ref=None, name=self.name, error=refusal.to_wire())

    async def discard(self) -> None:
        """Give back what the file holds; what was committed stays. Safe to call twice."""
        self._buffer = bytearray()
        writer, self._writer = self._writer, None
        if writer is not None:
            await asyncio.to_thread(writer.__exit__, None, None, None)

    def _check(self) -> None:
        """Look at the size so far and, once, at the beginning.

        Raises:
            InputError: It cannot be read here, whatever follows.
        """
        if self._writer is None:
            self._look()
        if self._kind == "read":
            check_size(self._size_bytes, self._limits.picture)

    def _look(self) -> None:
        if not self._size_bytes:
            raise EmptyInput("the file is empty")
        if self._buffer.startswith(_ZIP_MAGICS):
            self._kind = "expand"
        if self._kind == "expand":
            return
        try:
            header = probe(bytes(self._buffer))
        except UndecodableImage:
            # The beginning may be too short to tell. The engine knows better.
            return
        check_limits(header, self._limits.picture)

    def _store(self, content: bytearray) -> BlobWriter:
        if self._writer is None:
            self._writer = self._blobs.writer(self._limits.max_bytes)
        self._writer.write(content)
        return self._writer

    def _commit(self) -> Blob:
        writer = self._store(self._buffer)
        if self._kind == "expand":
            try:
                with writer.reopen() as written:
                    check_archive(written, self._limits.archive)
            except InputError as error:
                # One bad archive refuses all that came with it, so its sender must know which one it is.
                error.message = f"{self.name}: {error.message}"
                raise
        return writer.commit()
