"""Detection of huge pictures at native scale, on overlapping tiles.

The tiles' probabilities are stitched into one map of the whole picture, and lines are looked for in that. A line
across a seam is one region of the map then, and no pieces of lines have to be told from lines and joined.

Only the inner part of each tile counts: the network's answer near an edge, where it sees half a letter, is not worth
much. Neighbours overlap, and each pixel is taken from the tile in which it lies further from the edge. A line up to
`overlap` high that runs along a seam is seen whole by both tiles. Taller lines may not be, so the picture is looked
at once more as a whole, shrunk, and :mod:`steadyocr.detection.merging` decides between the two.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from steadyocr.detection.detector import Detection
from steadyocr.detection.merging import merge_scales
from steadyocr.detection.postprocess import FloatArray, PostprocessParams, quads_from_probability_map
from steadyocr.imaging.geometry import clip_quads
from steadyocr.imaging.resize import ResizePlan, plan_resize

UInt8Array = NDArray[np.uint8]

TILE_SIDE: Final = 1280
OVERLAP: Final = 160
# A quad is about this much higher than the ink in it.
_GROWTH: Final = 1.25


class TileDetector(Protocol):
    """What is asked of a detector; :class:`~steadyocr.detection.detector.Detector` has it."""

    def detect(self, image: UInt8Array, params: PostprocessParams, max_side: int) -> Detection:
        """Find the text lines of a picture, shrunk to `max_side` if it is larger."""

    def probability_map(self, image: UInt8Array, plan: ResizePlan) -> FloatArray:
        """Return the text probability of each network pixel that shows the picture."""


@dataclass(frozen=True, slots=True)
class Span:
    """A tile along one axis, in pixels of the picture; ends are exclusive.

    Attributes:
        start: Where it begins.
        end: Where it ends, inside the picture.
        inner_start: Where the part begins that counts.
        inner_end: Where that part ends.
    """

    start: int
    end: int
    inner_start: int
    inner_end: int

    @property
    def whole(self) -> slice:
        """The tile."""
        return slice(self.start, self.end)

    @property
    def inner(self) -> slice:
        """The part of it that counts, seen from the picture."""
        return slice(self.inner_start, self.inner_end)

    @property
    def local_inner(self) -> slice:
        """The same part, seen from the tile."""
        return slice(self.inner_start - self.start, self.inner_end - self.start)


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile: its extent along both axes, and the network input that it is padded to, in pixels."""

    x: Span
    y: Span
    padded_width: int
    padded_height: int


def plan_tiles(
    width: int, height: int, *, tile_side: int = TILE_SIDE, overlap: int = OVERLAP, stride: int = 32
) -> tuple[Tile, ...]:
    """Cover a picture at native scale, row by row.

    All tiles have one padded size, the smallest with the least number of tiles, so the network sees one shape. Their
    inner parts lie side by side without gaps; inside the picture their edges are at least ``overlap // 2`` away from
    those of their tiles. Along an axis longer than `tile_side` there are
    ``ceil((length - overlap) / (tile_side - overlap))`` tiles, otherwise one: 49 for 8000 x 8000 pixels.

    Args:
        width: Of the picture, in pixels.
        height: Of the picture, in pixels.
        tile_side: Longest side of a tile, a multiple of `stride`.
        overlap: Least overlap of neighbours, in pixels, at most half of `tile_side`.
        stride: Both padded sides are multiples of this.

    Raises:
        ValueError: A size is out of its range.
    """
    if min(width, height, stride) < 1 or tile_side < stride or tile_side % stride or not 0 <= overlap <= tile_side // 2:
        raise ValueError("sizes must be at least 1, the tile a multiple of the stride, the overlap at most half of it")
    padded_width, columns = _spans(width, tile_side, overlap, stride)
    padded_height, rows = _spans(height, tile_side, overlap, stride)
    return tuple(Tile(x, y, padded_width, padded_height) for y in rows for x in columns)


def _spans(length: int, tile_side: int, overlap: int, stride: int) -> tuple[int, tuple[Span, ...]]:
    """Length of the tiles along one axis, the tiles themselves spread evenly."""
    count = max(1, -(-(length - overlap) // (tile_side - overlap))) if length > tile_side else 1
    covering = -(-(length + (count - 1) * overlap) // count)
    side = -(-covering // stride) * stride
    starts = [index * (length - side) // (count - 1) for index in range(count)] if count > 1 else [0]
    seams = [0, *((before + side + after) // 2 for before, after in pairwise(starts)), length]
    return side, tuple(
        Span(start, min(start + side, length), *seam) for start, seam in zip(starts, pairwise(seams), strict=True)
    )


def detect_tiled(
    detector: TileDetector,
    image: UInt8Array,
    params: PostprocessParams,
    max_side: int,
    *,
    tile_side: int = TILE_SIDE,
    overlap: int = OVERLAP,
    stride: int = 32,
    on_tile: Callable[[int, int], None] | None = None,
) -> Detection:
    """Find the text lines of a picture at native scale; one that fits into a tile is simply detected.

    Beside one tile's share the peak is 3 bytes for each pixel of the picture: the map as bytes, the map in black and
    white, and the copy of it in which OpenCV follows the outlines.

    Args:
        detector: Runs the network.
        image: (H, W, 3) uint8 RGB.
        params: Post-processing knobs; a `max_candidates` counts for each tile.
        max_side: Longest side of the shrunk pass, in pixels.
        tile_side: See :func:`plan_tiles`.
        overlap: See :func:`plan_tiles`. Lines taller than this may be taken from the shrunk pass.
        stride: Of the network.
        on_tile: Told, before each tile, its number from 0 and how many there are. May raise to give up.
    """
    height, width = image.shape[:2]
    native = plan_resize(width, height, max(width, height), stride=stride)
    tiles = plan_tiles(width, height, tile_side=tile_side, overlap=overlap, stride=stride)
    if len(tiles) == 1:
        return detector.detect(image, params, max(width, height))

    shrunk = detector.detect(image, params, max_side)
    stitched = np.empty((height, width), np.uint8)
    for index, tile in enumerate(tiles):
        if on_tile is not None:
            on_tile(index, len(tiles))
        probability = detector.probability_map(image[tile.y.whole, tile.x.whole], _tile_plan(tile))
        inner = probability[tile.y.local_inner, tile.x.local_inner]
        stitched[tile.y.inner, tile.x.inner] = cv2.convertScaleAbs(inner, alpha=255)

    most = params.max_candidates
    in_all = dataclasses.replace(params, max_candidates=None if most is None else most * len(tiles))
    quads, scores = quads_from_probability_map(stitched, in_all)
    quads = clip_quads(quads, width, height)
    keep, take = merge_scales(quads, shrunk.quads, tall=_GROWTH * overlap)
    return Detection(
        np.concatenate((quads[keep], shrunk.quads[take])),
        np.concatenate((scores[keep], shrunk.scores[take])),
        native,
    )


def _tile_plan(tile: Tile) -> ResizePlan:
    width, height = tile.x.end - tile.x.start, tile.y.end - tile.y.start
    return ResizePlan(width, height, width, height, tile.padded_width, tile.padded_height)
