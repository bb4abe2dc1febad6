"""A job's results as a zip archive, made while it is sent: never whole in memory, never on the disk.

It holds what has ended up to the first unfinished item: ``results.jsonl`` with every item, ``lines.csv`` with every
text line, ``text/`` with one file for each picture, and ``overlays/`` when asked for, with the names of those that are
gone in ``overlays/missing.txt``.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import re
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, Final

from steadyocr.errors import ConflictError, Draining, NotFoundError
from steadyocr.jobs.blobs import BlobStore
from steadyocr.jobs.models import Item, Job
from steadyocr.jobs.result_lines import load_page, result_line
from steadyocr.jobs.store import JobStore
from steadyocr.page_formats import CSV_COLUMNS, csv_rows, harmless, render_page

_log = logging.getLogger("steadyocr.jobs")

_PAGE: Final = 50
_CHUNK_BYTES: Final = 256 << 10
# Text packs well at any level; the front should not sweat over it.
_LEVEL: Final = 3
_MAX_NAME: Final = 80
# What some file system gives a meaning to.
_UNSAFE: Final = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]+')


class _Sink:
    """Where the archive is written: nothing but what has not been sent yet."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    def write(self, data: bytes) -> int:
        self._waiting += data
        return len(data)

    def flush(self) -> None:
        """Nothing waits longer than it must."""

    def take(self, at_least: int = _CHUNK_BYTES) -> Iterator[bytes]:
        """Give out what waits, if it is worth while."""
        if len(self._waiting) >= at_least:
            chunk, self._waiting = bytes(self._waiting), bytearray()
            yield chunk


class ArchiveWriter:
    """Makes the archive of one job.

    Args:
        store: Where the items are.
        blobs: Where large results and overlays are.
        job: The job.
        overlays: Whether to put the overlay pictures in.
        keep_on: Asked between items; once it says no, the archive breaks off.
    """

    def __init__(
        self, store: JobStore, blobs: BlobStore, job: Job, *, overlays: bool, keep_on: Callable[[], bool]
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._job = job
        self._overlays = overlays
        self._keep_on = keep_on
        self._last = -1
        self._digits = max(4, len(str(job.total)))
        # Before 1980 there is no time in a zip; a machine without a battery wakes up in 1970.
        self._at = max(time.gmtime(job.created_at)[:6], (1980, 1, 1, 0, 0, 0))

    def chunks(self) -> Iterator[bytes]:
        """Return the archive bit by bit. Blocking.

        Raises:
            SteadyOCRError: The store or the blobs cannot be used any more; what was sent is no archive.
        """
        sink = _Sink()
        # zipfile needs no more than write and flush to write to a stream that cannot seek.
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:  # type: ignore[call-overload]
            with archive.open(self._entry("results.jsonl"), "w", force_zip64=True) as entry:
                for item in self._items():
                    line = json.dumps(result_line(item, self._blobs), ensure_ascii=False)
                    entry.write(line.encode(errors="backslashreplace") + b"\n")
                    self._last = item.position
                    yield from sink.take()
            with archive.open(self._entry("lines.csv"), "w", force_zip64=True) as entry:
                entry.write(_row(["position", "file", *CSV_COLUMNS]))
                for item, page in self._pages():
                    head = [item.position, harmless(item.name)]
                    entry.write(b"".join(_row([*head, *row]) for row in csv_rows(page)))
                    yield from sink.take()
            for item, page in self._pages():
                text = render_page(page, "text")
                archive.writestr(self._entry(f"text/{self._name(item)}.txt"), text.encode(errors="backslashreplace"))
                yield from sink.take()
            if self._overlays:
                yield from self._add_overlays(archive, sink)
        yield from sink.take(1)

    def _entry(self, name: str) -> zipfile.ZipInfo:
        info = zipfile.ZipInfo(name, self._at)
        info.compress_type = zipfile.ZIP_DEFLATED
        info.external_attr = 0o644 << 16
        return info

    def _items(self) -> Iterator[Item]:
        """Go through what has ended, in order."""
        after = -1
        while items := self._store.results(self._job.id, after=after, limit=_PAGE):
            for item in items:
                if not self._keep_on():
                    raise Draining("the service is shutting down")
                yield item
            after = items[-1].position

    def _again(self) -> Iterator[Item]:
        """Go again through what the first list had.

        Raises:
            ConflictError: Not all of that has ended any more: something is tried again.
        """
        reached = -1
        for item in self._items():
            if item.position > self._last:
                return
            reached = item.position
            yield item
        if reached < self._last:
            raise ConflictError("items of this job are tried again; ask for the archive when it has ended")

    def _pages(self) -> Iterator[tuple[Item, dict[str, Any]]]:
        """Go again through what the first list had, with the pages; what holds none is left out."""
        for item in self._again():
            try:
                page = load_page(item, self._blobs)
            except NotFoundError:
                continue
            if page is not None:
                yield item, page

    def _add_overlays(self, archive: zipfile.ZipFile, sink: _Sink) -> Iterator[bytes]:
        missing: list[str] = []
        for item in self._again():
            if item.overlay_ref is None:
                continue
            name = f"overlays/{self._name(item)}.png"
            info = self._entry(name)
            info.compress_type = zipfile.ZIP_STORED
            try:
                picture = self._blobs.open(item.overlay_ref)
            except NotFoundError:
                missing.append(name)
                continue
            with picture, archive.open(info, "w", force_zip64=True) as entry:
                shutil.copyfileobj(picture, entry, _CHUNK_BYTES)
            yield from sink.take()
        if missing:
            _log.warning("Overlays of a job are gone", extra={"job_id": self._job.id, "overlays": len(missing)})
            archive.writestr(self._entry("overlays/missing.txt"), "".join(f"{name}\n" for name in missing).encode())

    def _name(self, item: Item) -> str:
        """Return a name that is unique and means a plain file everywhere, whatever the client called it."""
        label = _UNSAFE.sub("_", item.name)[-_MAX_NAME:].strip(" .")
        return f"{item.position:0{self._digits}d}-{label}" if label else f"{item.position:0{self._digits}d}"


def _row(values: list[object]) -> bytes:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\r\n").writerow(values)
    return stream.getvalue().encode(errors="backslashreplace")
