"""What a picture file is, from its first bytes, and whether it may come in.

Pure Python: the front process checks every upload with it and must not load a picture library. Nothing is
decoded, every walk through the file has an upper bound, and whatever the bytes are, only the three errors of
:func:`probe` come out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from steadyocr.errors import (
    EmptyInput,
    PayloadTooLarge,
    SideRatioExceeded,
    TooManyPixels,
    UnsupportedMediaType,
)
from steadyocr.imaging.formats import tiff
from steadyocr.imaging.formats.bmp import looks_like_bmp, probe_bmp
from steadyocr.imaging.formats.common import ImageHeader, damaged
from steadyocr.imaging.formats.gif import probe_gif
from steadyocr.imaging.formats.jpeg import probe_jpeg
from steadyocr.imaging.formats.png import MAGIC as PNG_MAGIC
from steadyocr.imaging.formats.png import probe_png
from steadyocr.imaging.formats.webp import looks_like_webp, probe_webp

__all__ = ["ImageHeader", "ImageLimits", "check_limits", "check_size", "format_of", "probe"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageLimits:
    """What a picture may be at most.

    Attributes:
        max_bytes: Size of the file, in bytes.
        max_pixels: Width times height, in pixels.
        max_side: Longer side, in pixels.
        max_side_ratio: Longer side divided by shorter side.
    """

    max_bytes: int = 33_554_432
    max_pixels: int = 64_000_000
    max_side: int = 65_500
    max_side_ratio: float = 100.0


_Test = Callable[[bytes], bool]
_Parser = Callable[[bytes], ImageHeader]

_FORMATS: Final[tuple[tuple[str, _Test, _Parser], ...]] = (
    ("jpeg", lambda data: data.startswith(b"\xff\xd8"), probe_jpeg),
    ("png", lambda data: data.startswith(PNG_MAGIC[:4]), probe_png),
    ("gif", lambda data: data.startswith((b"GIF87a", b"GIF89a")), probe_gif),
    ("tiff", lambda data: data.startswith(tiff.MAGICS), tiff.probe_tiff),
    ("webp", looks_like_webp, probe_webp),
    ("bmp", looks_like_bmp, probe_bmp),
)

# What is not read here but often sent: where its mark stands, the mark, its name.
_FOREIGN: Final = (
    (0, b"%PDF", "PDF"),
    (4, b"ftypavi", "AVIF"),
    (4, b"ftyphe", "HEIC"),
    (4, b"ftypmif1", "HEIC"),
    (4, b"ftypmsf1", "HEIC"),
    (4, b"ftyp", "video"),
    (4, b"jP  ", "JPEG 2000"),
    (4, b"JXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"8BPS", "Photoshop"),
    (0, b"\0\0\1\0", "icon"),
    (0, b"PK\3\4", "ZIP archive or Office document"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"<svg", "SVG"),
    (0, b"<", "HTML or XML"),
)
_PRINTABLE: Final = frozenset(range(0x20, 0x7F)) | {0x09, 0x0A, 0x0D}


def probe(data: bytes | memoryview) -> ImageHeader:
    """Read the header of a picture.

    Args:
        data: The whole file; a memoryview is copied.

    Raises:
        EmptyInput: There are no bytes.
        UnsupportedMediaType: The format is not one that is read here.
        UndecodableImage: It is, but the header is damaged, cut off, or announces no pixels.
    """
    data = bytes(data)
    if not data:
        raise EmptyInput("The picture is empty. Send the bytes of a picture file.")
    for _, test, parser in _FORMATS:
        if test(data):
            header = parser(data)
            if header.pixels == 0:
                raise damaged(header.format, f"it announces {header.width} x {header.height} pixels")
            return header
    kind = _foreign_name(data)
    raise UnsupportedMediaType(
        f"This is not a picture format that is read here ({kind}). Send JPEG, PNG, BMP, WebP, TIFF or GIF.",
        detected=kind,
    )


def format_of(data: bytes) -> str | None:
    """Name the format by the first bytes alone, as ``ImageHeader.format`` does; ``None`` is none that is read here."""
    return next((name for name, test, _ in _FORMATS if test(data)), None)


def check_size(size_bytes: int, limits: ImageLimits) -> None:
    """Refuse a file that has too many bytes.

    Raises:
        PayloadTooLarge: It has.
    """
    if size_bytes > limits.max_bytes:
        raise PayloadTooLarge(
            f"The picture has {size_bytes} bytes; the limit is {limits.max_bytes}.",
            size_bytes=size_bytes,
            max_bytes=limits.max_bytes,
        )


def check_limits(header: ImageHeader, limits: ImageLimits) -> None:
    """Refuse a picture by the size that its header announces.

    Raises:
        TooManyPixels: Too many pixels in all, or along one side.
        SideRatioExceeded: Too long and thin.
    """
    longer, shorter = max(header.width, header.height), min(header.width, header.height)
    size = f"{header.width} x {header.height} pixels"
    if header.pixels > limits.max_pixels or longer > limits.max_side:
        raise TooManyPixels(
            f"The picture has {size}; the limit is {limits.max_pixels} in all and {limits.max_side} along "
            "one side. Send a smaller one.",
            width=header.width,
            height=header.height,
            max_pixels=limits.max_pixels,
            max_side=limits.max_side,
        )
    if longer > limits.max_side_ratio * shorter:
        raise SideRatioExceeded(
            f"The picture has {size}; the longer side may be at most {limits.max_side_ratio:g} times the "
            "shorter one. Cut it into pieces.",
            width=header.width,
            height=header.height,
            max_side_ratio=limits.max_side_ratio,
        )


def _foreign_name(data: bytes) -> str:
    head = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    for offset, mark, name in _FOREIGN:
        if head.startswith(mark, offset):
            return name
    return "text" if _PRINTABLE.issuperset(head) else "unknown"
