from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("pyclipper", reason="targets need pyclipper, which is not installed")

from steadyocr.training.regions import Region
from steadyocr.training.targets import TargetParams, make_targets, offset_polygon, shrink_offset


def box(x0: float, y0: float, x1: float, y1: float, *, ignore: bool = False) -> Region:
    return Region(np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float32), ignore=ignore)


def turned(cx: float, cy: float, width: float, height: float, angle: float) -> Region:
    return Region(np.asarray(cv2.boxPoints(((cx, cy), (width, height), angle)), np.float32))


def test_offset_is_the_papers_formula() -> None:
    # area 40 * 20, perimeter 120, r = 0.4
    assert shrink_offset(box(0, 0, 40, 20).polygon, 0.4) == pytest.approx(800 * 0.84 / 120)


def test_shrunk_box_has_the_expected_pixels() -> None:
    maps = make_targets([box(10, 10, 50, 30)], 64, 64, TargetParams())
    offset = 800 * 0.84 / 120
    expected = (40 - 2 * offset) * (20 - 2 * offset)
    # Pixels that the outline runs through count as inside.
    assert expected <= maps.shrink_map.sum() <= expected + 2 * (60 - 4 * offset) + 4
    ys, xs = np.nonzero(maps.shrink_map)
    assert xs.min() >= 10 + offset - 1
    assert xs.max() < 50 - offset + 1
    assert ys.min() >= 10 + offset - 1
    assert ys.max() < 30 - offset + 1
    assert maps.shrink_mask.all()


@given(
    cx=st.floats(20, 108),
    cy=st.floats(20, 76),
    width=st.floats(8, 90),
    height=st.floats(8, 40),
    angle=st.floats(-90, 90),
)
def test_shrunk_region_lies_in_its_region(cx: float, cy: float, width: float, height: float, angle: float) -> None:
    region = turned(cx, cy, width, height, angle)
    maps = make_targets([region], 96, 128, TargetParams())
    inside = np.zeros((96, 128), np.uint8)
    cv2.fillPoly(inside, [np.rint((region.polygon - 0.5) * 16).astype(np.int32)], 1, shift=4)
    assert not (maps.shrink_map & ~inside & 1).any()
    # Where the border band is learned it lies between the two values, and everything is finite.
    assert maps.threshold_map.min() >= 0.3 - 1e-6
    assert maps.threshold_map.max() <= 0.7 + 1e-6
    assert np.isfinite(maps.threshold_map).all()


def test_border_is_highest_on_the_outline_and_falls_to_both_sides() -> None:
    maps = make_targets([box(20, 20, 100, 60)], 96, 128, TargetParams())
    column = maps.threshold_map[:, 60]
    assert column[18:23].max() == pytest.approx(0.7, abs=0.03)
    assert column[10] < column[15] < column[20]
    assert column[40] == pytest.approx(0.3)
    assert maps.threshold_mask[40, 60] == 1  # the whole grown region is learned
    assert maps.threshold_mask[0, 0] == 0


@pytest.mark.parametrize("region", [box(10, 10, 50, 30, ignore=True), box(10, 10, 50, 13)])
def test_ignored_and_tiny_regions_are_masked_out(region: Region) -> None:
    maps = make_targets([region], 64, 64, TargetParams(min_text_size=5))
    assert not maps.shrink_map.any()
    assert not maps.threshold_mask.any()
    assert maps.shrink_mask[11, 30] == 0
    assert maps.shrink_mask[40, 30] == 1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "corners",
    [
        [[10, 10], [50, 10], [10, 30], [50, 30]],  # crossing: its two triangles cancel out
        [[10, 10], [50, 10], [10, 30], [50, 30.05]],
        [[10, 10], [30, 10], [50, 10], [10, 30], [30, 30], [50, 30]],
    ],
)
def test_outline_that_crosses_itself_is_masked_out(corners: list[list[float]]) -> None:
    """It was divided by its offset of nothing, and the run ended."""
    maps = make_targets([Region(np.array(corners, np.float32))], 64, 64, TargetParams())
    assert not maps.shrink_map.any()
    assert not maps.threshold_mask.any()
    assert maps.threshold_map == pytest.approx(0.3)
    assert maps.shrink_mask[12, 30] == 0
    assert maps.shrink_mask[20, 12] == 0  # between the triangles there is text too
    assert maps.shrink_mask[40, 30] == 1


def test_ignored_region_wins_over_a_neighbour() -> None:
    maps = make_targets([box(0, 0, 60, 40), box(20, 0, 40, 40, ignore=True)], 64, 64, TargetParams())
    assert maps.shrink_mask[20, 30] == 0
    assert maps.threshold_mask[20, 30] == 0


def test_no_region_and_regions_outside_make_empty_maps() -> None:
    for regions in ([], [box(200, 200, 260, 230)]):
        maps = make_targets(regions, 64, 64, TargetParams())
        assert not maps.shrink_map.any()
        assert maps.shrink_mask.all()


def test_shrinking_to_nothing_is_none() -> None:
    assert offset_polygon(box(0, 0, 4, 4).polygon, -10) is None
