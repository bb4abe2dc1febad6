"""JPEG headers: the markers up to the first scan, read as libjpeg reads them."""

from __future__ import annotations

import re
import struct
from dataclasses import replace
from typing import Final

from steadyocr.imaging.formats.common import ImageHeader, damaged, unpack
from steadyocr.imaging.formats.tiff import exif_orientation

_LENGTH: Final = struct.Struct(">H")
_FRAME: Final = struct.Struct(">BHHB")

_TEM, _EOI, _SOS, _APP1 = 0x01, 0xD9, 0xDA, 0xE1
_RESTARTS: Final = range(0xD0, 0xD8)
# C4, C8 and CC are tables, not frames.
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE: Final = frozenset({0xC2, 0xC6, 0xCA, 0xCE})

# 33 MB of full segments are 512; more than this is nobody's camera.
_MAX_SEGMENTS: Final = 4096
# Bytes that may stand between segments. Decoders step over them one by one: a hostile file could use that.
_MAX_SKIPPED_BYTES: Final = 65_536
# A progressive file has about ten scans; each costs a pass over the whole picture however small it is.
_MAX_SCANS: Final = 128

# A marker inside or after a scan: not a stuffed zero, not a restart, not a fill byte.
_MARKER_IN_SCAN: Final = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")


def probe_jpeg(data: bytes) -> ImageHeader:
    """Read the segments before the first scan."""
    offset, skipped = 2, 0
    frame: tuple[int, ...] | None = None
    samples, progressive = 0.0, False
    orientation: int | None = None
    for _ in range(_MAX_SEGMENTS):
        marker, segment = _next_marker(data, offset)
        skipped += segment - offset - 2
        if skipped > _MAX_SKIPPED_BYTES:
            raise damaged("jpeg", "too many stray bytes")
        if marker == _TEM or marker in _RESTARTS:
            offset = segment
            continue
        if marker in (_EOI, _SOS):
            header = _header(data, segment, marker, frame, orientation)
            # libjpeg keeps coefficients also where channels come in scans of their own.
            kept = progressive or data[segment + 2 : segment + 3] < bytes((header.channels,))
            return replace(header, kept_samples=samples if kept else 0.0)
        (length,) = unpack(_LENGTH, data, segment, "jpeg")
        if length < 2:
            raise damaged("jpeg", "a segment without length")
        if marker in _FRAMES:
            if frame is not None:
                raise damaged("jpeg", "two frames")
            frame = unpack(_FRAME, data, segment + 2, "jpeg")
            samples, progressive = _samples(data, segment + 2 + _FRAME.size, frame[3]), marker in _PROGRESSIVE
        elif marker == _APP1 and orientation is None and data[segment + 2 : segment + 8] == b"Exif\0\0":
            orientation = exif_orientation(data[segment + 2 : segment + length])
        offset = segment + length
    raise damaged("jpeg", "too many segments")


def _header(
    data: bytes, segment: int, marker: int, frame: tuple[int, ...] | None, orientation: int | None
) -> ImageHeader:
    if frame is None or marker == _EOI:
        raise damaged("jpeg", "no picture in it")
    # The quick count sees every scan and more; only a high one is looked into.
    if data.count(b"\xff\xda", segment) >= _MAX_SCANS and _count_scans(data, segment) > _MAX_SCANS:
        raise damaged("jpeg", f"more than {_MAX_SCANS} scans")
    bit_depth, height, width, channels = frame
    return ImageHeader("jpeg", width, height, 1, orientation or 1, bit_depth, channels)


def _samples(data: bytes, at: int, channels: int) -> float:
    """Samples of a pixel over all channels, those with fewer counted as such: 1.5 where colour is halved both ways."""
    factors = [((both >> 4) or 1, (both & 15) or 1) for both in data[at + 1 : at + 3 * channels : 3]]
    if not factors:
        return 0.0
    widest, highest = max(wide for wide, _ in factors), max(high for _, high in factors)
    return sum(wide * high for wide, high in factors) / (widest * highest)


def _next_marker(data: bytes, offset: int) -> tuple[int, int]:
    """The next marker and the offset behind it, stepping over stray bytes, stuffed zeros and fill bytes."""
    for _ in range(_MAX_SKIPPED_BYTES):
        start = data.find(b"\xff", offset)
        if start < 0 or start + 1 >= len(data):
            raise damaged("jpeg", "it ends before the picture")
        code = data[start + 1]
        if code == 0xFF:
            offset = start + 1
        elif code == 0:
            offset = start + 2
        else:
            return code, start + 2
    raise damaged("jpeg", "too many stray bytes")


def _count_scans(data: bytes, segment: int) -> int:
    """Scans of the picture whose first scan header is at `segment`, counted to one past the limit at most."""
    scans, place = 1, segment
    for _ in range(_MAX_SEGMENTS):
        if place + 2 > len(data):
            break
        found = _MARKER_IN_SCAN.search(data, place + _LENGTH.unpack_from(data, place)[0])
        if found is None or found[1][0] == _EOI:
            break
        scans += found[1][0] == _SOS
        if scans > _MAX_SCANS:
            break
        place = found.end()
    return scans
