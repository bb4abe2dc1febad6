"""What every header parser shares: the result type, and reads that end in a typed error."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from steadyocr.errors import UndecodableImage


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What a picture file says about itself before anything is decoded.

    Attributes:
        format: ``jpeg``, ``png``, ``bmp``, ``webp``, ``tiff`` or ``gif``.
        width: Width as stored, in pixels.
        height: Height as stored, in pixels.
        frames: Frames or pages in the file; ``None`` when counting them would take too long.
        exif_orientation: 1 to 8; 1 when nothing, or nothing valid, is said.
        bit_depth: Bits of one stored sample.
        channels: Samples of one stored pixel; 1 for a palette.
        kept_samples: Samples of each pixel that the decoder keeps as coefficients until it has seen the whole file, as
            for a JPEG that is progressive or has several scans; 0 for what is decoded as it comes.
        piece_bytes: Size of one unpacked tile or strip of a TIFF, which the decoder holds besides the picture and
            which may be larger than it; 0 for formats without such pieces.
    """

    format: str
    width: int
    height: int
    frames: int | None
    exif_orientation: int
    bit_depth: int
    channels: int
    kept_samples: float = 0.0
    piece_bytes: int = 0

    @property
    def viewed_size(self) -> tuple[int, int]:
        """(width, height) once the orientation is applied."""
        if self.exif_orientation >= 5:
            return self.height, self.width
        return self.width, self.height

    @property
    def pixels(self) -> int:
        """Number of pixels of one frame."""
        return self.width * self.height

    @property
    def bytes_per_pixel(self) -> int:
        """Bytes that one stored pixel fills when unpacked, at least 1."""
        return max(1, (self.bit_depth * self.channels + 7) // 8)


def damaged(picture_format: str, what: str) -> UndecodableImage:
    """Make the error for a file whose format is known but whose header is not sound."""
    return UndecodableImage(
        f"The {picture_format} header is damaged or cut off: {what}. Send the complete file.",
        format=picture_format,
    )


def unpack(layout: struct.Struct, data: bytes, offset: int, picture_format: str) -> tuple[int, ...]:
    """Read integers at `offset`.

    Raises:
        UndecodableImage: `data` ends before them.
    """
    # Checked beforehand: an offset past 2**63 would not end in struct.error.
    if offset + layout.size > len(data):
        raise damaged(picture_format, "it ends too early")
    return layout.unpack_from(data, offset)
