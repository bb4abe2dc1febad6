from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyocr.detection.postprocess import FloatArray, PostprocessParams, quads_from_probability_map
from steadyocr.imaging.geometry import order_quads, polygon_area, quad_sizes

BARE = PostprocessParams(unclip_ratio=0.0)
# Pixels are drawn whole, so an edge can be off by one on either side, and now and then a corner pixel tips the angle:
# of 20 000 drawn rectangles one side was 1.24 off; the median corner 0.7.
DRAWING_ERROR = 1.5

Rect = tuple[float, float, float, float, float]  # centre, width, height, degrees
RECTS = st.tuples(st.floats(90, 110), st.floats(90, 110), st.floats(24, 120), st.floats(6, 22), st.floats(-40, 40))
PROBABILITY_MAPS = st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 70), st.integers(1, 70), st.floats(0, 5)).map(
    lambda drawn: blurred_noise(*drawn)
)


def blurred_noise(seed: int, height: int, width: int, blur: float) -> FloatArray:
    noise = np.random.default_rng(seed).random((height, width)).astype(np.float32)
    if blur < 0.5:
        return noise
    blurred = np.asarray(cv2.GaussianBlur(noise, (0, 0), blur), np.float32)
    stretched: FloatArray = ((blurred - blurred.min()) / max(float(np.ptp(blurred)), 1e-6)).astype(np.float32)
    return stretched


def corners(rect: Rect, scale: float = 1.0) -> FloatArray:
    """Corners of a rectangle in pixel-edge coordinates, clockwise from top-left."""
    x, y, width, height, degrees = rect
    points = cv2.boxPoints(((x * scale, y * scale), (width * scale, height * scale), degrees))
    ordered: FloatArray = order_quads(np.asarray(points, np.float32)[None])[0]
    return ordered


def drawn(*rects: Rect, size: int = 200, scale: float = 1.0, probability: float = 0.9) -> FloatArray:
    """A map on which every pixel whose centre lies in a rectangle is text."""
    ys, xs = np.mgrid[: round(size * scale), : round(size * scale)].astype(np.float32) + 0.5
    canvas = np.zeros(xs.shape, np.float32)
    for x, y, width, height, degrees in rects:
        angle = math.radians(degrees)
        dx, dy = xs - x * scale, ys - y * scale
        along, across = dx * math.cos(angle) + dy * math.sin(angle), dy * math.cos(angle) - dx * math.sin(angle)
        canvas[(abs(along) <= width * scale / 2) & (abs(across) <= height * scale / 2)] = probability
    return canvas


def contains(outer: FloatArray, inner: FloatArray, tolerance: float = 1e-2) -> bool:
    edges = np.roll(outer, -1, axis=0) - outer
    lengths = np.linalg.norm(edges, axis=1)
    offsets = inner[:, None] - outer[None]
    distances = (edges[:, 0] * offsets[..., 1] - edges[:, 1] * offsets[..., 0]) / lengths
    return bool(distances.min() >= -tolerance)


@pytest.mark.parametrize("shape", [(1, 1), (32, 64), (640, 480)])
def test_an_empty_map_holds_nothing(shape: tuple[int, int]) -> None:
    quads, scores = quads_from_probability_map(np.zeros(shape, np.float32), PostprocessParams())
    assert (quads.shape, scores.shape) == ((0, 4, 2), (0,))
    assert quads.dtype == scores.dtype == np.float32


@given(RECTS)
def test_a_drawn_rectangle_is_found_where_it_is(rect: Rect) -> None:
    quads, scores = quads_from_probability_map(drawn(rect), BARE)
    assert len(quads) == 1
    assert np.linalg.norm(quads[0] - corners(rect), axis=1).max() < DRAWING_ERROR * math.sqrt(2)
    width, height = quad_sizes(quads)[0]
    assert sorted((width, height)) == pytest.approx(sorted(rect[2:4]), abs=DRAWING_ERROR)
    assert 0.5 < scores[0] <= 0.9 + 1e-6


@given(st.integers(0, 100), st.integers(0, 100), st.integers(4, 90), st.integers(4, 90))
def test_an_upright_rectangle_is_found_to_the_pixel(x: int, y: int, width: int, height: int) -> None:
    canvas = np.zeros((200, 200), np.float32)
    canvas[y : y + height, x : x + width] = 1.0
    quads, scores = quads_from_probability_map(canvas, BARE)
    wanted = [[x, y], [x + width, y], [x + width, y + height], [x, y + height]]
    np.testing.assert_allclose(quads, np.array([wanted]), atol=1e-3)
    np.testing.assert_allclose(scores, [1.0], atol=1e-6)


@given(RECTS, st.floats(0.0, 3.0))
def test_a_grown_quad_contains_the_bare_one_and_grows_by_the_formula(rect: Rect, ratio: float) -> None:
    canvas = drawn(rect)
    (bare,), _ = quads_from_probability_map(canvas, BARE)
    (grown,), _ = quads_from_probability_map(canvas, PostprocessParams(unclip_ratio=ratio))
    assert contains(grown, bare)
    width, height = quad_sizes(bare[None])[0].tolist()
    offset = width * height * ratio / (2 * (width + height))
    assert quad_sizes(grown[None])[0] == pytest.approx([width + 2 * offset, height + 2 * offset], abs=0.05)


