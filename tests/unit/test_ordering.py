from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyocr.imaging.geometry import FloatArray, order_quads
from steadyocr.pipeline.ordering import page_tilt, reading_order, was_read_upwards

Box = tuple[float, float, float, float]  # x, y, width, height

TWO_COLUMN_ROWS: list[Box] = [
    (x, 60.0 * row, width, 24) for row in range(12) for x, width in ((0, 340), (400, 180), (620, 260))
]
ROWS = st.lists(
    st.lists(st.floats(60, 300), min_size=1, max_size=4),
    min_size=1,
    max_size=10,
)


def quads(boxes: Sequence[Box]) -> FloatArray:
    corners = [[(x, y), (x + w, y), (x + w, y + h), (x, y + h)] for x, y, w, h in boxes]
    return np.array(corners, np.float32).reshape(-1, 4, 2)


def turned(upright: FloatArray, degrees: float) -> FloatArray:
    radians = np.deg2rad(degrees)
    rotation = np.array([[np.cos(radians), -np.sin(radians)], [np.sin(radians), np.cos(radians)]])
    return order_quads(((upright - 500) @ rotation.T + 500).astype(np.float32))


def order_of(boxes: Sequence[Box], degrees: float = 0.0, seed: int = 1) -> list[int]:
    """Indices of the boxes in reading order, found from a shuffled list."""
    shuffled = np.random.default_rng(seed).permutation(len(boxes))
    found = reading_order(turned(quads(boxes), degrees)[shuffled])
    order: list[int] = shuffled[found].tolist()
    return order


def test_an_empty_page_has_an_empty_order() -> None:
    assert reading_order(np.zeros((0, 4, 2), np.float32)).tolist() == []


def test_rows_from_the_top_and_each_from_the_left() -> None:
    assert order_of(TWO_COLUMN_ROWS) == list(range(len(TWO_COLUMN_ROWS)))


def test_lines_of_one_row_may_differ_in_height_and_place() -> None:
    boxes: list[Box] = [(0, 100, 200, 40), (220, 112, 200, 20), (440, 95, 200, 44), (0, 160, 200, 40)]
    assert order_of(boxes) == [0, 1, 2, 3]


def test_a_staircase_of_lines_is_no_row() -> None:
    boxes: list[Box] = [(300 * step, 18 * step, 250, 30) for step in range(6)]
    order = order_of(boxes)
    assert order[0] == 0
    assert order[-1] == 5


@given(
    rows=ROWS, degrees=st.floats(-10, 10), height=st.floats(12, 40), leading=st.floats(1.3, 3), seed=st.integers(0, 99)
)
def test_a_page_turned_by_up_to_ten_degrees_is_read_in_the_same_order(
    rows: list[list[float]], degrees: float, height: float, leading: float, seed: int
) -> None:
    boxes: list[Box] = []
    for row, widths in enumerate(rows):
        x = 0.0
        for width in widths:
            width = max(width, 3 * height)
            boxes.append((x, row * height * leading, width, height))
            x += width + height
    assert order_of(boxes, degrees, seed) == list(range(len(boxes)))


@pytest.mark.parametrize("degrees", [-10, -3, 0, 3, 10])
def test_columns_of_vertical_lines_are_read_from_the_right(degrees: float) -> None:
    boxes: list[Box] = [(700 - 100 * column, y, 40, 280) for column in range(8) for y in (0, 320)]
    assert order_of(boxes, degrees) == list(range(16))


@pytest.mark.parametrize("degrees", [-10, -3, 0, 3, 10])
def test_a_page_turned_left_is_read_from_below_in_columns_from_the_left(degrees: float) -> None:
    boxes: list[Box] = [(100 * column, y, 40, 280) for column in range(8) for y in (320, 0)]
    page = turned(quads(boxes), degrees)
    order = np.random.default_rng(1).permutation(len(boxes))
    assert order[reading_order(page[order], upwards=True)].tolist() == list(range(16))
    assert was_read_upwards(page)
    assert not was_read_upwards(page[reading_order(page)])


def test_a_page_of_horizontal_lines_is_never_read_upwards() -> None:
    page = quads(TWO_COLUMN_ROWS)
    assert not was_read_upwards(page)
    assert reading_order(page, upwards=True).tolist() == list(range(len(page)))
    assert not was_read_upwards(page[:0])


def test_one_vertical_line_does_not_turn_the_page() -> None:
    boxes: list[Box] = [(0, 0, 300, 30), (400, 0, 30, 300), (0, 60, 300, 30), (0, 120, 300, 30)]
    assert order_of(boxes)[:2] == [0, 1] or order_of(boxes)[0] == 0
    horizontal = [index for index in order_of(boxes) if index != 1]
    assert horizontal == [0, 2, 3]


def test_a_vertical_title_beside_a_table_leaves_its_rows_as_they_are() -> None:
    title: Box = (30, 30, 56, 370)
    cells: list[Box] = [
        (x, 35.0 + 54 * row + dy, width, 32) for row in range(7) for x, width, dy in ((200, 180, 2), (640, 70, 0))
    ]
    order = order_of([title, *cells])
    assert [index for index in order if index != 0] == list(range(1, len(cells) + 1))


def test_a_large_price_beside_three_lines_keeps_them_in_order() -> None:
    # Each of them begins a little further left than the one above.
    assert order_of([(0, 0, 200, 150), (222, 10, 300, 30), (220, 60, 300, 30), (218, 111, 300, 30)]) == [0, 1, 2, 3]


@given(st.floats(-30, 30))
def test_the_tilt_of_a_page_is_that_of_its_lines(degrees: float) -> None:
    assert page_tilt(turned(quads(TWO_COLUMN_ROWS), degrees)) == pytest.approx(degrees, abs=0.05)


def test_one_slanted_line_does_not_tilt_the_page() -> None:
    page = np.concatenate([quads(TWO_COLUMN_ROWS), turned(quads([(0, 900, 400, 30)]), 25)])
    assert page_tilt(page) == pytest.approx(0, abs=0.05)


def test_square_blobs_say_nothing_about_the_tilt() -> None:
    assert page_tilt(turned(quads([(0, 0, 30, 30), (50, 0, 30, 30)]), 20)) == 0.0
