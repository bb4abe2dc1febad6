"""PNG headers, animated PNG included."""

from __future__ import annotations

import struct
from typing import Final

from steadyocr.imaging.formats.common import ImageHeader, damaged, unpack
from steadyocr.imaging.formats.tiff import exif_orientation

MAGIC: Final = b"\x89PNG\r\n\x1a\n"

_CHUNK: Final = struct.Struct(">I4s")
_IHDR: Final = struct.Struct(">IIBB")
_FRAME_COUNT: Final = struct.Struct(">I")

_CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# 32 MB in pieces of 1 KB; libpng writes pieces of 8 KB. Decoders take them one by one.
_MAX_CHUNKS: Final = 32_768
# All that pixels depend on (PNG 1.2, section 4.1); the rest are side notes.
_OF_PIXELS: Final = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_CHUNK_END_BYTES: Final = 4


def probe_png(data: bytes) -> ImageHeader:
    """Read IHDR, then walk the chunks for EXIF and the number of frames."""
    if not data.startswith(MAGIC) or data[12:16] != b"IHDR":
        raise damaged("png", "it does not begin with IHDR")
    width, height, bit_depth, colour_type = unpack(_IHDR, data, 16, "png")
    if colour_type not in _CHANNELS:
        raise damaged("png", f"unknown colour type {colour_type}")
    orientation, frames = _walk(data)
    return ImageHeader("png", width, height, frames, orientation, bit_depth, _CHANNELS[colour_type])


def without_side_notes(data: bytes | memoryview) -> bytes | memoryview:
    """Return the same still picture without texts, profiles, times and further frames.

    Pillow refuses a picture for a damaged side note, and for one that unpacks to more than a megabyte, such as the
    drawing that some programs keep in the picture of it.
    """
    whole = memoryview(data)
    parts, offset = [whole[: len(MAGIC)]], len(MAGIC)
    while offset + _CHUNK.size <= len(whole):
        length, kind = _CHUNK.unpack_from(whole, offset)
        end = offset + _CHUNK.size + length + _CHUNK_END_BYTES
        if kind in _OF_PIXELS:
            parts.append(whole[offset:end])
        if kind == b"IEND":
            break
        offset = end
    return data if sum(map(len, parts)) == len(whole) else b"".join(parts)


def _walk(data: bytes) -> tuple[int, int]:
    """Orientation and number of frames."""
    offset = len(MAGIC)
    exif: bytes | None = None
    animated_frames = 0
    still_outside_animation = False
    before: set[bytes] = set()
    for _ in range(_MAX_CHUNKS):
        if offset + _CHUNK.size > len(data):
            break
        length, kind = _CHUNK.unpack_from(data, offset)
        body = offset + _CHUNK.size
        if kind == b"eXIf" and exif is None:
            exif = data[body : body + length]
        elif kind == b"acTL" and b"IDAT" not in before and length >= _FRAME_COUNT.size:
            (animated_frames,) = unpack(_FRAME_COUNT, data, body, "png")
        elif kind == b"IDAT" and b"IDAT" not in before:
            still_outside_animation = b"fcTL" not in before
        elif kind == b"IEND":
            break
        before.add(kind)
        offset = body + length + 4
    else:
        raise damaged("png", f"more than {_MAX_CHUNKS} chunks")
    frames = animated_frames + still_outside_animation if animated_frames else 1
    return exif_orientation(exif) if exif is not None else 1, frames
