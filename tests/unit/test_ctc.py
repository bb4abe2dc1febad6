from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from steadyocr.recognition.ctc import character_table, decode_best_path

TABLE = ("", "a", "b", " ")


def decoded(*rows: Sequence[int], probability: Sequence[float] = (0.5,)) -> list[tuple[str, float]]:
    indices = np.array(rows, np.int64)
    return decode_best_path(indices, np.broadcast_to(np.array(probability, np.float32), indices.shape), TABLE)


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ([1, 2], "ab"),
        ([1, 1, 1], "a"),
        ([1, 0, 1], "aa"),
        ([0, 1, 1, 0, 0, 1, 2, 2, 0], "aab"),
        ([0, 0, 0], ""),
        ([1, 3, 2], "a b"),
        ([2], "b"),
    ],
)
def test_repeats_collapse_and_blanks_separate(steps: list[int], text: str) -> None:
    assert decoded(steps)[0][0] == text


def test_the_score_is_the_mean_over_the_steps_that_made_a_character() -> None:
    ((text, score),) = decoded([0, 1, 1, 2], probability=[0.1, 0.8, 0.2, 0.4])
    assert text == "ab"
    assert score == pytest.approx(0.6)


def test_an_empty_text_scores_nothing() -> None:
    assert decoded([0, 0]) == [("", 0.0)]


def test_rows_do_not_touch_each_other() -> None:
    assert [text for text, _ in decoded([1, 1], [1, 0], [0, 1], [2, 1], [0, 0])] == ["a", "a", "a", "ba", ""]


def test_the_input_is_left_as_it_was() -> None:
    indices = np.array([[1, 1, 0, 2]])
    decode_best_path(indices, np.ones((1, 4), np.float32), TABLE)
    assert indices.tolist() == [[1, 1, 0, 2]]


def test_no_lines_give_no_texts() -> None:
    assert decode_best_path(np.zeros((0, 5), np.int64), np.zeros((0, 5), np.float32), TABLE) == []


@pytest.mark.parametrize("ending", ["", "\n"])
def test_the_dictionary_is_one_character_a_line(ending: str) -> None:
    assert character_table(f"a\nb{ending}") == ("", "a", "b", " ")


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r", "\u3000"])
def test_a_character_that_is_a_separator_itself_shifts_nothing(separator: str) -> None:
    assert character_table(f"a\n{separator}\nb\n") == ("", "a", separator, "b", " ")
