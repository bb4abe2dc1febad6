"""What the page's user interface wants beside a page: the probability map to keep, and a small picture for a list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from steadyocr.errors import InternalError

UInt8Array = NDArray[np.uint8]

THUMBNAIL_SIDE: Final = 192
# Level 1 is several times as fast as the default; maps are smooth and stay at some ten kilobytes.
_PNG_PARAMS: Final = (cv2.IMWRITE_PNG_COMPRESSION, 1)
_JPEG_PARAMS: Final = (cv2.IMWRITE_JPEG_QUALITY, 80)


@dataclass(frozen=True, slots=True)
class Extras:
    """What to return beside the page.

    Attributes:
        keep_map: The probability map, as bytes; the page is then made of the same bytes, so that post-processing
            them again with the same knobs gives the same quads.
        thumbnail: A small picture.
    """

    keep_map: bool = False
    thumbnail: bool = False


def pack_map(probability: UInt8Array) -> bytes:
    """Return a probability map (H, W), uint8, as the bytes of a grayscale PNG file."""
    return _encode(".png", probability, _PNG_PARAMS)


def unpack_map(data: bytes | memoryview) -> UInt8Array:
    """Return the map, (H, W) uint8, that :func:`pack_map` has packed.

    Raises:
        InternalError: These are not its bytes.
    """
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) if len(data) else None
    if found is None:
        raise InternalError("the kept probability map is damaged; send the picture again")
    return found.astype(np.uint8, copy=False)


def thumbnail_jpeg(image: UInt8Array) -> bytes:
    """Return a picture, (H, W, 3) uint8 RGB, as a JPEG file with sides of at most `THUMBNAIL_SIDE` pixels."""
    height, width = image.shape[:2]
    scale = min(1.0, THUMBNAIL_SIDE / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return _encode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), _JPEG_PARAMS)


def _encode(suffix: str, image: cv2.typing.MatLike, params: tuple[int, int]) -> bytes:
    ok, data = cv2.imencode(suffix, image, params)
    if not ok:
        raise InternalError("a picture could not be encoded")
    return data.tobytes()
