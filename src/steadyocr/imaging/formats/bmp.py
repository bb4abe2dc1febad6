"""BMP headers, from OS/2 version 1 to Windows version 5."""

from __future__ import annotations

import struct
from typing import Final

from steadyocr.imaging.formats.common import ImageHeader, damaged, unpack

_SIZE: Final = struct.Struct("<I")
_CORE: Final = struct.Struct("<HHHH")
_INFO: Final = struct.Struct("<iiHH")
_CORE_SIZE: Final = 12
_INFO_SIZES: Final = (40, 52, 56, 64, 108, 124)

_CHANNELS: Final = {1: 1, 4: 1, 8: 1, 16: 3, 24: 3, 32: 4}


def looks_like_bmp(data: bytes) -> bool:
    """Whether `data` begins as a BMP file; two letters alone would take in plain text."""
    if not data.startswith(b"BM"):
        return False
    if len(data) < 18:
        return True
    return _SIZE.unpack_from(data, 14)[0] in (_CORE_SIZE, *_INFO_SIZES)


def probe_bmp(data: bytes) -> ImageHeader:
    """Read the information header; a negative height only means top row first."""
    (header_size,) = unpack(_SIZE, data, 14, "bmp")
    layout = _CORE if header_size == _CORE_SIZE else _INFO
    width, height, _, bits = unpack(layout, data, 18, "bmp")
    if bits not in _CHANNELS:
        raise damaged("bmp", f"{bits} bits per pixel")
    channels = _CHANNELS[bits]
    return ImageHeader("bmp", max(width, 0), abs(height), 1, 1, max(1, bits // channels), channels)
