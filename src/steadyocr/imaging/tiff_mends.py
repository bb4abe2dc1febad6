"""TIFF pictures that Pillow 13 would read wrongly, without a word, are opened so that it reads them right."""

from __future__ import annotations

import io
from typing import Any, Final, cast

from PIL import Image, ImagePalette, TiffImagePlugin

_COLOUR_MAP: Final = 320
_PLANES: Final = 284
_APART: Final = 2
_LARGEST_BYTE: Final = 255

# libtiff hands out samples in the order of the machine already; Pillow would turn these round once more.
_AS_UNPACKED: Final = {
    "F;32F": "F;32NF",
    "F;32BF": "F;32NF",
    "I;32S": "I;32NS",
    "I;32BS": "I;32NS",
    "I;16S": "I;16NS",
    "I;16BS": "I;16NS",
}


def open_tiff(data: bytes | memoryview) -> Image.Image:
    """Open the first page, nothing of it unpacked yet. Not for several threads at once."""
    image = _opened(data)
    image.tile = [
        tile._replace(args=_in_order_of_the_machine(tile.args)) if tile.codec_name == "libtiff" else tile
        for tile in image.tile
    ]
    colours = image.tag_v2.get(_COLOUR_MAP)
    # Colours are 16 bits wide, but some programs write 8, of which Pillow keeps the upper ones: all black.
    if image.palette is not None and colours and max(colours) <= _LARGEST_BYTE:
        image.palette = ImagePalette.raw("RGB;L", bytes(colours))
    return image


def _opened(data: bytes | memoryview) -> TiffImagePlugin.TiffImageFile:
    image = _with_pillow(data)
    if image.tag_v2.get(_PLANES) != _APART or image.info["compression"] != "raw":
        return image
    # Where the channels lie apart, Pillow's own unpacking takes all samples for plain bytes; libtiff does not.
    image.close()
    TiffImagePlugin.READ_LIBTIFF = True
    try:
        return _with_pillow(data)
    finally:
        TiffImagePlugin.READ_LIBTIFF = False


def _with_pillow(data: bytes | memoryview) -> TiffImagePlugin.TiffImageFile:
    return cast(TiffImagePlugin.TiffImageFile, Image.open(io.BytesIO(data), formats=["tiff"]))


def _in_order_of_the_machine(args: tuple[Any, ...] | str | None) -> tuple[Any, ...] | str | None:
    if not isinstance(args, tuple):
        return args
    return _AS_UNPACKED.get(args[0], args[0]), *args[1:]
