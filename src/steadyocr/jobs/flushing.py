"""Files of an archive made blobs, small ones gathered, large ones several at a time: flushing takes the time."""

from __future__ import annotations

import contextlib
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import Final, Self

from steadyocr.jobs.blobs import BlobStore, BlobWriter
from steadyocr.jobs.gathering import Gathering
from steadyocr.jobs.models import NewItem

# Flushes at the same time, and what may wait for one: an open file each, or some megabytes of small ones.
_FLUSHES: Final = 4
_MAX_UNFLUSHED: Final = 4


class Flushing:
    """Makes files blobs in the background, and items of them in the order they came."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._threads = ThreadPoolExecutor(_FLUSHES, thread_name_prefix="archive-flush")
        self._gathering = Gathering()
        self._made: list[Future[list[NewItem]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown()

    def add(self, made: NewItem | tuple[str, bytes]) -> None:
        """Take the next item or small file; waits when too much is being flushed.

        Raises:
            InsufficientStorage: One before it did not fit on the disk.
        """
        if isinstance(made, NewItem):
            self._gathering.add_made(made)
        else:
            self._gathering.add(*made)
        if self._gathering.full:
            self._store_gathered()

    def add_written(self, name: str, writer: BlobWriter) -> None:
        """Take the next file, a large one, and close it in any case; waits when too much is being flushed.

        Raises:
            InsufficientStorage: One before it did not fit on the disk.
        """
        with contextlib.ExitStack() as unless_taken:
            unless_taken.enter_context(writer)
            self._store_gathered()
            made = self._threads.submit(_committed, name, writer)
            unless_taken.pop_all()
        self._note(made)

    def _store_gathered(self) -> None:
        if len(self._gathering):
            gathered, self._gathering = self._gathering, Gathering()
            self._note(self._threads.submit(gathered.store, self._blobs))

    def _note(self, made: Future[list[NewItem]]) -> None:
        self._made.append(made)
        if len(self._made) > _MAX_UNFLUSHED:
            self._made[-1 - _MAX_UNFLUSHED].result()

    def items(self) -> list[NewItem]:
        """Return all items, in their order.

        Raises:
            InsufficientStorage: One did not fit on the disk.
        """
        self._store_gathered()
        return list(chain.from_iterable(made.result() for made in self._made))


def _committed(name: str, writer: BlobWriter) -> list[NewItem]:
    with writer:
        blob = writer.commit()
    return [NewItem(input_ref=blob.key, name=name, size_bytes=blob.size_bytes)]
