"""The picture of a verdict says what the protocol says."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from steadyocr.training import verdict_picture
from steadyocr.training.regions import FloatArray, Region
from steadyocr.training.verdict_picture import FALSE_ALARM, IGNORED, MATCHING, MISSED, draw_verdict


def box(x0: float, y0: float, x1: float, y1: float) -> FloatArray:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float32)


@pytest.fixture
def outlines(monkeypatch: pytest.MonkeyPatch) -> list[tuple[FloatArray, tuple[int, int, int]]]:
    """What is drawn, in order."""
    drawn: list[tuple[FloatArray, tuple[int, int, int]]] = []
    monkeypatch.setattr(verdict_picture, "_outline", lambda _, polygon, colour: drawn.append((polygon, colour)))
    return drawn


def colours(
    outlines: list[tuple[FloatArray, tuple[int, int, int]]], polygons: list[FloatArray]
) -> list[tuple[int, int, int]]:
    return [next(colour for drawn, colour in outlines if drawn is polygon) for polygon in polygons]


def test_detection_in_an_ignored_region_is_no_false_alarm(
    outlines: list[tuple[FloatArray, tuple[int, int, int]]],
) -> None:
    """The protocol does not count it, so a red outline sent people looking for a fault that is none."""
    regions = [Region(box(10, 10, 90, 40), ignore=True), Region(box(10, 50, 90, 70))]
    quads = [box(20, 15, 60, 35), box(10, 50, 88, 70), box(10, 80, 90, 95), box(70, 15, 140, 35)]
    draw_verdict(np.zeros((100, 150, 3), np.uint8), regions, quads)
    assert colours(outlines, quads) == [IGNORED, MATCHING, FALSE_ALARM, FALSE_ALARM]


def test_detection_that_does_not_count_finds_no_region(
    outlines: list[tuple[FloatArray, tuple[int, int, int]]],
) -> None:
    regions = [Region(box(10, 10, 90, 40), ignore=True), Region(box(10, 10, 90, 40))]
    quads = [box(10, 10, 90, 40)]
    draw_verdict(np.zeros((100, 150, 3), np.uint8), regions, quads)
    assert colours(outlines, [regions[1].polygon, quads[0]]) == [MISSED, IGNORED]


def test_outlines_are_drawn_in_their_colours() -> None:
    data = draw_verdict(np.full((100, 150, 3), 255, np.uint8), [], [box(10, 10, 140, 90)])
    canvas = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert canvas is not None
    blue, _, red = map(int, canvas[9:11, 75].mean(axis=0))
    assert red > blue + 30
