"""Reading the pictures of a data set, as the service reads what it is sent.

JPEG alone goes through OpenCV: the same pixels, there is no transparency in it, and training, which decodes all the
time, has pages of a megapixel in 6 ms instead of 10.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from steadyocr.errors import DatasetError, InputError
from steadyocr.imaging.decode import decode
from steadyocr.imaging.header import ImageLimits

# Far above what is served; they keep a header that announces anything from filling the memory.
_LIMITS: Final = ImageLimits(max_bytes=1 << 30, max_pixels=1 << 28, max_side_ratio=65_500.0)
_JPEG: Final = b"\xff\xd8"


def read_image(path: Path) -> NDArray[np.uint8]:
    """Decode a picture as viewed, (H, W, 3) uint8 RGB, transparent parts on white."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from error
    if data.startswith(_JPEG):
        return _jpeg(data, path)
    try:
        return decode(data, _LIMITS).pixels
    except InputError as error:
        raise DatasetError(f"{path}: not a picture that can be decoded: {error.message}") from error


def _jpeg(data: bytes, path: Path) -> NDArray[np.uint8]:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise DatasetError(f"{path}: not a picture that can be decoded: its size is out of all reason") from error
    if image is None:
        raise DatasetError(f"{path}: not a picture that can be decoded")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
