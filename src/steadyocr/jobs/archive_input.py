"""Zip archives sent in place of pictures: checked against every known trick before and while they are unpacked.

Nothing is ever written to a path that an archive names; names are labels. Entries that cannot be used become items
that have failed, each with its reason; only an archive that is dangerous or broken as a whole is refused.
"""

from __future__ import annotations

import contextlib
import errno
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

from steadyocr.errors import (
    EmptyInput,
    InputError,
    InvalidRequest,
    PayloadTooLarge,
    UndecodableImage,
    UnsupportedMediaType,
)
from steadyocr.jobs.archive_directory import damaged, refuse_long_directory
from steadyocr.jobs.blobs import BlobStore, BlobWriter
from steadyocr.jobs.config import ArchiveLimits
from steadyocr.jobs.flushing import Flushing
from steadyocr.jobs.gathering import SMALL_BYTES
from steadyocr.jobs.models import NewItem

_LOCAL_HEADER_BYTES: Final = 30
_ENCRYPTED: Final = 0x1
_NAME_IS_UTF8: Final = 0x800
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_NESTED: Final = (b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b", b"Rar!", b"7z\xbc\xaf", b"BZh", b"\xfd7zXZ")
# What file managers add on their own.
_CLUTTER: Final = ("thumbs.db", "desktop.ini", ".ds_store")
# Small files may be as compressible as they like.
_RATIO_FROM_BYTES: Final = 1 << 20
_CHUNK_BYTES: Final = 1 << 18


def unpack(
    stream: BinaryIO,
    limits: ArchiveLimits,
    blobs: BlobStore,
    *,
    keep_on: Callable[[], bool] = lambda: True,
    refuse_size: Callable[[int], None] = lambda _: None,
) -> list[NewItem]:
    """Store the files of an archive as blobs and return the items they make, in the archive's order.

    Args:
        stream: The archive; must be able to seek.
        limits: What it may be at most.
        blobs: Where the files go.
        keep_on: Asked before each file; once it says no, what there is so far is returned.
        refuse_size: Told how many bytes will be stored, before anything is; what it raises goes to the caller.

    Raises:
        InvalidRequest: It is no zip archive, is damaged, or its parts overlap.
        PayloadTooLarge: It holds too many files or bytes.
        EmptyInput: It holds no file.
    """
    with _opened(stream, limits) as archive:
        entries = list(_checked(archive, limits))
        if not entries:
            raise EmptyInput("the archive holds no file")
        # No file becomes larger than the directory says.
        refuse_size(sum(entry.file_size for entry, refusal in entries if refusal is None))
        with Flushing(blobs) as flushing:
            for entry, refusal in entries:
                if not keep_on():
                    break
                if refusal is not None:
                    flushing.add(_refused(entry, refusal))
                elif entry.file_size <= SMALL_BYTES:
                    flushing.add(_content(archive, entry))
                elif isinstance(made := _written(archive, entry, limits, blobs), NewItem):
                    flushing.add(made)
                else:
                    flushing.add_written(_label(entry), made)
            return flushing.items()


def check_archive(stream: BinaryIO, limits: ArchiveLimits) -> None:
    """Refuse an archive as :func:`unpack` would, without unpacking it.

    Raises:
        InvalidRequest: It is no zip archive, is damaged, or its parts overlap.
        PayloadTooLarge: It holds too many files or bytes.
        EmptyInput: It holds no file.
    """
    with _opened(stream, limits) as archive:
        if not any(True for _ in _checked(archive, limits)):
            raise EmptyInput("the archive holds no file")


def _opened(stream: BinaryIO, limits: ArchiveLimits) -> zipfile.ZipFile:
    refuse_long_directory(stream, limits.max_entries)
    try:
        return zipfile.ZipFile(stream)
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, struct.error, ValueError) as error:
        raise damaged() from error
    except OSError as error:
        # Places that cannot be are the archive's fault, a disk that does not answer is not.
        if error.errno not in (None, errno.EINVAL):
            raise
        raise damaged() from error


def _checked(archive: zipfile.ZipFile, limits: ArchiveLimits) -> Iterator[tuple[zipfile.ZipInfo, InputError | None]]:
    """Go through the files with what is wrong with each, after looking at the archive as a whole.

    Raises:
        InvalidRequest: Parts overlap, as only in archives made to burst.
        PayloadTooLarge: All files together are too large.
    """
    total = 0
    end = 0
    for entry in sorted(archive.infolist(), key=lambda entry: entry.header_offset):
        if entry.header_offset < end:
            raise InvalidRequest("parts of the archive overlap; pack it again")
        end = entry.header_offset + _LOCAL_HEADER_BYTES + entry.compress_size
        total += entry.file_size
    if total > limits.max_total_bytes:
        raise PayloadTooLarge(
            f"the archive unpacks to {total} bytes; the limit is {limits.max_total_bytes}",
            limit_bytes=limits.max_total_bytes,
        )
    for entry in archive.infolist():
        # zipfile's own test for folders stumbles over a name of nothing.
        if not entry.filename.endswith("/") and not _is_clutter(entry.filename):
            yield entry, _refusal(entry, limits, archive.start_dir)


