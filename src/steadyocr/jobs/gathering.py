"""Small files on their way into the blob store: many together cost little more than one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from steadyocr.jobs.blobs import BlobStore, cleaned_away
from steadyocr.jobs.models import NewItem

# What may be gathered is held in memory; what is larger goes into a file of its own as it comes.
SMALL_BYTES: Final = 1 << 20
_MAX_FILES: Final = 1000
_MAX_BYTES: Final = 4 << 20


def refuse_lost(blobs: BlobStore, items: Iterable[NewItem]) -> None:
    """Refuse to refer to blobs that are not there any more.

    Raises:
        Unavailable: One is not. It was cleaned away as nobody's, which is a matter of clocks.
    """
    if blobs.lost(item.input_ref for item in items if item.input_ref is not None):
        raise cleaned_away()


class Gathering:
    """Takes small files, and items that are made already, and stores the files all at once. Used once."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._contents: list[bytes | bytearray] = []
        self._made: dict[int, NewItem] = {}
        self._size_bytes = 0

    def __len__(self) -> int:
        """How many items this is going to be."""
        return len(self._names) + len(self._made)

    @property
    def full(self) -> bool:
        """Whether it is time to store them."""
        return len(self) >= _MAX_FILES or self._size_bytes >= _MAX_BYTES

    def add(self, name: str, content: bytes | bytearray) -> None:
        """Take the next file."""
        self._names.append(name)
        self._contents.append(content)
        self._size_bytes += len(content)

    def add_made(self, item: NewItem) -> None:
        """Take the next item, which needs nothing any more."""
        self._made[len(self)] = item

    def store(self, blobs: BlobStore) -> list[NewItem]:
        """Store the files; returns the items of all, in the order they came.

        Raises:
            InsufficientStorage: They do not fit on the disk.
        """
        stored = blobs.put_many(self._contents) if self._contents else []
        self._contents.clear()
        files = (
            NewItem(input_ref=blob.key, name=name, size_bytes=blob.size_bytes)
            for name, blob in zip(self._names, stored, strict=True)
        )
        return [self._made[place] if place in self._made else next(files) for place in range(len(self))]
