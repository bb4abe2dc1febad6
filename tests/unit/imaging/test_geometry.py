from __future__ import annotations

import time

import numpy as np
import pytest
from numpy.typing import NDArray

from steadyocr.imaging.geometry import (
    FloatArray,
    crop_quad,
    line_angles,
    order_quads,
    polygon_area,
    quad_iou,
    quad_sizes,
)


def box(x0: float, y0: float, x1: float, y1: float) -> FloatArray:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float32)


def noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int, width: int) -> NDArray[np.uint8]:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 200 / width, y * 200 / height, (x + y) * 100 / (width + height)], axis=2).astype(np.uint8)


def test_nothing_in_nothing_out() -> None:
    none = np.zeros((0, 4, 2), np.float32)
    assert order_quads(none).shape == (0, 4, 2)
    assert quad_sizes(none).shape == (0, 2)
    assert line_angles(none).shape == (0,)
    assert polygon_area(none).shape == (0,)
    assert quad_iou(none, box(0, 0, 1, 1)[None]).shape == (0, 1)


def test_known_iou() -> None:
    a = np.stack([box(0, 0, 10, 10), box(20, 20, 30, 30)])
    b = np.stack([box(5, 0, 15, 10), box(0, 0, 10, 10), box(10, 0, 20, 10), box(2, 2, 4, 4)])
    np.testing.assert_allclose(quad_iou(a, b), np.array([[1 / 3, 1, 0, 0.04], [0, 0, 0, 0]]), atol=1e-6)


def test_empty_quads_have_no_overlap() -> None:
    flat = box(0, 5, 10, 5)[None]
    assert quad_iou(flat, flat)[0, 0] == 0
    assert quad_iou(flat, box(0, 0, 10, 10)[None])[0, 0] == 0


def test_iou_of_a_full_page_is_quick() -> None:
    x, y = np.meshgrid(np.arange(10) * 300.0, np.arange(50) * 40.0)
    quads = np.stack([box(a, b, a + 280, b + 36) for a, b in zip(x.ravel(), y.ravel(), strict=True)])
    begin = time.process_time()
    iou = quad_iou(quads, quads + np.float32(2))
    assert time.process_time() - begin < 1.0
    assert (iou.argmax(axis=1) == np.arange(500)).all()


def test_angle_is_clockwise_on_screen() -> None:
    assert line_angles(np.array([[[0, 0], [10, 10], [5, 15], [-5, 5]]], np.float32))[0] == pytest.approx(45)


def test_upright_crop_is_a_plain_cut() -> None:
    image = noise(50, 80)
    np.testing.assert_array_equal(crop_quad(image, box(7, 5, 47, 25)), image[5:25, 7:47])


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_later_corners_turn_the_crop_counter_clockwise(turns: int) -> None:
    image = noise(50, 80)
    crop = crop_quad(image, np.roll(box(7, 5, 47, 25), -turns, axis=0))
    np.testing.assert_array_equal(crop, np.rot90(image[5:25, 7:47], turns))


def test_tilted_crop_follows_its_quad() -> None:
    image = smooth(300, 400)
    radians = np.radians(20)
    along, across = np.array([np.cos(radians), np.sin(radians)]), np.array([-np.sin(radians), np.cos(radians)])
    corner = np.array([120.0, 80.0])
    quad = np.stack([corner, corner + 150 * along, corner + 150 * along + 30 * across, corner + 30 * across])
    crop = crop_quad(image, quad.astype(np.float32))
    assert crop.shape == (30, 150, 3)
    for x, y in [(10, 5), (140, 25), (75, 15)]:
        place = corner + (x + 0.5) * along + (y + 0.5) * across - 0.5
        expected = image[round(place[1]), round(place[0])]
        assert np.abs(crop[y, x].astype(int) - expected).max() <= 2


def test_sub_pixel_place_is_kept() -> None:
    image = np.repeat(np.arange(100, dtype=np.uint8)[None, :, None] * 2, 40, axis=0).repeat(3, axis=2)
    crop = crop_quad(image, box(20.5, 10, 40.5, 20))
    np.testing.assert_allclose(crop[5, :, 0], np.arange(20) * 2 + 41, atol=1)


@pytest.mark.parametrize(
    "quad", [box(-20, -10, 30, 20), box(60, 30, 120, 90), box(-90, 10, -30, 30), box(500, 500, 560, 520)]
)
def test_quads_beyond_the_picture_repeat_its_edge(quad: FloatArray) -> None:
    image = smooth(50, 80)
    crop = crop_quad(image, quad)
    (x0, y0), _, (x1, y1), _ = quad.astype(int).tolist()
    padded = np.pad(image, ((600, 600), (600, 600), (0, 0)), mode="edge")
    expected = padded[y0 + 600 : y1 + 600, x0 + 600 : x1 + 600].astype(int)
    assert np.abs(crop - expected).max() <= 1


@pytest.mark.parametrize("stripe", [1, 3, 7])
def test_shrinking_shows_no_moire(stripe: int) -> None:
    stripes = (np.arange(3000) // stripe % 2 * 255).astype(np.uint8)
    image = np.broadcast_to(stripes[None, :, None], (800, 3000, 3)).copy()
    crop = crop_quad(image, box(100, 100, 2900, 700), height=32)[:, 4:-4]
    assert crop.shape[0] == 32
    # Each crop pixel averages about nineteen columns.
    assert np.abs(crop.astype(int) - 127).max() < (60 if stripe == 7 else 25)
    assert abs(float(crop.mean()) - 127) < 6


def test_shrunk_crop_is_where_it_should_be() -> None:
    image = smooth(800, 1600)
    crop = crop_quad(image, box(200, 100, 1400, 500), height=40)
    assert crop.shape == (40, 120, 3)
    centres = image[105:500:10, 205:1400:10].astype(int)
    assert np.abs(crop - centres).max() <= 2


def test_crop_of_a_large_picture_costs_what_the_crop_costs() -> None:
    image = np.zeros((7000, 7000, 3), np.uint8)
    quad = box(3000, 3000, 3600, 3040)
    crop_quad(image, quad, height=48)
    begin = time.process_time()
    for _ in range(20):
        crop_quad(image, quad, height=48)
    assert (time.process_time() - begin) / 20 < 0.02


def test_side_longer_than_opencv_can_address() -> None:
    image = np.zeros((20, 40_000, 3), np.uint8)
    image[:, 20_000:] = 255
    crop = crop_quad(image, box(0, 0, 40_000, 20))
    assert crop.shape == (20, 32_000, 3)
    assert (crop[10, 100, 0], crop[10, 31_900, 0]) == (0, 255)


@pytest.mark.parametrize("quad", [box(5, 5, 5, 5), box(5, 5, 25, 5), box(5, 5, 5, 25), box(4, 4, 4.2, 4.3)])
def test_quads_without_area(quad: FloatArray) -> None:
    crop = crop_quad(np.full((50, 50, 3), 7, np.uint8), quad)
    assert min(crop.shape[:2]) == 1
    assert (crop == 7).all()


def test_no_numbers_no_crop() -> None:
    with pytest.raises(ValueError, match="finite"):
        crop_quad(noise(5, 5), np.full((4, 2), np.nan, np.float32))
