"""How much of the known text a reader got right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.pictures import KnownLine

Reading = tuple[str, list[list[float]]]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Errors in one picture, to be added up over many.

    Attributes:
        edits: Characters to insert, delete or change, over all lines.
        characters: Characters that were drawn. Blanks count in neither.
        lines: Lines found.
    """

    edits: int
    characters: int
    lines: int


def compare_reading(known: Sequence[KnownLine], readings: Sequence[Reading]) -> Agreement:
    """Give each reading to the known line that its centre lies in (or is nearest to), join from left to right, compare.

    A line found in two halves costs nothing; one that was not found costs all its characters.

    Args:
        known: What was drawn.
        readings: Text and quad of each line found.
    """
    parts: list[list[tuple[float, str]]] = [[] for _ in known]
    boxes = np.array([line.quad for line in known], np.float64)
    centres = boxes.mean(axis=1)
    across = (boxes[:, 3] - boxes[:, 0]) + (boxes[:, 2] - boxes[:, 1])
    along = (boxes[:, 1] - boxes[:, 0]) + (boxes[:, 2] - boxes[:, 3])
    for text, quad in readings:
        offset = np.mean(quad, axis=0) - centres
        # In units of half a line's height and half its length.
        u = np.abs((offset * along).sum(axis=1)) / (along**2).sum(axis=1) * 4
        v = np.abs((offset * across).sum(axis=1)) / (across**2).sum(axis=1) * 4
        nearest = int(np.argmin(np.maximum(u, v)))
        place = float((offset[nearest] * along[nearest]).sum())
        parts[nearest].append((place, text))
    edits = characters = 0
    for line, found in zip(known, parts, strict=True):
        wanted = _plain(line.text)
        edits += edit_distance(wanted, _plain("".join(text for _, text in sorted(found))))
        characters += len(wanted)
    return Agreement(edits, characters, len(readings))


def edit_distance(a: str, b: str) -> int:
    """Levenshtein distance."""
    previous = list(range(len(b) + 1))
    for row, left in enumerate(a, 1):
        current = [row]
        for column, right in enumerate(b, 1):
            change = previous[column - 1] + (left != right)
            current.append(min(previous[column] + 1, current[-1] + 1, change))
        previous = current
    return previous[-1]


_FOLD = str.maketrans({"，": ",", "。": ".", "：": ":", "；": ";", "（": "(", "）": ")"})


def _plain(text: str) -> str:
    """Without blanks, and full-width punctuation as half-width: which of them is drawn depends on the font."""
    return "".join(text.split()).translate(_FOLD)
