"""Many small files made blobs side by side: flushing them to the disk is where the time goes."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Self

from steadyocr.jobs.blobs import BlobWriter
from steadyocr.jobs.models import NewItem

# Files flushed to the disk at the same time, and written ones that may wait for it, each with an open file.
_FLUSHES: Final = 8
_MAX_UNFLUSHED: Final = 16


class Flushing:
    """Makes written files blobs, several at a time, and items of them in the order they came."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_FLUSHES, thread_name_prefix="archive-flush")
        self._made: list[NewItem | Future[NewItem]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown()

    def add(self, made: NewItem | tuple[BlobWriter, str]) -> None:
        """Take the next item, or what will be one; waits when too many are being flushed.

        Raises:
            InsufficientStorage: One before it did not fit on the disk.
        """
        self._made.append(made if isinstance(made, NewItem) else self._threads.submit(_committed, *made))
        if len(self._made) > _MAX_UNFLUSHED:
            self._settle(len(self._made) - 1 - _MAX_UNFLUSHED)

    def _settle(self, index: int) -> None:
        made = self._made[index]
        if isinstance(made, Future):
            self._made[index] = made.result()

    def items(self) -> list[NewItem]:
        """Return all items, in their order.

        Raises:
            InsufficientStorage: One did not fit on the disk.
        """
        return [made if isinstance(made, NewItem) else made.result() for made in self._made]


def _committed(writer: BlobWriter, name: str) -> NewItem:
    with writer:
        blob = writer.commit()
    return NewItem(input_ref=blob.key, name=name, size_bytes=blob.size_bytes)
