"""What can be wrong with one row of a label file, and the row as it should be where that is certain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from steadyocr.errors import DatasetError
from steadyocr.training.labels import parse_label_line
from steadyocr.training.regions import (
    FloatArray,
    Region,
    convex_hull,
    crosses_itself,
    polygon_area,
    rect_sides,
    signed_area,
    uncrossed,
)

Severity = Literal["error", "warning", "note"]

# Regions thinner than this are masked out in training and can hardly be found.
TINY_SIDE: Final = 3.0
# Further outside than this (of the picture's longer side) a box is not a slip of the mouse.
_SLIGHT: Final = 0.02
_COORDINATES: Final = 8


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong in a row: a stable word for its kind, a sentence, and whether :func:`repaired` mends it."""

    kind: str
    severity: Severity
    message: str
    fixable: bool = False


def inspect_line(line: str, where: str, size: tuple[int, int] | None) -> tuple[list[Finding], Region | None]:
    """Judge one row that is not blank.

    Args:
        line: The row.
        where: File and line, for the parser's message.
        size: Width and height of the picture, where it is known.

    Returns:
        What is wrong, and the region, or ``None`` where the row cannot be read.
    """
    try:
        region = parse_label_line(line, where)
    except DatasetError as error:
        return [Finding("bad_row", "error", error.message.removeprefix(f"{where}: "))], None
    return [*_text_findings(line, region), *shape_findings(region.polygon, size)], region


def _text_findings(line: str, region: Region) -> Iterator[Finding]:
    if "," in region.text:
        yield Finding("comma_in_text", "note", "the text holds a comma; read as text here, other tools may cut it")
    if line.count(",") < _COORDINATES:
        yield Finding("no_text", "note", "no text after the coordinates; fine for detection")


def shape_findings(polygon: FloatArray, size: tuple[int, int] | None) -> Iterator[Finding]:
    """Judge a polygon."""
    crossed = crosses_itself(polygon)
    if crossed:
        yield Finding("crossed", "warning", "the outline crosses itself: corners are out of order", fixable=True)
    elif signed_area(polygon) < 0:
        yield Finding("counter_clockwise", "warning", "corners run counter-clockwise", fixable=True)
    hull = convex_hull(polygon)
    if polygon_area(hull) <= 0:
        yield Finding("no_area", "error", "the box has no area")
    elif rect_sides(hull)[0] < TINY_SIDE:
        yield Finding("tiny", "warning", f"the box is thinner than {TINY_SIDE:g} pixels and will not be learned")
    if size is not None:
        yield from _outside_findings(polygon, size)


def _outside_findings(polygon: FloatArray, size: tuple[int, int]) -> Iterator[Finding]:
    limit = np.array(size, np.float32)
    excess = float(np.maximum(np.maximum(-polygon, polygon - limit), 0.0).max())
    if excess <= 0:
        return
    shown = f"{excess:.4g} pixels outside the picture of {size[0]} x {size[1]}"
    if excess <= max(2.0, _SLIGHT * max(size)):
        # Cut off at the edge, a thin box would be none.
        left = polygon_area(convex_hull(np.clip(polygon, 0.0, limit))) > 0
        yield Finding("outside", "warning", f"a corner lies {shown}", fixable=bool(left))
    else:
        yield Finding("far_outside", "error", f"a corner lies {shown}; is this label another picture's?")


def repaired(line: str, region: Region, findings: list[Finding], size: tuple[int, int] | None) -> str:
    """Return the row with everything mended that is marked as fixable; the text stays as it is."""
    kinds = {finding.kind for finding in findings if finding.fixable}
    if not kinds:
        return line
    polygon = region.polygon
    if "crossed" in kinds:
        polygon = uncrossed(polygon)
    if "counter_clockwise" in kinds:
        # The first corner stays first: it is where reading starts.
        polygon = np.roll(polygon[::-1], 1, axis=0)
    if "outside" in kinds and size is not None:
        polygon = np.clip(polygon, 0.0, np.array(size, np.float32))
    numbers = ",".join(_number(float(value)) for value in polygon.reshape(-1))
    rest = line.split(",", _COORDINATES)[_COORDINATES:]
    return ",".join([numbers, *rest])


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() else f"{value:.2f}"