def _is_clutter(name: str) -> bool:
    parts = name.lower().split("/")
    return parts[-1] in _CLUTTER or parts[-1].startswith("._") or parts[0] == "__macosx"


def _refusal(entry: zipfile.ZipInfo, limits: ArchiveLimits, directory_at: int) -> InputError | None:
    """Say what is wrong with a file by what the directory, which is the last part of an archive, tells of it."""
    if entry.header_offset + _LOCAL_HEADER_BYTES > directory_at:
        # Some of these places cannot even be gone to, which would look like trouble with the disk.
        return _damaged_file()
    if not entry.filename:
        return InvalidRequest("this file has no name in the archive")
    if _is_tricky(entry.filename):
        return InvalidRequest("the name of this file in the archive leads out of the archive")
    mode = entry.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return InvalidRequest("this entry of the archive is a link or a device, not a file")
    if entry.flag_bits & _ENCRYPTED:
        return InvalidRequest("this file of the archive is encrypted; pack it without a password")
    if entry.compress_type not in _METHODS:
        return UnsupportedMediaType("this file of the archive is packed in an unusual way; use plain zip (deflate)")
    if entry.file_size == 0:
        return EmptyInput("this file of the archive is empty")
    if entry.file_size > limits.max_entry_bytes:
        return PayloadTooLarge(
            f"this file of the archive has {entry.file_size} bytes; the limit is {limits.max_entry_bytes}",
            limit_bytes=limits.max_entry_bytes,
        )
    if entry.file_size > max(_RATIO_FROM_BYTES, entry.compress_size * limits.max_ratio):
        return PayloadTooLarge("this file of the archive is packed suspiciously tight", limit_ratio=limits.max_ratio)
    return None


def _is_tricky(name: str) -> bool:
    normal = name.replace("\\", "/")
    drive = len(normal) > 1 and normal[1] == ":"
    control = any(ord(letter) < 32 or ord(letter) == 127 for letter in normal)
    return drive or control or normal.startswith("/") or ".." in normal.split("/")


def _label(entry: zipfile.ZipInfo) -> str:
    """Return a file's name as whoever packed it reads it.

    Names that are not marked as UTF-8 are code page 437 by the letter of the format (APPNOTE, appendix D), and in truth
    what the packing system uses: UTF-8 on some, GBK where most Chinese archives come from.
    """
    name = entry.filename
    if entry.flag_bits & _NAME_IS_UTF8 or name.isascii():
        return name
    try:
        raw = name.encode("cp437")
    except UnicodeEncodeError:  # taken from another field by Python itself
        return name
    return _decoded(raw, "utf-8") or _chinese(raw) or name


def _chinese(raw: bytes) -> str | None:
    """Decode GBK, if it looks like that: most characters have both bytes above ASCII, unlike the accent of "café"."""
    text = _decoded(raw, "gb18030")
    if text is None:
        return None
    above, characters = sum(byte > 0x7F for byte in raw), sum(not letter.isascii() for letter in text)
    return text if above >= 1.5 * characters else None


def _decoded(raw: bytes, encoding: str) -> str | None:
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        return None


def _refused(entry: zipfile.ZipInfo, refusal: InputError) -> NewItem:
    return NewItem(input_ref=None, name=_label(entry), error=refusal.to_wire())


def _content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> NewItem | tuple[str, bytes]:
    """Return the name and the content of a small file, or the item that it is refused as."""
    try:
        return _label(entry), b"".join(_chunks(archive, entry))
    except InputError as error:
        return _refused(entry, error)


def _written(
    archive: zipfile.ZipFile, entry: zipfile.ZipInfo, limits: ArchiveLimits, blobs: BlobStore
) -> NewItem | BlobWriter:
    """Return the written content of a large file, or the item that it is refused as."""
    with contextlib.ExitStack() as unless_written:
        writer = unless_written.enter_context(blobs.writer(limits.max_entry_bytes))
        try:
            for chunk in _chunks(archive, entry):
                writer.write(chunk)
        except InputError as error:
            return _refused(entry, error)
        unless_written.pop_all()
        return writer


def _chunks(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    """Go through a file's content, which zipfile ends at the size that the directory says.

    Raises:
        InputError: It is damaged, or an archive itself.
    """
    try:
        with archive.open(entry) as content:
            chunk = content.read(_CHUNK_BYTES)
            if chunk.startswith(_NESTED):
                raise UnsupportedMediaType("this file of the archive is an archive itself; send it on its own")
            while chunk:
                yield chunk
                chunk = content.read(_CHUNK_BYTES)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, struct.error):
        raise _damaged_file() from None


def _damaged_file() -> UndecodableImage:
    return UndecodableImage("this file of the archive is damaged; pack it again")
