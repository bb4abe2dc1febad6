from __future__ import annotations

import numpy as np
import pytest

from steadyocr.detection.merging import merge_scales
from steadyocr.detection.postprocess import FloatArray

TALL = 200.0


def boxes(*values: tuple[float, float, float, float]) -> FloatArray:
    """Upright quads from left, top, width, height."""
    return np.array([[[x, y], [x + w, y], [x + w, y + h], [x, y + h]] for x, y, w, h in values], np.float32).reshape(
        -1, 4, 2
    )


def merged(native: FloatArray, shrunk: FloatArray) -> tuple[list[bool], list[bool]]:
    keep, take = merge_scales(native, shrunk, TALL)
    return keep.tolist(), take.tolist()


TITLE = boxes((0, 0, 2000, 400))


def test_pieces_of_huge_letters_go() -> None:
    letters, stem, corner = (100, 60, 300, 280), (700, 80, 30, 250), (1500, 290, 80, 60)
    assert merged(boxes(letters, stem, corner), TITLE) == ([False] * 3, [True])


def test_halves_of_a_huge_line_go() -> None:
    assert merged(boxes((0, 20, 1150, 360), (1200, 20, 780, 360)), TITLE) == ([False] * 2, [True])


@pytest.mark.parametrize("line", [(300, 350, 400, 30), (300, 180, 400, 30), (300, 372, 40, 24)])
def test_small_lines_over_and_below_huge_letters_stay(line: tuple[float, float, float, float]) -> None:
    assert merged(boxes((100, 60, 300, 280), line), TITLE) == ([False, True], [True])


@pytest.mark.parametrize("upright", [False, True])
def test_a_paragraph_blurred_into_one_region_stays_lines(upright: bool) -> None:
    lines = boxes(*((20, 20 + 36 * row, 1500, 24) for row in range(10)))
    blur = boxes((0, 0, 1550, 400))
    if upright:
        lines, blur = lines[..., ::-1][:, [0, 3, 2, 1]], blur[..., ::-1][:, [0, 3, 2, 1]]
    assert merged(lines, blur) == ([True] * 10, [False])


def test_a_line_that_is_not_too_high_is_better_known_at_native_scale() -> None:
    assert merged(boxes((10, 40, 560, 160)), boxes((0, 0, 590, 230))) == ([True], [False])


def test_a_line_that_native_scale_missed_is_taken_whatever_its_height() -> None:
    other = boxes((0, 1000, 300, 20))
    assert merged(other, boxes((0, 0, 300, 30))) == ([True], [True])
    assert merged(boxes((0, 0, 20, 30)), boxes((0, 0, 300, 30))) == ([True], [True])
    assert merged(boxes((0, 0, 100, 30)), boxes((0, 0, 300, 30))) == ([True], [False])


@pytest.mark.parametrize(("native", "shrunk"), [(0, 0), (0, 2), (2, 0)])
def test_nothing_merges_with_nothing(native: int, shrunk: int) -> None:
    some = boxes((0, 0, 300, 30), (0, 50, 300, 30))
    assert merged(some[:native], some[:shrunk]) == ([True] * native, [True] * shrunk)