@given(PROBABILITY_MAPS, st.floats(0, 1), st.floats(0, 1), st.floats(0, 5), st.integers(0, 5))
def test_whatever_the_map_the_answer_keeps_its_bounds(
    canvas: FloatArray, bin_threshold: float, box_threshold: float, ratio: float, most: int
) -> None:
    params = PostprocessParams(
        bin_threshold=bin_threshold, box_threshold=box_threshold, unclip_ratio=ratio, max_candidates=most
    )
    quads, scores = quads_from_probability_map(canvas, params)
    assert len(quads) == len(scores) <= most
    assert np.isfinite(quads).all()
    assert ((scores >= box_threshold) & (scores >= 0) & (scores <= 1 + 1e-6)).all()
    if len(quads):
        np.testing.assert_allclose(order_quads(quads), quads)
        assert polygon_area(quads).min() > 0


def test_with_too_many_regions_the_largest_are_kept() -> None:
    canvas = np.zeros((400, 400), np.float32)
    for index in range(12):
        canvas[30 * index : 30 * index + 10, : 20 + 10 * index] = 1.0
    quads, _ = quads_from_probability_map(canvas, PostprocessParams(unclip_ratio=0.0, max_candidates=4))
    np.testing.assert_allclose(sorted(quad_sizes(quads)[:, 0]), [100, 110, 120, 130], atol=0.01)


def test_no_cell_of_a_dense_table_is_lost() -> None:
    """Of 1300 cells a fixed bound of 1000 dropped those with the shortest texts, row by row, without a word."""
    canvas = np.zeros((50 * 18, 40 * 32), np.float32)
    for row in range(50):
        for column in range(40):
            canvas[18 * row + 6 : 18 * row + 11, 32 * column + 4 : 32 * column + 20 + row % 8] = 1.0
    quads, _ = quads_from_probability_map(canvas, PostprocessParams())
    assert len(quads) == 50 * 40


def test_noise_is_bounded_by_the_size_of_the_map() -> None:
    canvas = np.zeros((640, 640), np.float32)
    canvas[::4, ::4] = canvas[1::4, ::4] = canvas[::4, 1::4] = canvas[1::4, 1::4] = 1.0
    quads, _ = quads_from_probability_map(canvas, PostprocessParams(min_side=1.0))
    assert len(quads) == 640 * 640 // 256


@given(RECTS, st.sampled_from([1.5, 2.0, 3.0]))
def test_a_scaled_map_gives_scaled_quads(rect: Rect, scale: float) -> None:
    params = PostprocessParams(unclip_ratio=1.5)
    (once,), _ = quads_from_probability_map(drawn(rect), params)
    (scaled,), _ = quads_from_probability_map(drawn(rect, scale=scale), params)
    # The drawing error on both maps, grown by the ratio.
    tolerance = DRAWING_ERROR * math.sqrt(2) * (1 + 1.5) * (1 + scale)
    assert np.linalg.norm(scaled - once * scale, axis=1).max() < tolerance


def test_a_region_inside_the_hole_of_another_is_found() -> None:
    canvas = np.zeros((200, 200), np.float32)
    canvas[20:180, 20:180] = 1.0
    canvas[40:160, 40:160] = 0.0
    canvas[90:110, 60:140] = 1.0
    quads, _ = quads_from_probability_map(canvas, PostprocessParams(unclip_ratio=0.0, box_threshold=0.0))
    sizes = sorted(quad_sizes(quads).round().tolist())
    assert sizes == [[80, 20], [160, 160]]


def test_the_score_is_the_mean_probability_inside() -> None:
    canvas = np.zeros((60, 120), np.float32)
    canvas[20:40, 10:60], canvas[20:40, 60:110] = 0.5, 0.9
    _, scores = quads_from_probability_map(canvas, BARE)
    np.testing.assert_allclose(scores, [0.7], atol=0.01)


@pytest.mark.parametrize(("threshold", "found"), [(0.69, 1), (0.71, 0)])
def test_a_quad_below_the_box_threshold_is_dropped(threshold: float, found: int) -> None:
    canvas = drawn((100, 100, 80, 20, 0), probability=0.7)
    quads, _ = quads_from_probability_map(canvas, PostprocessParams(box_threshold=threshold))
    assert len(quads) == found


@pytest.mark.parametrize(("threshold", "found"), [(0.69, 1), (0.7, 0)])
def test_a_pixel_is_text_above_the_bin_threshold(threshold: float, found: int) -> None:
    canvas = np.float32(0.7) * (drawn((100, 100, 80, 20, 0)) > 0).astype(np.float32)
    limit = float(np.float32(threshold))
    quads, _ = quads_from_probability_map(canvas, PostprocessParams(bin_threshold=limit))
    assert len(quads) == found


def test_specks_are_noise() -> None:
    canvas = np.zeros((50, 50), np.float32)
    canvas[10:12, 10:40] = 1.0
    canvas[30:33, 10:40] = 1.0
    quads, _ = quads_from_probability_map(canvas, BARE)
    assert len(quads) == 1
