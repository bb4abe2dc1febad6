"""How much memory a picture will take, predicted from its header.

An engine measures its peak for pictures of several shapes and fits::

    peak = base + per_pixel x stored pixels + per_network_pixel x network pixels        (all bytes)

The first slope is decoding (the picture and the decoder's own copy), the second the network's activations. Lines are
not known before detection; the calibration pictures are dense with text, so their share is in the slopes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from steadyocr.imaging.formats.common import ImageHeader
from steadyocr.imaging.plan import plan_resize

_TILE_SIDE: Final = 1280
# The stitched map and its binary copies, bytes for each picture pixel.
_TILED_MAP_BYTES: Final = 3.0

# Side limits to try, largest first, when a picture does not fit at full quality.
SIDE_STEPS: Final = (1280, 960, 736, 512, 320)


@dataclass(frozen=True, slots=True)
class MemoryFit:
    """The fitted model; without a measurement, a cautious guess.

    Attributes:
        base: Engine with nothing in hand, in bytes.
        per_pixel: Bytes for each stored pixel.
        per_network_pixel: Bytes for each pixel of the network's input.
        samples: Measurements behind it; 0 for the guess.
        worst_error: Largest relative error on those, as a share.
    """

    base: float = 400e6
    per_pixel: float = 9.0
    per_network_pixel: float = 250.0
    samples: int = 0
    worst_error: float = 0.0

    def peak_bytes(self, pixels: int, network_pixels: int) -> float:
        """Predict the engine's peak resident memory with such a picture in hand, in bytes."""
        return self.base + self.per_pixel * pixels + self.per_network_pixel * network_pixels

    def extra_bytes(self, pixels: int, network_pixels: int) -> float:
        """Predict what the picture adds to an idle engine, in bytes."""
        return self.peak_bytes(pixels, network_pixels) - self.base

    def to_wire(self) -> dict[str, Any]:
        """Return plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_wire(cls, values: Mapping[str, Any]) -> MemoryFit:
        """Build from plain values."""
        return cls(**values)


def network_pixels(header: ImageHeader, max_side: int) -> int:
    """Size of the network's input for a picture, in pixels."""
    plan = plan_resize(*header.viewed_size, max_side)
    return plan.padded_width * plan.padded_height


def tiled_extra_bytes(fit: MemoryFit, header: ImageHeader, max_side: int) -> float:
    """Predict what a picture adds when it is read in tiles: the larger of one tile and the shrunk whole, and maps."""
    tile = min(header.pixels, _TILE_SIDE * _TILE_SIDE)
    network = max(network_pixels(header, max_side), tile)
    return fit.extra_bytes(header.pixels, network) + _TILED_MAP_BYTES * header.pixels


def largest_fitting_side(fit: MemoryFit, header: ImageHeader, max_side: int, available_bytes: float) -> int | None:
    """Return the largest side limit, at most ``max_side``, at which a picture fits; ``None`` when none does."""
    for side in (max_side, *(step for step in SIDE_STEPS if step < max_side)):
        if fit.extra_bytes(header.pixels, network_pixels(header, side)) <= available_bytes:
            return side
    return None
