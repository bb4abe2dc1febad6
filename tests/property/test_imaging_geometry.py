from __future__ import annotations

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from steadyocr.imaging.geometry import (
    FloatArray,
    clip_quads,
    crop_quad,
    line_angles,
    order_quads,
    polygon_area,
    quad_iou,
    quad_sizes,
)

PLACES = st.floats(-50, 150, width=32)
RECTS = st.tuples(PLACES, PLACES, st.floats(1, 90, width=32), st.floats(1, 40, width=32), st.floats(-44, 44, width=32))
Rect = tuple[float, float, float, float, float]


def quad_of(rect: Rect) -> FloatArray:
    x, y, width, height, angle = rect
    corners = cv2.boxPoints(((x, y), (width, height), angle)).astype(np.float32)
    quad: FloatArray = order_quads(corners[None])[0]
    return quad


def turned(points: FloatArray, degrees: float) -> FloatArray:
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    rotated: FloatArray = (points @ np.array([[cos, sin], [-sin, cos]])).astype(np.float32)
    return rotated


@settings(max_examples=200, deadline=None)
@given(width=st.floats(1, 500), height=st.floats(1, 100), angle=st.floats(-179, 180), x=PLACES, y=PLACES)
def test_sizes_angles_and_areas(width: float, height: float, angle: float, x: float, y: float) -> None:
    upright = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    quads = (turned(upright, angle) + np.array([x, y]))[None].astype(np.float32)
    np.testing.assert_allclose(quad_sizes(quads)[0], [width, height], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(polygon_area(quads)[0], width * height, rtol=1e-3, atol=1e-2)
    difference = (line_angles(quads)[0] - angle + 180) % 360 - 180
    # Float corners of a quad one pixel wide.
    assert abs(difference) < 0.01


@settings(max_examples=200, deadline=None)
@given(a=RECTS, b=RECTS)
def test_iou_agrees_with_counted_pixels(a: Rect, b: Rect) -> None:
    quads = np.stack([quad_of(a), quad_of(b)])
    iou = quad_iou(quads[:1], quads[1:])[0, 0]
    # Points on a fine grid, told inside by the sign of the four cross products.
    low, high = quads.min(axis=(0, 1)), quads.max(axis=(0, 1))
    grid = (np.linspace(low[0], high[0], 120), np.linspace(low[1], high[1], 120))
    steps = np.stack(np.meshgrid(grid[0], grid[1]), axis=2)
    sides = np.roll(quads, -1, axis=1) - quads
    to_points = steps[None, None] - quads[:, :, None, None]
    cross = sides[..., None, None, 0] * to_points[..., 1] - sides[..., None, None, 1] * to_points[..., 0]
    inside = np.asarray(np.all(cross >= 0, axis=1))
    union = np.logical_or(inside[0], inside[1]).sum()
    if union > 800:
        assert abs(iou - np.logical_and(inside[0], inside[1]).sum() / union) < 0.06


@settings(max_examples=200, deadline=None)
@given(rect=RECTS, other=RECTS, part=st.floats(0, 1), far=st.sampled_from([0.0, 30_000.0]))
def test_iou_laws(rect: Rect, other: Rect, part: float, far: float) -> None:
    quad, neighbour = quad_of(rect) + np.float32(far), quad_of(other) + np.float32(far)
    pair = np.stack([quad, neighbour])
    iou = quad_iou(pair, pair)
    assert ((iou >= 0) & (iou <= 1)).all()
    np.testing.assert_allclose(iou, iou.T, atol=2e-2)
    np.testing.assert_allclose(np.diag(iou), 1.0, atol=2e-2)
    # Slid along its own side, the case that OpenCV gets wrong.
    slid = (quad + (quad[1] - quad[0]) * np.float32(part)).astype(np.float32)
    expected = (1 - part) / (1 + part)
    assert abs(quad_iou(quad[None], slid[None])[0, 0] - expected) < 2e-2
    # Either way round.
    np.testing.assert_allclose(quad_iou(pair[:1, ::-1], pair[1:])[0, 0], iou[0, 1], atol=2e-2)


@settings(max_examples=200, deadline=None)
@given(a=RECTS, b=RECTS, at_least=st.floats(0, 1), far=st.sampled_from([0.0, 30_000.0]))
def test_iou_leaves_out_nothing_that_counts(a: Rect, b: Rect, at_least: float, far: float) -> None:
    quads = np.stack([quad_of(a), quad_of(b)]) + np.float32(far)
    whole, some = quad_iou(quads, quads), quad_iou(quads, quads, at_least=at_least)
    np.testing.assert_array_equal(some, np.where((whole >= at_least) | (some > 0), whole, 0))


@settings(max_examples=100, deadline=None)
@given(rect=RECTS)
def test_clip_and_order(rect: Rect) -> None:
    quad = quad_of(rect)
    clipped = clip_quads(quad[None], 100, 60)[0]
    assert (clipped >= 0).all()
    assert (clipped <= (100, 60)).all()
    inside = ((quad >= 0) & (quad <= (100, 60))).all(axis=1)
    np.testing.assert_array_equal(clipped[inside], quad[inside])
    shuffled = quad[[2, 0, 3, 1]]
    np.testing.assert_array_equal(order_quads(shuffled[None])[0], quad)


@settings(max_examples=150, deadline=None)
@given(rect=RECTS, height=st.one_of(st.none(), st.integers(1, 64)), width=st.one_of(st.none(), st.integers(1, 99)))
def test_crop_of_any_quad_has_the_size_asked_for(rect: Rect, height: int | None, width: int | None) -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 100, 3), dtype=np.uint8)
    quad = quad_of(rect)
    crop = crop_quad(image, quad, height, width)
    assert crop.dtype == np.uint8
    quad_width, quad_height = np.maximum(quad_sizes(quad[None])[0], 1)
    rows = height or max(1, round(float(quad_height)))
    assert crop.shape[0] == rows
    assert abs(crop.shape[1] - (width or max(1, quad_width * rows / quad_height))) <= 1
