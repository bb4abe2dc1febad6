from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from steadyocr.detection.merging import merge_scales
from steadyocr.detection.postprocess import FloatArray
from steadyocr.detection.tiling import plan_tiles

SIDES = st.integers(1, 9000)
STRIDES = st.sampled_from([8, 32, 64])


@settings(deadline=None)
@given(SIDES, SIDES, STRIDES, st.integers(4, 20), st.floats(0, 0.5))
def test_inner_parts_partition_the_picture_and_keep_away_from_the_edges(
    width: int, height: int, stride: int, steps: int, share: float
) -> None:
    tile_side = 64 * steps
    overlap = int(share * tile_side)
    tiles = plan_tiles(width, height, tile_side=tile_side, overlap=overlap, stride=stride)

    columns, rows = list(dict.fromkeys(tile.x for tile in tiles)), list(dict.fromkeys(tile.y for tile in tiles))
    assert [(tile.x, tile.y) for tile in tiles] == [(x, y) for y in rows for x in columns]
    assert len({(tile.padded_width, tile.padded_height) for tile in tiles}) == 1
    for length, spans, padded in (
        (width, columns, tiles[0].padded_width),
        (height, rows, tiles[0].padded_height),
    ):
        assert padded % stride == 0
        assert padded <= max(tile_side, stride)
        assert len(spans) == (1 if length <= tile_side else math.ceil((length - overlap) / (tile_side - overlap)))
        assert (spans[0].inner_start, spans[-1].inner_end) == (0, length)
        for span in spans:
            assert 0 <= span.start <= span.inner_start < span.inner_end <= span.end <= length
            assert span.end - span.start == min(padded, length)
            assert span.start == 0 or span.inner_start - span.start >= overlap // 2
            assert span.end == length or span.end - span.inner_end >= overlap // 2
        for before, after in pairwise(spans):
            assert before.inner_end == after.inner_start
            assert before.end - after.start >= overlap


@given(st.integers(1, 64_000_000), st.floats(1, 100))
def test_the_count_is_bounded_by_the_pixels_and_the_perimeter(pixels: int, ratio: float) -> None:
    width = max(1, int(math.sqrt(pixels * ratio)))
    height = max(1, pixels // width)
    step = 1280 - 160
    assert len(plan_tiles(width, height)) <= pixels / step**2 + (width + height) / step + 1


BOXES = st.lists(st.tuples(st.floats(0, 900), st.floats(0, 900), st.floats(1, 800), st.floats(1, 800)), max_size=8).map(
    lambda boxes: np.array([box(*values) for values in boxes], np.float32).reshape(-1, 4, 2)
)


def box(x: float, y: float, width: float, height: float) -> list[list[float]]:
    return [[x, y], [x + width, y], [x + width, y + height], [x, y + height]]


@given(BOXES, BOXES, st.floats(0, 1000))
def test_native_quads_only_go_for_high_ones_and_nothing_is_lost_to_nothing(
    native: FloatArray, shrunk: FloatArray, tall: float
) -> None:
    keep, take = merge_scales(native, shrunk, tall)
    assert (keep.shape, take.shape) == ((len(native),), (len(shrunk),))
    heights = np.minimum(shrunk[:, 2, 0] - shrunk[:, 0, 0], shrunk[:, 2, 1] - shrunk[:, 0, 1])
    if not (heights[take] >= tall * (1 - 1e-5)).any():
        assert keep.all()
    if not len(native):
        assert take.all()
