"""The work on one item: a picture is read, an archive unpacked."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import BinaryIO, Final, Protocol

from steadyocr.errors import InsufficientStorage, InternalError, InvalidOption, Unavailable
from steadyocr.jobs.archive_input import unpack
from steadyocr.jobs.blobs import BlobStore, Unreadable, put_bytes, storage_works
from steadyocr.jobs.config import RunnerConfig
from steadyocr.jobs.gathering import refuse_lost
from steadyocr.jobs.models import ItemOutcome, Lease, NewItem
from steadyocr.jobs.records import dump
from steadyocr.scheduling.items import Priority, Reply
from steadyocr.telemetry.logging import job_id_var, request_id_var
from steadyocr.types import OcrOptions

_log = logging.getLogger("steadyocr.jobs")

_FIRST_PAUSE_S: Final = 0.5
_MAX_PAUSE_S: Final = 30.0


class Submit(Protocol):
    """The one way in for pictures; :meth:`steadyocr.service.Service.read` is one."""

    def __call__(
        self, data: bytes, options: OcrOptions, *, priority: Priority, client: str, request_id: str | None
    ) -> Awaitable[Reply]:
        """Read one picture."""


class ItemReader:
    """Does the work on items. Keeps nothing between two of them.

    Args:
        blobs: Where pictures come from and large results go.
        submit: Where pictures go in.
        config: Limits.
        lack_of_room: Why so many bytes more cannot be stored, if so; asked in a thread before an archive is unpacked.
    """

    def __init__(
        self,
        blobs: BlobStore,
        submit: Submit,
        config: RunnerConfig,
        lack_of_room: Callable[[int], InsufficientStorage | None],
    ) -> None:
        self._blobs = blobs
        self._submit = submit
        self._config = config
        self._lack_of_room = lack_of_room

    async def run(self, lease: Lease, wanted: Callable[[], bool]) -> ItemOutcome | list[NewItem]:
        """Read a picture, or unpack an archive for as long as it is wanted.

        Raises:
            SteadyOCRError: Why it did not work out.
        """
        # Each item runs in a task of its own, so these hold for its log lines and for nobody else's.
        request_id = f"job-{lease.job_id}-{lease.position}"
        request_id_var.set(request_id)
        job_id_var.set(lease.job_id)
        if lease.kind == "expand":
            return await asyncio.to_thread(self._unpack, lease, wanted)
        options = _options(lease)
        data = await asyncio.to_thread(self._load, lease)
        # Each job is a client of its own, so that jobs take turns in the queue as well.
        client = f"job-{lease.job_id}"
        reply = await self._submit(data, options, priority=Priority.BATCH, client=client, request_id=request_id)
        return await self._store_patiently(reply)

    def _load(self, lease: Lease) -> bytes:
        with self._input(lease) as stream:
            return stream.read()

    @contextlib.contextmanager
    def _input(self, lease: Lease) -> Iterator[BinaryIO]:
        """Open what an item is to be read from.

        Raises:
            InternalError: That fails while the storage works: a bad sector, an object that is forbidden. It counts
                against the item, which would else be tried for ever.
        """
        try:
            with self._blobs.open(lease.input_ref) as stream:
                yield stream
        except (Unreadable, OSError) as error:
            doubtful = isinstance(error, Unreadable) or error.errno == errno.EIO
            if doubtful and storage_works(self._blobs):
                raise InternalError("the storage works, but not with this file; it may be damaged there") from error
            raise

    def _unpack(self, lease: Lease, wanted: Callable[[], bool]) -> list[NewItem]:
        with self._input(lease) as stream:
            items = unpack(
                stream, self._config.archive, self._blobs, keep_on=wanted, refuse_size=self._refuse_without_room
            )
        refuse_lost(self._blobs, items)
        return items

    def renew(self, keys: Sequence[str]) -> bool:
        """Keep what is stored already from being swept while it waits to be referred to; returns if it is all there."""
        try:
            return all(self._blobs.renew(key) for key in keys)
        except (Unavailable, OSError):
            return True  # it will be seen next time

    def _refuse_without_room(self, size_bytes: int) -> None:
        if (lack := self._lack_of_room(size_bytes)) is not None:
            raise lack

    async def _store_patiently(self, reply: Reply) -> ItemOutcome:
        """Store what was read, and while there is no room for it keep it and the slot: the next page would have none.

        Given back, the picture would be read again every few seconds for as long as the disk is full.
        """
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return await asyncio.to_thread(self._store, reply)
            except Unavailable as error:
                _log.warning("A result cannot be stored yet", extra={"code": error.code})
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _MAX_PAUSE_S)

    def _store(self, reply: Reply) -> ItemOutcome:
        page = reply.message["page"]
        text = dump(page).encode()
        # What the reserve is for: refused, the picture would be read again and again for as long as the disk is low.
        overlay = put_bytes(self._blobs, reply.payload, reserve=True).key if reply.payload else None
        stored_bytes = len(text) + len(reply.payload)
        if len(text) <= self._config.inline_result_bytes:
            return ItemOutcome(result=page, overlay_ref=overlay, stored_bytes=stored_bytes)
        key = put_bytes(self._blobs, text, reserve=True).key
        return ItemOutcome(result_ref=key, overlay_ref=overlay, stored_bytes=stored_bytes)


def _options(lease: Lease) -> OcrOptions:
    try:
        return OcrOptions(**lease.options)
    except TypeError as error:
        raise InvalidOption("the job was made with options that this version does not know") from error
