"""WebP headers: lossy (VP8), lossless (VP8L) and extended (VP8X)."""

from __future__ import annotations

import struct
from typing import Final

from steadyocr.imaging.formats.common import ImageHeader, damaged, unpack
from steadyocr.imaging.formats.tiff import exif_orientation

_CHUNK: Final = struct.Struct("<4sI")
_VP8: Final = struct.Struct("<3s3sHH")
_VP8L: Final = struct.Struct("<BI")
# The canvas sides are 24 bits each, read here as 16 + 8.
_VP8X: Final = struct.Struct("<B3xHBHB")

_FIRST_CHUNK: Final = 12
_FIRST_BODY: Final = _FIRST_CHUNK + _CHUNK.size
_ANIMATED, _ALPHA = 0x02, 0x10
# At this many the count of frames is given up: a few milliseconds.
_MAX_CHUNKS: Final = 32_768


def looks_like_webp(data: bytes) -> bool:
    """Whether `data` begins as a WebP file."""
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def probe_webp(data: bytes) -> ImageHeader:
    """Read the first chunk; of an extended file, walk the others for EXIF and frames."""
    kind = data[_FIRST_CHUNK : _FIRST_CHUNK + 4]
    if kind == b"VP8 ":
        return _probe_lossy(data)
    if kind == b"VP8L":
        return _probe_lossless(data)
    if kind == b"VP8X":
        return _probe_extended(data)
    raise damaged("webp", "unknown first chunk")


def _probe_lossy(data: bytes) -> ImageHeader:
    _, start_code, width, height = _VP8.unpack(_body(data, _VP8.size))
    if start_code != b"\x9d\x01\x2a":
        raise damaged("webp", "no start code")
    return ImageHeader("webp", width & 0x3FFF, height & 0x3FFF, 1, 1, 8, 3)


def _probe_lossless(data: bytes) -> ImageHeader:
    signature, packed = unpack(_VP8L, data, _FIRST_BODY, "webp")
    if signature != 0x2F:
        raise damaged("webp", "no signature")
    channels = 4 if packed >> 28 & 1 else 3
    return ImageHeader("webp", (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1, 1, 1, 8, channels)


def _probe_extended(data: bytes) -> ImageHeader:
    flags, width_low, width_high, height_low, height_high = unpack(_VP8X, data, _FIRST_BODY, "webp")
    orientation, frames = _walk(data)
    return ImageHeader(
        format="webp",
        width=(width_high << 16 | width_low) + 1,
        height=(height_high << 16 | height_low) + 1,
        frames=frames if flags & _ANIMATED else 1,
        exif_orientation=orientation,
        bit_depth=8,
        channels=4 if flags & _ALPHA else 3,
    )


def _body(data: bytes, size: int) -> bytes:
    body = data[_FIRST_BODY : _FIRST_BODY + size]
    if len(body) < size:
        raise damaged("webp", "it ends too early")
    return body


def _walk(data: bytes) -> tuple[int, int | None]:
    """Orientation, and the number of animation frames or ``None`` when there are none or too many chunks."""
    offset, frames, orientation = _FIRST_CHUNK, 0, None
    for _ in range(_MAX_CHUNKS):
        if offset + _CHUNK.size > len(data):
            return orientation or 1, frames or None
        kind, length = _CHUNK.unpack_from(data, offset)
        body = offset + _CHUNK.size
        if kind == b"EXIF" and orientation is None:
            orientation = exif_orientation(data[body : body + length])
        frames += kind == b"ANMF"
        # Chunks begin at even places.
        offset = body + length + (length & 1)
    return orientation or 1, None
