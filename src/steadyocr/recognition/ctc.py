"""Greedy CTC decoding (Graves et al. 2006, section 3.2.1: best path)."""

from __future__ import annotations

from collections.abc import Sequence

from steadyocr.runtime.base import FloatArray, IntArray

BLANK = 0


def decode_best_path(
    indices: IntArray, probabilities: FloatArray, characters: Sequence[str]
) -> list[tuple[str, float]]:
    """Collapse repeats, drop blanks, join characters.

    Args:
        indices: (N, T) most probable class of each step.
        probabilities: (N, T) its probability.
        characters: Text of each class; class 0 is the blank.

    Returns:
        For each of N: the text and the mean probability of the steps that made it, 0 for an empty text.
    """
    kept = indices != BLANK
    kept[:, 1:] &= indices[:, 1:] != indices[:, :-1]
    results = []
    for row, keep, probability in zip(indices, kept, probabilities, strict=True):
        text = "".join(characters[index] for index in row[keep])
        results.append((text, float(probability[keep].mean()) if text else 0.0))
    return results


def character_table(dictionary: str) -> tuple[str, ...]:
    """Turn a model's dictionary (one character a line) into the class table: blank, characters, space."""
    # Not splitlines(): some entries are themselves line separators of Unicode.
    return ("", *dictionary.removesuffix("\n").split("\n"), " ")
