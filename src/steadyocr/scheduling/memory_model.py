"""How much memory a picture will take, predicted from its header.

An engine measures its peak for pictures of several shapes and fits::

    peak = idle + payload + max(decoding, per_pixel x stored pixels + per_network_pixel x network pixels)   (bytes)

The two sides of the maximum are two moments: while the picture is unpacked, and while the network works and the
unpacked picture waits. Decoding follows from the header alone (measured on six formats: within 2 %). Lines are not
known before detection; the calibration pictures are dense with text, so their share is in the slopes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from steadyocr.imaging.formats.common import ImageHeader
from steadyocr.imaging.plan import plan_resize

TILE_SIDE: Final = 1280
# The stitched map and its binary copies, bytes for each picture pixel.
_TILED_MAP_BYTES: Final = 3.0
# The encoded bytes lie in the engine twice: as received and as handed to the decoder. Of a PNG that is a third copy,
# without its side notes.
_PAYLOAD_COPIES: Final = 2
_PAYLOAD_COPIES_OF_PNG: Final = 3

# Two canvases of libwebp, the frame as bytes and the picture, all of four bytes a pixel.
_ANIMATED_WEBP_BYTES: Final = 16.0

# No machine has so much; a figure beyond it is damage.
_MOST: Final = 1e15

# Side limits to try, largest first, when a picture does not fit at full quality.
SIDE_STEPS: Final = (1280, 960, 736, 512, 320)


@dataclass(frozen=True, slots=True)
class MemoryFit:
    """The fitted model; without a measurement, a cautious guess.

    Attributes:
        base: Engine with nothing in hand when it was measured, in bytes.
        per_pixel: Bytes for each stored pixel while the network works.
        per_network_pixel: Bytes for each pixel of the network's input.
        device_per_network_pixel: The same in an accelerator's memory; 0 without one.
        samples: Measurements behind it; 0 for the guess.
        worst_error: Largest relative error on those, as a share.
    """

    base: float = 400e6
    per_pixel: float = 9.0
    per_network_pixel: float = 250.0
    device_per_network_pixel: float = 0.0
    samples: int = 0
    worst_error: float = 0.0

    def extra_bytes(self, header: ImageHeader, max_side: int, payload_bytes: int = 0) -> float:
        """Predict what a picture adds to an idle engine, in bytes.

        Args:
            header: Of the picture.
            max_side: Longest side given to the network, in pixels.
            payload_bytes: Size of the encoded picture.
        """
        return self._extra(header, network_pixels(header, max_side), payload_bytes)

    def tiled_extra_bytes(self, header: ImageHeader, max_side: int, payload_bytes: int = 0) -> float:
        """Predict what it adds when it is read in tiles: the larger of one tile and the shrunk whole, and maps."""
        return self._extra(header, tiled_network_pixels(header, max_side), payload_bytes) + (
            _TILED_MAP_BYTES * header.pixels
        )

    def device_extra_bytes(self, header: ImageHeader, max_side: int) -> float:
        """Predict what a picture adds in an accelerator's memory, in bytes."""
        return self.device_per_network_pixel * network_pixels(header, max_side)

    def tiled_device_extra_bytes(self, header: ImageHeader, max_side: int) -> float:
        """Predict the same when it is read in tiles: the larger of one tile and the shrunk whole."""
        return self.device_per_network_pixel * tiled_network_pixels(header, max_side)

    def _extra(self, header: ImageHeader, network: int, payload_bytes: int) -> float:
        working = self.per_pixel * header.pixels + self.per_network_pixel * network
        copies = _PAYLOAD_COPIES_OF_PNG if header.format == "png" else _PAYLOAD_COPIES
        return copies * payload_bytes + max(decoding_bytes(header), working)

    def to_wire(self) -> dict[str, Any]:
        """Return plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_wire(cls, values: object) -> MemoryFit:
        """Build from plain values; what an older or damaged file has too much, or that is no measurement, is left out.

        With anything left out that should be there, it counts as a guess and is measured again.
        """
        if not isinstance(values, Mapping):
            return cls()
        known = {field.name: values[field.name] for field in dataclasses.fields(cls) if field.name in values}
        usable = {name: value for name, value in known.items() if _is_measurement(value)}
        usable["samples"] = int(usable.get("samples", 0)) if len(usable) == len(known) else 0
        return cls(**usable)


def _is_measurement(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _MOST


def network_pixels(header: ImageHeader, max_side: int) -> int:
    """Size of the network's input for a picture, in pixels."""
    plan = plan_resize(*header.viewed_size, max_side)
    return plan.padded_width * plan.padded_height


def tiled_network_pixels(header: ImageHeader, max_side: int) -> int:
    """Size of the largest network input for a picture that is read in tiles: a tile, or the shrunk whole."""
    return max(network_pixels(header, max_side), min(header.pixels, TILE_SIDE * TILE_SIDE))


def decoding_bytes(header: ImageHeader) -> float:
    """Predict the peak of unpacking a picture: the RGB copy, the decoder's own, and a flattened one with alpha."""
    if header.format == "webp" and header.frames != 1:
        return 1.1 * _ANIMATED_WEBP_BYTES * header.pixels
    own = _own_bytes(header)
    # Pillow turns a TIFF itself, into a second picture, while it still holds the strip or tile.
    turned = own if header.format == "tiff" and header.exif_orientation != 1 else 0.0
    # Coefficients of two bytes, and tiles and strips, are gone before the RGB copy is made.
    copies = 7.0 if header.channels in (2, 4) else 3.0
    while_unpacked = max(2.0 * header.kept_samples, turned) * header.pixels + header.piece_bytes
    return 1.1 * (own * header.pixels + max(copies * header.pixels, while_unpacked))


def _own_bytes(header: ImageHeader) -> float:
    """Bytes a pixel in the hands of the decoder."""
    colour, alpha = header.channels >= 3, header.channels in (2, 4)
    if header.format == "webp":
        return 4.0 if alpha else 3.0
    # Pillow keeps colour pixels and wide grays in four bytes each, grays of 16 bits in two, other grays and palettes in
    # one, which is copied in strips.
    return 4.0 if colour or alpha or header.bit_depth > 16 else 2.0 if header.bit_depth > 8 else 1.5


def largest_fitting_side(max_side: int, fits: Callable[[int], bool]) -> int | None:
    """Return the largest side limit, at most ``max_side``, at which a picture fits; ``None`` when none does."""
    sides = (max_side, *(step for step in SIDE_STEPS if step < max_side))
    return next((side for side in sides if fits(side)), None)
