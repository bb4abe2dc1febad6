"""What a zip archive says of itself at its end: how many files it holds, found out before any of them is listed.

:class:`zipfile.ZipFile` loads the whole directory at once, a few hundred bytes of memory for each entry. So entries
are counted here first, in exactly that part of the archive that zipfile is going to read. The end of an archive can be
written so that two readers find two different directories in it; such archives are made to deceive one of them, and
are refused.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO, Final

from steadyocr.errors import InvalidRequest, PayloadTooLarge

_END: Final = struct.Struct("<4s4H2LH")
_END_MAGIC: Final = b"PK\x05\x06"
_LOCATOR: Final = struct.Struct("<4sLQL")
_LOCATOR_MAGIC: Final = b"PK\x06\x07"
_END64: Final = struct.Struct("<4sQ2H2L4Q")
_END64_MAGIC: Final = b"PK\x06\x06"
# In a plain end record: the number is too large for it, see the other one.
_SEE_END64: Final = (0xFFFF, 0xFFFFFFFF)
_MAX_COMMENT_BYTES: Final = 0xFFFF

_ENTRY_MAGIC: Final = b"PK\x01\x02"
_ENTRY_BYTES: Final = 46
_ENTRY_LENGTHS: Final = struct.Struct("<3H")
_ENTRY_LENGTHS_AT: Final = 28
# Names may be long, but the whole directory is read into memory, so their average is bounded.
_BYTES_PER_ENTRY: Final = 512
_SLACK_BYTES: Final = 65_536


def damaged() -> InvalidRequest:
    """Return the refusal of what cannot be read as an archive."""
    return InvalidRequest("the archive is not a zip file, or is damaged or cut off; pack it again")


def refuse_long_directory(stream: BinaryIO, max_entries: int) -> None:
    """Refuse an archive that holds too many files, before its directory is loaded.

    Raises:
        PayloadTooLarge: It holds too many, or their names are too long.
        InvalidRequest: It is no zip archive, or its end contradicts itself.
    """
    for told in (directory := _directory(stream)).told:
        if told.count > max_entries or told.size_bytes > max_entries * _BYTES_PER_ENTRY + _SLACK_BYTES:
            raise PayloadTooLarge(
                f"the archive holds more than {max_entries} files, or their names are too long", limit=max_entries
            )
    if directory.start < 0:
        raise damaged()
    stream.seek(directory.start)
    if _is_longer(stream.read(directory.told[-1].size_bytes), max_entries):
        raise PayloadTooLarge(f"the archive holds more than {max_entries} files", limit=max_entries)


@dataclass(frozen=True, slots=True)
class _Told:
    """What one end record says of the directory."""

    count: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class _Directory:
    """Where the directory lies, and what each end record says of it; the last one is what zipfile goes by."""

    start: int
    told: tuple[_Told, ...]


def _directory(stream: BinaryIO) -> _Directory:
    size = stream.seek(0, 2)
    tail_at = max(0, size - _END.size - _MAX_COMMENT_BYTES)
    stream.seek(tail_at)
    tail = stream.read()
    found = _find_end(tail)
    end_at = tail_at + found
    *_, count, size_bytes, _, _ = _END.unpack_from(tail, found)
    if (end64 := _end64(stream, end_at)) is None:
        return _Directory(end_at - size_bytes, (_Told(count, size_bytes),))
    plain = _Told(0 if count in _SEE_END64 else count, 0 if size_bytes in _SEE_END64 else size_bytes)
    return _Directory(end_at - _LOCATOR.size - _END64.size - end64.size_bytes, (plain, end64))


def _find_end(tail: bytes) -> int:
    # In zipfile's order: an end without a comment first, then the last thing that looks like an end.
    last = len(tail) - _END.size
    if last >= 0 and tail.startswith(_END_MAGIC, last) and tail.endswith(b"\0\0"):
        return last
    found = tail.rfind(_END_MAGIC)
    if not 0 <= found <= last:
        raise damaged()
    return found


def _end64(stream: BinaryIO, end_at: int) -> _Told | None:
    """Read the end record for large archives, where there is one.

    A locator before the plain record says where it is. Some readers follow it, others look right before the locator
    and fall back to the plain record when nothing is there; so it must be in that place and nowhere else.
    """
    locator_at = end_at - _LOCATOR.size
    if locator_at < 0:
        return None
    stream.seek(locator_at)
    magic, _disk, record_at, _disks = _LOCATOR.unpack(stream.read(_LOCATOR.size))
    if magic != _LOCATOR_MAGIC:
        return None
    if record_at != locator_at - _END64.size:
        raise damaged()
    stream.seek(record_at)
    magic, *_, count, size_bytes, _offset = _END64.unpack(stream.read(_END64.size))
    if magic != _END64_MAGIC:
        raise damaged()
    return _Told(count, size_bytes)


def _is_longer(directory: bytes, max_entries: int) -> bool:
    """Count what is in a directory, which may be more than its end says."""
    at = count = 0
    while directory.startswith(_ENTRY_MAGIC, at) and at + _ENTRY_BYTES <= len(directory):
        count += 1
        if count > max_entries:
            return True
        at += _ENTRY_BYTES + sum(_ENTRY_LENGTHS.unpack_from(directory, at + _ENTRY_LENGTHS_AT))
    return False
