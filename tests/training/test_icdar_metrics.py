"""Cases counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from steadyocr.training.metrics import Counts, count_matches, intersection_area, mean_hmean, pairwise_iou, total
from steadyocr.training.regions import Region


def quad(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float32)


def label(*corners: float, ignore: bool = False) -> Region:
    return Region(quad(*corners), ignore=ignore)


def test_iou_of_boxes_is_exact() -> None:
    found = pairwise_iou([quad(0, 0, 10, 10)], [quad(5, 0, 15, 10), quad(20, 20, 30, 30), quad(0, 0, 10, 10)])
    assert found[0] == pytest.approx([50 / 150, 0, 1])


def test_turning_direction_does_not_matter() -> None:
    assert pairwise_iou([quad(0, 0, 10, 10)[::-1]], [quad(0, 0, 10, 10)])[0, 0] == pytest.approx(1)


def test_what_is_not_convex_counts_as_its_hull() -> None:
    box = quad(0, 0, 30, 10)
    crossed = box[[0, 2, 1, 3]]
    bay = np.array([[0, 0], [10, 0], [10, 8], [20, 8], [20, 0], [30, 0], [30, 10], [0, 10]], np.float32)
    for odd in (crossed, bay):
        assert pairwise_iou([odd], [box])[0, 0] == pytest.approx(1)
        assert pairwise_iou([odd], [quad(0, 0, 60, 10)])[0, 0] == pytest.approx(0.5)


def test_one_detection_matches_one_label() -> None:
    labels = [label(0, 0, 10, 10), label(0, 0, 10, 9)]
    assert count_matches([quad(0, 0, 10, 10)], labels) == Counts(1, 2, 1)


def test_iou_must_exceed_one_half() -> None:
    # 10 x 10 against 10 x 20 around it: IoU is exactly 0.5.
    assert count_matches([quad(0, 0, 10, 20)], [label(0, 0, 10, 10)]) == Counts(0, 1, 1)
    assert count_matches([quad(0, 0, 10, 19)], [label(0, 0, 10, 10)]) == Counts(1, 1, 1)


def test_detections_on_ignored_regions_do_not_count() -> None:
    labels = [label(0, 0, 10, 10, ignore=True), label(50, 50, 60, 60)]
    counts = count_matches([quad(1, 1, 9, 9), quad(50, 50, 60, 60)], labels)
    assert counts == Counts(1, 1, 1)
    # Less than half inside: a false alarm like any other.
    assert count_matches([quad(6, 0, 16, 10)], labels) == Counts(0, 1, 1)


def test_detection_over_many_ignored_regions_is_judged_by_each() -> None:
    ignored = [label(x, 0, x + 4, 10, ignore=True) for x in (0, 5)]
    assert count_matches([quad(0, 0, 9, 10)], ignored) == Counts(0, 0, 1)


def test_split_line_costs_recall_and_precision() -> None:
    counts = count_matches([quad(0, 0, 50, 10), quad(50, 0, 100, 10)], [label(0, 0, 100, 10)])
    assert counts == Counts(0, 1, 2)


@pytest.mark.parametrize(
    ("counts", "precision", "recall", "hmean"),
    [
        (Counts(0, 0, 0), 1.0, 1.0, 1.0),
        (Counts(0, 0, 3), 0.0, 1.0, 0.0),
        (Counts(0, 3, 0), 0.0, 0.0, 0.0),
        (Counts(2, 4, 2), 1.0, 0.5, 2 / 3),
    ],
)
def test_rates(counts: Counts, precision: float, recall: float, hmean: float) -> None:
    assert (counts.precision, counts.recall) == (precision, recall)
    assert counts.hmean == pytest.approx(hmean)


def test_sets_weigh_the_same_and_counts_add_up() -> None:
    sets = {"large": Counts(100, 100, 100), "small": Counts(0, 1, 1)}
    assert mean_hmean(sets) == pytest.approx(0.5)
    assert total(sets.values()) == Counts(100, 101, 101)
    assert mean_hmean({}) == 0.0


def test_quads_that_share_part_of_a_side_overlap_by_what_they_share() -> None:
    """What OpenCV makes of this pair is an IoU of 3.07."""
    turn = np.deg2rad(21)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    first, second = (
        (box @ rotation.T + (427, 507)).astype(np.float32) for box in (quad(0, 0, 47, 18), quad(18, 0, 41, 12))
    )
    assert pairwise_iou([first], [second])[0, 0] == pytest.approx(23 * 12 / (47 * 18), abs=1e-4)
    assert intersection_area(first, second) == pytest.approx(23 * 12, abs=0.1)
