"""Overlap of two convex polygons, in plain floats: numpy is slower on four points."""

from __future__ import annotations

from collections.abc import Sequence

Corners = Sequence[Sequence[float]]

_Polygon = list[tuple[float, float]]


def intersection_area(a: Corners, b: Corners) -> float:
    """Area that two convex polygons share: Sutherland and Hodgman, cut `a` at each side of `b` in turn.

    Args:
        a: Corners in order, either way round.
        b: Corners in order, either way round.
    """
    # Taken from one corner: products of coordinates in the ten thousands would eat the digits.
    origin_x, origin_y = a[0]
    subject = [(x - origin_x, y - origin_y) for x, y in a]
    cutter = [(x - origin_x, y - origin_y) for x, y in b]
    if _signed_area(cutter) < 0:
        cutter.reverse()
    for index, end in enumerate(cutter):
        subject = _cut(subject, cutter[index - 1], end)
        if len(subject) < 3:
            return 0.0
    return abs(_signed_area(subject))


def _cut(polygon: _Polygon, start: tuple[float, float], end: tuple[float, float]) -> _Polygon:
    """The part of a polygon on the inner side of the line from `start` to `end`."""
    along_x, along_y = end[0] - start[0], end[1] - start[1]
    inside = [along_x * (y - start[1]) - along_y * (x - start[0]) for x, y in polygon]
    kept: _Polygon = []
    for index, point in enumerate(polygon):
        before, distance, distance_before = polygon[index - 1], inside[index], inside[index - 1]
        if (distance > 0 > distance_before) or (distance < 0 < distance_before):
            part = distance_before / (distance_before - distance)
            kept.append((before[0] + part * (point[0] - before[0]), before[1] + part * (point[1] - before[1])))
        if distance >= 0:
            kept.append(point)
    return kept


def _signed_area(polygon: _Polygon) -> float:
    return sum(polygon[index - 1][0] * y - polygon[index - 1][1] * x for index, (x, y) in enumerate(polygon)) / 2
