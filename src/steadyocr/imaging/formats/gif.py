"""GIF headers: the screen, the first frame's place on it, and the number of frames."""

from __future__ import annotations

import struct
from typing import Final

from steadyocr.imaging.formats.common import ImageHeader, damaged, unpack

_SCREEN: Final = struct.Struct("<HHB")
_FRAME: Final = struct.Struct("<HHHHB")

_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B
# Pillow gathers the comments before the first frame piece by piece, in quadratic time.
_MAX_BLOCKS_BEFORE_FRAME: Final = 4096
# At this many the count of frames is given up: about 20 ms.
_MAX_BLOCKS: Final = 150_000


def probe_gif(data: bytes) -> ImageHeader:
    """Read the screen size, widened by a first frame that reaches beyond it as decoders do."""
    width, height, flags = unpack(_SCREEN, data, 6, "gif")
    # Signature 6 bytes, screen descriptor 7, then the palette.
    offset = _to_frame(data, 13 + _palette_size(flags))
    left, top, frame_width, frame_height, _ = unpack(_FRAME, data, offset + 1, "gif")
    if frame_width == 0 or frame_height == 0:
        raise damaged("gif", "an empty frame")
    return ImageHeader(
        format="gif",
        width=max(width, left + frame_width),
        height=max(height, top + frame_height),
        frames=_count_frames(data, offset),
        exif_orientation=1,
        bit_depth=8,
        channels=1,
    )


def _palette_size(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _to_frame(data: bytes, offset: int) -> int:
    """Offset of the first image descriptor."""
    blocks = 0
    while blocks < _MAX_BLOCKS_BEFORE_FRAME:
        if offset >= len(data) or data[offset] == _TRAILER:
            raise damaged("gif", "it holds no frame")
        if data[offset] == _IMAGE:
            return offset
        blocks += 1
        if data[offset] == _EXTENSION:
            offset, passed = _skip_blocks(data, offset + 2, _MAX_BLOCKS_BEFORE_FRAME)
            blocks += passed
        else:
            offset += 1
    raise damaged("gif", "too much before the first frame")


def _skip_blocks(data: bytes, offset: int, limit: int) -> tuple[int, int]:
    """Step over a run of sub-blocks; return the offset behind it and how many they were."""
    passed = 0
    while offset < len(data) and data[offset] and passed < limit:
        offset += data[offset] + 1
        passed += 1
    return offset + 1, passed


def _count_frames(data: bytes, offset: int) -> int | None:
    """Image descriptors from `offset` on; ``None`` when there are too many blocks to walk."""
    frames = blocks = 0
    while offset < len(data) and data[offset] != _TRAILER:
        kind = data[offset]
        if kind == _IMAGE:
            if offset + _FRAME.size >= len(data):
                break
            frames += 1
            # Descriptor, palette, and one byte of code size.
            start = offset + 1 + _FRAME.size + _palette_size(data[offset + _FRAME.size]) + 1
            offset, passed = _skip_blocks(data, start, _MAX_BLOCKS)
        elif kind == _EXTENSION:
            offset, passed = _skip_blocks(data, offset + 2, _MAX_BLOCKS)
        else:
            offset, passed = offset + 1, 0
        blocks += passed + 1
        if blocks > _MAX_BLOCKS:
            return None
    return frames
