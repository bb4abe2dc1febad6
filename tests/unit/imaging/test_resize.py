from __future__ import annotations

import numpy as np
import pytest

from steadyocr.imaging.resize import apply, plan_resize, to_source


def test_full_hd_keeps_its_ratio() -> None:
    plan = plan_resize(1920, 1080, 1280)
    assert (plan.content_width, plan.content_height) == (1280, 720)
    assert (plan.padded_width, plan.padded_height) == (1280, 736)
    assert plan.effective_scale == plan.scale_x == pytest.approx(2 / 3)


@pytest.mark.parametrize("size", [(200, 4000), (4000, 200)])
def test_strip(size: tuple[int, int]) -> None:
    plan = plan_resize(*size, 1280)
    assert sorted((plan.padded_width, plan.padded_height)) == [64, 1280]
    assert apply(np.zeros((size[1], size[0], 3), np.uint8), plan).shape == (
        plan.padded_height,
        plan.padded_width,
        3,
    )


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (31, 2)])
def test_tiny_is_padded_not_enlarged(size: tuple[int, int]) -> None:
    plan = plan_resize(*size, 1280)
    assert (plan.content_width, plan.content_height) == size
    assert (plan.padded_width, plan.padded_height) == (32, 32)
    assert plan.effective_scale == 1.0


def test_fitting_picture_is_passed_through() -> None:
    image = np.zeros((64, 96, 3), np.uint8)
    assert apply(image, plan_resize(96, 64, 1280)) is image


def test_shrunk_by_one_pixel_to_where_the_padding_ends() -> None:
    # 1280 wide, shrunk to 1279 and padded to 1280 again: the same size, but not the same picture.
    image = np.random.default_rng(0).integers(0, 256, (64, 1280, 3), dtype=np.uint8)
    plan = plan_resize(1280, 64, 1279)
    assert plan.padded_width == 1280
    assert not np.array_equal(apply(image, plan), image)


def test_content_lies_in_the_corner_and_padding_takes_the_colour_of_the_edge() -> None:
    image = np.full((40, 50, 3), 255, np.uint8)
    image[:20, :30] = (200, 10, 30)
    # A stroke that is cut off by the edge must not be drawn on.
    image[:, 20:23] = 0
    resized = apply(image, plan_resize(50, 40, 1280))
    np.testing.assert_array_equal(resized[:40, :50], image)
    assert (resized[40:] == 255).all()
    assert (resized[:, 50:] == 255).all()


def test_shrinking_averages() -> None:
    checked = np.indices((400, 400)).sum(axis=0) % 2 * 255
    image = np.repeat(checked[..., None], 3, axis=2).astype(np.uint8)
    resized = apply(image, plan_resize(400, 400, 100))
    assert np.abs(resized[:100, :100].astype(int) - 127).max() <= 1


def test_shrunk_content_is_where_the_plan_says() -> None:
    image = np.full((600, 900, 3), 255, np.uint8)
    image[300:, 450:] = 0
    plan = plan_resize(900, 600, 300)
    resized = apply(image, plan)
    edge_x, edge_y = 450 * plan.scale_x, 300 * plan.scale_y
    assert (edge_x, edge_y) == (150, 100)
    assert (resized[100:200, 150:300] == 0).all()
    assert (resized[:100, :300] == 255).all()


def test_to_source_is_cut_off_at_the_edges() -> None:
    plan = plan_resize(100, 50, 1280)
    quads = np.array([[[-4, -4], [128, -4], [128, 64], [-4, 64]]], np.float32)
    assert to_source(quads, plan).tolist() == [[[0, 0], [100, 0], [100, 50], [0, 50]]]
    assert to_source(np.zeros((0, 4, 2), np.float32), plan).shape == (0, 4, 2)


def test_bucket_makes_shapes_repeat() -> None:
    shapes = {
        (plan.padded_width, plan.padded_height)
        for plan in (plan_resize(1280, height, 1280, bucket=160) for height in range(641, 801))
    }
    assert shapes == {(1280, 800)}


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="multiple"):
        plan_resize(10, 10, 100, stride=32, bucket=48)
    with pytest.raises(ValueError, match="at least 1"):
        plan_resize(0, 10, 100)
    with pytest.raises(ValueError, match="plan is for"):
        apply(np.zeros((5, 5, 3), np.uint8), plan_resize(6, 5, 100))
