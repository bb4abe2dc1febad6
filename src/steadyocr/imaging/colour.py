"""From every colour mode of Pillow to 8-bit RGB, for one strip of a picture at a time.

Transparent parts are shown on white, as on paper. Samples wider than 8 bits keep their full range: black
stays black and white stays white.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

UInt8Array = NDArray[np.uint8]
Converter = Callable[[Image.Image], UInt8Array]

_WIDE_MODES: Final = frozenset({"I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
# Modes that Pillow converts to RGB or RGBA only by way of another one.
_DETOURS: Final = {"La": "LA"}
# Looked through at once for their range.
_RANGE_PIXELS: Final = 1 << 20
_TIFF_BITS_PER_SAMPLE: Final = 258
_TIFF_PHOTOMETRIC: Final = 262


def converter_to_rgb(image: Image.Image) -> Converter:
    """Return a function that turns a strip of `image` into an (h, w, 3) array.

    Args:
        image: The whole picture, loaded; wide samples are looked through for their range.
    """
    if image.mode in _WIDE_MODES:
        return _wide_converter(image)
    if image.mode == "LAB":
        return _lab_converter()
    if image.has_transparency_data and not _alpha_is_unused(image):
        return flatten_on_white
    return _plain


def _alpha_is_unused(image: Image.Image) -> bool:
    """Whether nobody has filled the fourth byte in, as in many bitmaps of four bytes a pixel: all of it is zero."""
    return image.format == "BMP" and image.mode == "RGBA" and image.getchannel("A").getextrema() == (0, 0)


def _plain(strip: Image.Image) -> UInt8Array:
    return np.asarray(strip if strip.mode == "RGB" else strip.convert("RGB"))


def flatten_on_white(strip: Image.Image) -> UInt8Array:
    """Lay a strip of any transparent mode on white paper."""
    rgba = strip.convert(_DETOURS.get(strip.mode, strip.mode)).convert("RGBA")
    paper = Image.new("RGB", strip.size, "white")
    paper.paste(rgba, mask=rgba.getchannel("A"))
    return np.asarray(paper)


def _lab_converter() -> Converter:
    transform = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")

    def convert(strip: Image.Image) -> UInt8Array:
        return np.asarray(ImageCms.applyTransform(strip, transform))

    return convert


def _wide_converter(image: Image.Image) -> Converter:
    """16 and 32 bit integers and floats: one gray channel, brought to 0..255 by a range that fits it."""
    low, high = (0.0, _full_scale(image)) if image.mode.startswith("I;16") else _range_of(image)
    # Pillow turns 8-bit TIFF pictures round whose zero is white, but not the wider ones.
    zero_is_white = getattr(image, "tag_v2", {}).get(_TIFF_PHOTOMETRIC) == 0
    if zero_is_white:
        low, high = high, low
    # The one gray that a PNG picture says is nothing at all.
    clear = image.info.get("transparency")
    factor = np.float32(255.0 / (high - low))

    def convert(strip: Image.Image) -> UInt8Array:
        gray = (np.asarray(strip).astype(np.float32) - np.float32(low)) * factor
        np.nan_to_num(gray, copy=False, nan=0.0)
        np.clip(np.rint(gray, out=gray), 0.0, 255.0, out=gray)
        if isinstance(clear, int):
            gray[np.asarray(strip) == clear] = 255.0
        return np.repeat(gray.astype(np.uint8)[..., None], 3, axis=2)

    return convert


def _full_scale(image: Image.Image) -> float:
    """The largest sample: TIFF pictures have them of 12 bits, too."""
    bits = getattr(image, "tag_v2", {}).get(_TIFF_BITS_PER_SAMPLE, (16,))
    return float(2 ** int(bits[0] if isinstance(bits, tuple) else bits) - 1)


def _range_of(image: Image.Image) -> tuple[float, float]:
    """Values that stand for black and white: the usual range that holds all samples, else their own."""
    step = max(1, _RANGE_PIXELS // image.width)
    # Some rows at a time: the whole as an array is as large again as what Pillow holds.
    strips = (image.crop((0, top, image.width, min(top + step, image.height))) for top in range(0, image.height, step))
    extremes = [found for found in map(_finite_extremes, map(np.asarray, strips)) if found is not None]
    low = min((low for low, _ in extremes), default=0.0)
    high = max((high for _, high in extremes), default=0.0)
    usual = (255.0, 65535.0) if image.mode.startswith("I") else (1.0, 255.0, 65535.0)
    for top in usual:
        if low >= 0.0 and high <= top:
            return 0.0, top
    # All alike: a blank page.
    return (low, high) if low < high else (low, low + 1.0)


def _finite_extremes(samples: NDArray[np.int32] | NDArray[np.float32]) -> tuple[float, float] | None:
    finite = np.isfinite(samples)
    if not finite.any():
        return None
    low = samples.min(where=finite, initial=np.inf) if samples.dtype.kind == "f" else samples.min()
    high = samples.max(where=finite, initial=-np.inf) if samples.dtype.kind == "f" else samples.max()
    return float(low), float(high)
