"""TIFF and BigTIFF headers; also the orientation inside an EXIF block, which is a small TIFF."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import Final

from steadyocr.errors import UndecodableImage
from steadyocr.imaging.formats.common import ImageHeader, damaged, unpack

_WIDTH: Final = 256
_HEIGHT: Final = 257
_BITS_PER_SAMPLE: Final = 258
_ORIENTATION: Final = 274
_SAMPLES_PER_PIXEL: Final = 277
_ROWS_PER_STRIP: Final = 278
_TILE_WIDTH: Final = 322
_TILE_LENGTH: Final = 323
# All that memory depends on. Of a repeated one Pillow takes the last and libtiff the first.
_OF_MEMORY: Final = (
    _WIDTH,
    _HEIGHT,
    _BITS_PER_SAMPLE,
    _SAMPLES_PER_PIXEL,
    _ROWS_PER_STRIP,
    _TILE_WIDTH,
    _TILE_LENGTH,
)

# BYTE, SHORT, LONG, LONG8: the only types these tags may have.
_INTEGER_CODES: Final = {1: "B", 3: "H", 4: "I", 16: "Q"}
_MAX_ENTRIES: Final = 4096
_MAX_PAGES: Final = 4096
# Tiles of 256 to 1024 are usual however small the picture; some programs put the whole picture into one, rounded up.
_MAX_SIDE_OF_ANY_TILE: Final = 4096
_MOST_TIMES_THE_PICTURE: Final = 2


@dataclass(frozen=True, slots=True)
class _Layout:
    """Field widths of one flavour.

    Attributes:
        order: Byte order sign of `struct`.
        count: Number of entries in a directory.
        entry: Tag, type, number of values, the values or where they are.
        offset: A place in the file.
    """

    order: str
    count: struct.Struct
    entry: struct.Struct
    offset: struct.Struct


@dataclass(frozen=True, slots=True)
class _Entry:
    type: int
    count: int
    raw: bytes


def _layout(order: str, *, big: bool) -> _Layout:
    count, entry, offset = ("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I")
    return _Layout(order, struct.Struct(order + count), struct.Struct(order + entry), struct.Struct(order + offset))


# First four bytes, the flavour, and where the offset of the first directory stands.
_FLAVOURS: Final = {
    b"II*\0": (_layout("<", big=False), 4),
    b"MM\0*": (_layout(">", big=False), 4),
    b"II+\0": (_layout("<", big=True), 8),
    b"MM\0+": (_layout(">", big=True), 8),
}
MAGICS: Final = tuple(_FLAVOURS)


def probe_tiff(data: bytes) -> ImageHeader:
    """Read the first directory of a TIFF file and count the others."""
    layout, first = _open(data)
    entries, following = _directory(data, layout, first)
    width, height = (_measure(data, layout, entries.get(tag), 0) for tag in (_WIDTH, _HEIGHT))
    header = ImageHeader(
        format="tiff",
        width=width,
        height=height,
        frames=_count_pages(data, layout, first, following),
        exif_orientation=_valid_orientation(_integer(data, layout, entries.get(_ORIENTATION), 1)),
        bit_depth=_measure(data, layout, entries.get(_BITS_PER_SAMPLE), 1),
        channels=_measure(data, layout, entries.get(_SAMPLES_PER_PIXEL), 1),
    )
    piece_width, piece_height = _piece(data, layout, entries, header)
    return replace(header, piece_bytes=piece_width * piece_height * header.bytes_per_pixel)


def exif_orientation(block: bytes) -> int:
    """Orientation in an EXIF block, with or without its ``Exif`` prefix; 1 when it says nothing sound."""
    block = block.removeprefix(b"Exif\0\0")
    try:
        layout, first = _open(block)
        entries, _ = _directory(block, layout, first)
        return _valid_orientation(_integer(block, layout, entries.get(_ORIENTATION), 1))
    except UndecodableImage:
        # A broken side note is no reason to refuse the picture.
        return 1


def _open(data: bytes) -> tuple[_Layout, int]:
    flavour = _FLAVOURS.get(data[:4])
    if flavour is None:
        raise damaged("tiff", "it does not begin as one")
    layout, place = flavour
    (first,) = unpack(layout.offset, data, place, "tiff")
    return layout, first


def _directory(data: bytes, layout: _Layout, offset: int) -> tuple[dict[int, _Entry], int]:
    """Entries of the directory at `offset`, and the offset of the next one (0: none)."""
    (count,) = unpack(layout.count, data, offset, "tiff")
    if count > _MAX_ENTRIES:
        raise damaged("tiff", f"a directory with {count} entries")
    begin = offset + layout.count.size
    end = begin + count * layout.entry.size
    if end > len(data):
        raise damaged("tiff", "the directory ends too early")
    entries: dict[int, _Entry] = {}
    for tag, kind, values, raw in layout.entry.iter_unpack(data[begin:end]):
        entry = _Entry(kind, values, raw)
        if tag in _OF_MEMORY and entries.get(tag, entry) != entry:
            raise damaged("tiff", f"two values of tag {tag}")
        entries[tag] = entry
    # Many EXIF blocks leave out the closing offset.
    following = layout.offset.unpack_from(data, end)[0] if end + layout.offset.size <= len(data) else 0
    return entries, following


def _integer(data: bytes, layout: _Layout, entry: _Entry | None, default: int) -> int:
    """First value of an entry, which stands in the entry itself if all values fit there."""
    if entry is None or entry.count == 0 or entry.type not in _INTEGER_CODES:
        return default
    value = struct.Struct(layout.order + _INTEGER_CODES[entry.type])
    if value.size * entry.count <= len(entry.raw):
        return int(value.unpack_from(entry.raw)[0])
    (place,) = layout.offset.unpack(entry.raw)
    return unpack(value, data, place, "tiff")[0]


def _piece(data: bytes, layout: _Layout, entries: dict[int, _Entry], header: ImageHeader) -> tuple[int, int]:
    """Width and height of what is unpacked at once: a strip, or a whole tile, also where it leaves the picture."""
    if _TILE_WIDTH not in entries and _TILE_LENGTH not in entries:
        rows = _measure(data, layout, entries.get(_ROWS_PER_STRIP), header.height)
        return header.width, min(rows, header.height)
    sides = tuple(_measure(data, layout, entries.get(tag), 0) for tag in (_TILE_WIDTH, _TILE_LENGTH))
    for side, of_picture in zip(sides, (header.width, header.height), strict=True):
        if side > max(_MAX_SIDE_OF_ANY_TILE, _MOST_TIMES_THE_PICTURE * of_picture):
            raise damaged("tiff", f"tiles of {sides[0]} x {sides[1]} pixels")
    return sides[0], sides[1]


def _measure(data: bytes, layout: _Layout, entry: _Entry | None, default: int) -> int:
    """First value of an entry that memory depends on."""
    # libtiff reads signed types as well, so what is not read here must not pass for something small.
    if entry is not None and entry.type not in _INTEGER_CODES:
        raise damaged("tiff", f"a size of type {entry.type}")
    return _integer(data, layout, entry, default)


def _valid_orientation(value: int) -> int:
    return value if 1 <= value <= 8 else 1


def _count_pages(data: bytes, layout: _Layout, first: int, following: int) -> int | None:
    """Length of the chain of directories; it ends where it is cut off or runs in a circle."""
    seen = {first}
    while following and following not in seen:
        if len(seen) >= _MAX_PAGES:
            return None
        if following + layout.count.size > len(data):
            break
        (count,) = layout.count.unpack_from(data, following)
        seen.add(following)
        end = following + layout.count.size + count * layout.entry.size
        if end + layout.offset.size > len(data):
            break
        (following,) = layout.offset.unpack_from(data, end)
    return len(seen)
