"""The files of a new job on their way in: into the blob store while they arrive, within bounds, then into one job.

What is wrong with one picture becomes that picture's own error, and the rest goes on; what is wrong with the whole
(too many files, too many bytes, no disk, an archive that is broken or dangerous) refuses the whole. Memory holds a
megabyte for each large file being written and a few megabytes of small ones, however much is sent. Large files are
flushed to the disk side by side and small ones many at a time, since that is where the time goes.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from steadyocr.errors import DeadlineExceeded, PayloadTooLarge, QueueFull
from steadyocr.jobs.blobs import BlobStore
from steadyocr.jobs.gathering import Gathering, refuse_lost
from steadyocr.jobs.models import Job, NewItem, NewJob
from steadyocr.jobs.store import JobStore
from steadyocr.service.incoming import CHUNK_BYTES, IncomingFile, IntakeLimits
from steadyocr.types import OcrOptions

if TYPE_CHECKING:
    from steadyocr.service.batches import Batches

# Large files that may be flushed to the disk at the same time.
_FLUSHES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """What a job is to be, besides its files.

    Attributes:
        options: What to do with each picture.
        priority: Higher goes first.
        deadline_s: Seconds after which what is not done is given up.
        idempotency_key: See :class:`~steadyocr.jobs.models.NewJob`.
        meta: The client's own values, given back as they came.
        webhook_url: Whom to tell when the job has ended.
        tenant: Whose job it is.
    """

    options: OcrOptions = field(default_factory=OcrOptions)
    priority: int = 0
    deadline_s: float | None = None
    idempotency_key: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    webhook_url: str | None = None
    tenant: str = ""


class Intake:
    """Takes the files of one job: :meth:`begin`, :meth:`write` …, :meth:`end` for each, then :meth:`submit`."""

    def __init__(self, batches: Batches, blobs: BlobStore, limits: IntakeLimits) -> None:
        self._batches = batches
        self._blobs = blobs
        self._limits = limits
        self._bytes = 0
        self._files = 0
        self._file: IncomingFile | None = None
        self._gathering = Gathering()
        self._flushes: list[asyncio.Task[list[NewItem]]] = []
        self._room = asyncio.Semaphore(_FLUSHES)
        # One lot of small files is written while the next one comes in.
        self._lot = asyncio.Lock()
        self._time = asyncio.timeout(None)

    async def __aenter__(self) -> Self:
        if await self._batches.call(JobStore.waiting) >= self._limits.max_waiting:
            raise QueueFull("too many items wait already; try again later", retry_after_s=30.0)
        if self._batches.uploads >= self._limits.max_uploads:
            raise QueueFull("too many jobs are being sent at the moment; try again later", retry_after_s=5.0)
        await self._time.__aenter__()
        self._time.reschedule(asyncio.get_running_loop().time() + self._limits.timeout_s)
        self._batches.uploads += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._time.expired():
            self._time.reschedule(None)
        try:
            await self._let_go()
        finally:
            self._batches.uploads -= 1
            try:
                await self._time.__aexit__(kind, error, trace)
            except TimeoutError:
                raise DeadlineExceeded("sending the job took too long; send it in smaller parts") from error

    async def _let_go(self) -> None:
        try:
            # A flush is short, and a thread cannot be called off; each gives back its own file.
            await asyncio.shield(asyncio.gather(*self._flushes, return_exceptions=True))
        finally:
            if self._file is not None:
                await self._file.discard()

    async def _stop_the_time(self) -> None:
        """Let what has come in as a whole not be lost to the time any more."""
        if self._time.expired():
            await asyncio.sleep(0)  # where the expiry is raised
        self._time.reschedule(None)

    async def begin(self, name: str, *, archive: bool = False) -> None:
        """Start a file; one that is sent as an archive must be one.

        Raises:
            PayloadTooLarge: There are too many.
        """
        limit = self._limits.max_files
        if self._files >= limit:
            raise PayloadTooLarge(f"a job may have at most {limit} files", limit=limit)
        self._files += 1
        self._file = IncomingFile(name, self._blobs, self._limits, archive=archive)

    async def write(self, chunk: bytes) -> None:
        """Add to the file.

        Raises:
            PayloadTooLarge: All files together have too many bytes.
            InsufficientStorage: The disk is too full.
        """
        limit = self._limits.max_bytes
        self._bytes += len(chunk)
        if self._bytes > limit:
            raise PayloadTooLarge(f"a job may have at most {limit} bytes", limit_bytes=limit)
        await self._current().write(chunk)

    def _current(self) -> IncomingFile:
        if self._file is None:
            raise RuntimeError("no file has begun")
        return self._file

    async def end(self) -> None:
        """Finish the file. It is flushed in the background.

        Raises:
            InsufficientStorage: The disk is too full, for this file or one before it.
            InputError: One before it is an archive that is broken or dangerous.
        """
        file = self._current()
        content = file.whole()
        if content is None:
            await self._flush_alone(file)
        elif isinstance(content, NewItem):
            self._gathering.add_made(content)
        else:
            self._gathering.add(file.name, content)
        # Only now: what fails before this is given back with the upload.
        self._file = None
        if self._gathering.full:
            await self._flush_gathered()

    async def _flush_alone(self, file: IncomingFile) -> None:
        await self._flush_gathered()
        self._raise_failure()
        await self._room.acquire()
        self._flush(self._finish(file))

    async def _flush_gathered(self) -> None:
        if not len(self._gathering):
            return
        self._raise_failure()
        gathered, self._gathering = self._gathering, Gathering()
        await self._lot.acquire()
        self._flush(self._store(gathered))

    def _raise_failure(self) -> None:
        for flush in self._flushes[-2 * _FLUSHES :]:
            if flush.done():
                flush.result()

    def _flush(self, work: Coroutine[Any, Any, list[NewItem]]) -> None:
        self._flushes.append(asyncio.create_task(work, name="job-upload-flush"))

    async def _finish(self, file: IncomingFile) -> list[NewItem]:
        try:
            return [await file.finish()]
        finally:
            self._room.release()

    async def _store(self, gathered: Gathering) -> list[NewItem]:
        try:
            return await asyncio.to_thread(gathered.store, self._blobs)
        finally:
            self._lot.release()

    async def add_path(self, path: Path, name: str | None = None) -> None:
        """Add a file of this machine.

        Raises:
            OSError: It cannot be read.
            SteadyOCRError: See :meth:`write`.
        """
        with await asyncio.to_thread(path.open, "rb") as stream:
            await self.begin(name or path.name)
            while chunk := await asyncio.to_thread(stream.read, CHUNK_BYTES):
                await self.write(chunk)
            await self.end()

    async def submit(self, request: JobRequest) -> Job:
        """Make a job of what has come in.

        Raises:
            EmptyInput: Nothing has.
            InputError: An archive is broken or dangerous.
            Unavailable: A file that came first was cleaned away already, since a clock was set forward.
            IdempotencyConflict: The key stands for another request.
            SteadyOCRError: See :meth:`JobStore.submit`.
        """
        await self._flush_gathered()
        items = tuple([item for flush in self._flushes for item in await flush])
        await asyncio.to_thread(refuse_lost, self._blobs, items)
        await self._stop_the_time()
        options = request.options.to_wire()
        new = NewJob(
            items=items,
            options=options,
            meta=request.meta,
            priority=request.priority,
            deadline_s=request.deadline_s,
            idempotency_key=request.idempotency_key,
            request_hash=_hash(items, options, request) if request.idempotency_key else None,
            webhook_url=request.webhook_url,
            tenant=request.tenant,
        )
        return await self._batches.call(JobStore.submit, new)


def _hash(items: tuple[NewItem, ...], options: Mapping[str, Any], request: JobRequest) -> str:
    """Hash all that makes a request the same one. A refused file has no content hash; its name and error stand in."""
    content = [(item.name, item.input_ref, (item.error or {}).get("code")) for item in items]
    rest = [options, dict(request.meta), request.priority, request.deadline_s, request.webhook_url]
    text = json.dumps([content, rest], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
