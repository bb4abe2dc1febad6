"""Where regions come to lie when a picture is warped into a crop."""

from __future__ import annotations

import numpy as np
import pytest

from steadyocr.training.augment import AugmentParams, transform_regions
from steadyocr.training.regions import Region

SIZE = 640
PARAMS = AugmentParams()
# Columns draw apart to the right; the horizon is at x = 1000, and the crop ends at x = 390.2.
TILTED = np.array([[1.0, 0, 0], [0, 1.0, 0], [-1 / 1000, 0, 1.0]])


def line(left: float, right: float, top: float = 100, bottom: float = 140) -> Region:
    return Region(np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32), ignore=False)


def bounds(region: Region) -> list[float]:
    return [float(n) for n in (*region.polygon.min(axis=0), *region.polygon.max(axis=0))]


@pytest.mark.parametrize("right", [500, 900, 1000, 1200, 3000])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_line_past_the_horizon_covers_what_is_seen_of_it_and_no_more(right: float, sign: float) -> None:
    (found,) = transform_regions((line(100, right),), TILTED * sign, SIZE, PARAMS)
    assert bounds(found) == pytest.approx([100 / 0.9, 100 / 0.9, SIZE, 140 / (1 - 390.2439 / 1000)], abs=0.1)


@pytest.mark.parametrize(("left", "right"), [(1000, 2000), (1500, 2000), (600, 3000)])
def test_what_lies_behind_the_crop_or_the_horizon_is_not_in_it(left: float, right: float) -> None:
    assert transform_regions((line(left, right),), TILTED, SIZE, PARAMS) == []


def test_a_line_within_the_crop_keeps_its_corners() -> None:
    (found,) = transform_regions((line(100, 300),), TILTED, SIZE, PARAMS)
    corners = [[x / (1 - x / 1000), y / (1 - x / 1000)] for x, y in ((100, 100), (300, 100), (300, 140), (100, 140))]
    assert found.polygon == pytest.approx(np.array(corners), abs=1e-2)
    assert not found.ignore
