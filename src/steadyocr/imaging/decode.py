"""From the bytes of a picture to RGB pixels: one decoder for every entrance.

Pillow reads all formats but one. OpenCV was measured for plain JPEG on two cores (Pillow 13.0 with
libjpeg-turbo 3.2 against OpenCV 5.0, pixels the same): 10.5 ms against 12.2 ms at 1920x1080, 73 ms against 82
ms at 4000x3000. That is 1.1 to 1.2 times as fast, not worth a second way of failing. The one exception is
WebP without animation: Pillow goes through libwebp's animation decoder and needs 5.4 times the size of the
RGB picture, OpenCV 2.1 times.

Pillow keeps colour pixels in four bytes each, so the picture is copied out in strips, each converted, and
turned into its viewed place, as it goes: the peak is 2.4 times the RGB size, 1.4 for gray and palettes.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from steadyocr.errors import UndecodableImage
from steadyocr.imaging.colour import UInt8Array, converter_to_rgb, flatten_on_white
from steadyocr.imaging.formats.png import without_side_notes
from steadyocr.imaging.header import ImageHeader, ImageLimits, check_limits, check_size, probe
from steadyocr.imaging.orientation import stored_to_viewed, write_strip
from steadyocr.imaging.tiff_mends import open_tiff
from steadyocr.types import ImageInfo

# Our own header check comes first and is the stricter one; Pillow's would only add a second, unconfigurable
# limit.
Image.MAX_IMAGE_PIXELS = None

# Strips of about a megabyte stay in the cache while they are converted and turned.
_STRIP_PIXELS: Final = 1 << 18

# RGB rows from the first to before the second number, as stored.
_Strips = Callable[[int, int], UInt8Array]


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """A picture as viewed.

    Attributes:
        pixels: (H, W, 3) uint8, RGB, C-contiguous.
        info: Its size, and how it was stored.
    """

    pixels: UInt8Array
    info: ImageInfo


def decode(data: bytes | memoryview, limits: ImageLimits) -> DecodedImage:
    """Decode the first frame of a picture; its limits are checked before anything is decoded.

    Not for several threads at once: Python's warning filters, which are set here, belong to the whole
    process.

    Args:
        data: The whole file.
        limits: What it may be at most.

    Raises:
        PayloadTooLarge: Too many bytes.
        EmptyInput: No bytes.
        UnsupportedMediaType: Not a format that is read here.
        TooManyPixels: The header announces too many.
        SideRatioExceeded: The header announces too thin a picture.
        UndecodableImage: It is damaged, cut off, or not what its header announces.
    """
    check_size(len(data), limits)
    header = probe(data)
    check_limits(header, limits)
    try:
        with warnings.catch_warnings():
            # What Pillow finds odd but can read is no fault of the request.
            warnings.simplefilter("ignore")
            pixels = _decode_pixels(data, header)
    except (MemoryError, UndecodableImage):
        raise
    except UnidentifiedImageError as error:
        raise UndecodableImage(
            f"The {header.format} picture is damaged or of a kind that is not read here. Save it with 8 bits a sample.",
            format=header.format,
        ) from error
    except Exception as error:
        # On hostile bytes decoders raise almost anything: OSError, SyntaxError, struct.error, KeyError, …
        raise _undecodable(header) from error
    return DecodedImage(pixels, _info(header))


def _decode_pixels(data: bytes | memoryview, header: ImageHeader) -> UInt8Array:
    if header.format == "webp" and header.frames == 1:
        return _assemble(header.viewed_size, header.height, header.exif_orientation, _webp_strips(data, header))
    with _open(data, header) as image:
        # TIFF alone is turned by Pillow itself, while it is loaded.
        turned = header.format == "tiff"
        # An orientation that only the XMP block knows is not followed, here as elsewhere.
        image.info.pop("xmp", None)
        _widen_clear_gray(image, header)
        _check_size_known(image.size, header)
        image.load()
        expected = header.viewed_size if turned else (header.width, header.height)
        if image.size != expected:
            raise _undecodable(header)
        orientation = 1 if turned else header.exif_orientation
        return _assemble(header.viewed_size, image.height, orientation, _pillow_strips(image))


def _open(data: bytes | memoryview, header: ImageHeader) -> Image.Image:
    if header.format == "tiff":
        return open_tiff(data)
    needed = without_side_notes(data) if header.format == "png" else data
    return Image.open(io.BytesIO(needed), formats=[header.format])


def _widen_clear_gray(image: Image.Image, header: ImageHeader) -> None:
    """Pillow widens grays of 2 and 4 bits to 8, but not the one that a PNG says is nothing at all."""
    clear = image.info.get("transparency")
    if header.format == "png" and image.mode == "L" and header.bit_depth in (2, 4) and isinstance(clear, int):
        most = 2**header.bit_depth - 1
        # Of its two bytes only the lowest bits count.
        image.info["transparency"] = (clear & most) * 255 // most


def _check_size_known(size: tuple[int, int], header: ImageHeader) -> None:
    """Before any pixel is read: the limits were checked on the header's size, so no other may be decoded."""
    if size not in {(header.width, header.height), header.viewed_size}:
        raise _undecodable(header)


def _assemble(size: tuple[int, int], stored_rows: int, orientation: int, strips: _Strips) -> UInt8Array:
    width, height = size
    viewed = np.empty((height, width, 3), np.uint8)
    step = max(1, _STRIP_PIXELS * stored_rows // (width * height))
    for first in range(0, stored_rows, step):
        write_strip(viewed, strips(first, min(first + step, stored_rows)), first, orientation)
    return viewed


def _pillow_strips(image: Image.Image) -> _Strips:
    convert = converter_to_rgb(image)

    def strips(first: int, end: int) -> UInt8Array:
        return convert(image.crop((0, first, image.width, end)))

    return strips


def _webp_strips(data: bytes | memoryview, header: ImageHeader) -> _Strips:
    stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    # Older OpenCV answers None where newer raises; the stubs know only the latter.
    if stored is None or stored.shape[:2] != (header.height, header.width):
        raise _undecodable(header)
    opaque = stored.shape[2] == 3

    def strips(first: int, end: int) -> UInt8Array:
        code = cv2.COLOR_BGR2RGB if opaque else cv2.COLOR_BGRA2RGBA
        rows = cv2.cvtColor(stored[first:end], code).astype(np.uint8, copy=False)
        return rows if opaque else flatten_on_white(Image.fromarray(rows))

    return strips


def _info(header: ImageHeader) -> ImageInfo:
    width, height = header.viewed_size
    return ImageInfo(
        width=width,
        height=height,
        exif_orientation=header.exif_orientation,
        stored_to_viewed=stored_to_viewed(header.exif_orientation, header.width, header.height),
        format=header.format,
        frame=0,
        frames=header.frames or 1,
    )


def _undecodable(header: ImageHeader) -> UndecodableImage:
    return UndecodableImage(
        f"The {header.format} picture is damaged or cut off. Send the complete file.", format=header.format
    )
