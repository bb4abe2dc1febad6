"""Post-processing a kept map again: same knobs, same lines; texts stay with their lines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from steadyocr.detection.postprocess import PostprocessParams
from steadyocr.errors import InternalError
from steadyocr.imaging.plan import plan_resize
from steadyocr.pipeline.extras import THUMBNAIL_SIDE, pack_map, thumbnail_jpeg, unpack_map
from steadyocr.pipeline.repost import RepostRequest, find_lines, with_texts
from steadyocr.recognition.recognizer import LineText

PLAN = plan_resize(400, 200, 200)


def three_bars() -> np.ndarray:
    """Three lines at network scale, the lower two fainter and side by side."""
    probability = np.zeros((PLAN.content_height, PLAN.content_width), np.uint8)
    probability[10:20, 20:160] = 240
    probability[50:60, 20:80] = 100
    probability[50:60, 110:170] = 100
    return probability


def request_for(params: PostprocessParams, **values: Any) -> RepostRequest:
    return RepostRequest(map_png=pack_map(three_bars()), plan=PLAN, params=params, **values)


def known(quads: np.ndarray, texts: list[str]) -> list[dict[str, Any]]:
    return [{"quad": q.tolist(), "text": t, "text_score": 0.9} for q, t in zip(quads, texts, strict=True)]


def refuse_to_read(quads: np.ndarray) -> list[LineText]:
    raise AssertionError(f"{len(quads)} lines were to be read")


def test_a_map_survives_packing_to_the_last_bit() -> None:
    assert np.array_equal(unpack_map(pack_map(three_bars())), three_bars())


@pytest.mark.parametrize("data", [b"", b"no picture", pack_map(three_bars())[:60]])
def test_a_damaged_map_is_a_typed_error(data: bytes) -> None:
    with pytest.raises(InternalError):
        find_lines(RepostRequest(map_png=data, plan=PLAN, params=PostprocessParams()))


def test_a_map_of_another_size_is_a_typed_error() -> None:
    request = RepostRequest(map_png=pack_map(three_bars()), plan=plan_resize(64, 64, 64), params=PostprocessParams())
    with pytest.raises(InternalError, match="size"):
        find_lines(request)


def test_a_lower_threshold_finds_the_faint_lines() -> None:
    strict, _ = find_lines(request_for(PostprocessParams(bin_threshold=0.6)))
    loose, scores = find_lines(request_for(PostprocessParams(bin_threshold=0.2)))
    assert (len(strict), len(loose)) == (1, 3)
    # In pixels of the picture, which is twice as large as the map, and in reading order.
    assert loose[0][:, 1].max() < loose[1][:, 1].min()
    assert loose[1][:, 0].max() < loose[2][:, 0].min()
    assert loose[0][:, 0].max() > 300
    assert scores[0] > scores[1]


def test_each_line_of_a_dense_page_keeps_its_text() -> None:
    """They are compared some at a time."""
    corners = np.array([[0, 0], [20, 0], [20, 8], [0, 8]], np.float32)
    quads = np.stack([corners + np.array([30 * (n % 20), 12 * (n // 20)]) for n in range(250)]).astype(np.float32)
    texts = [f"cell {n}" for n in range(250)]
    lines, fresh = with_texts(quads, np.ones(250, np.float32), known(quads[::-1], texts[::-1]), refuse_to_read)
    assert ([line["text"] for line in lines], fresh) == (texts, [])


def test_texts_stay_with_lines_that_grew_and_only_new_lines_are_read() -> None:
    before, _ = find_lines(request_for(PostprocessParams(bin_threshold=0.6, unclip_ratio=1.5)))
    quads, scores = find_lines(request_for(PostprocessParams(bin_threshold=0.2, unclip_ratio=2.2)))
    asked: list[int] = []

    def read(new: np.ndarray) -> list[LineText]:
        asked.append(len(new))
        return [LineText(f"new {index}", 0.5) for index in range(len(new))]

    lines, fresh = with_texts(quads, scores, known(before, ["old"]), read)
    assert [line["text"] for line in lines] == ["old", "new 0", "new 1"]
    assert (fresh, asked) == ([1, 2], [2])
    assert [line["id"] for line in lines] == [0, 1, 2]


def test_unread_lines_have_no_text_and_nothing_is_read_unasked() -> None:
    quads, scores = find_lines(request_for(PostprocessParams(bin_threshold=0.2)))
    lines, fresh = with_texts(quads, scores, [], None)
    assert fresh == []
    assert {(line["text"], line["text_score"]) for line in lines} == {(None, None)}


def columns() -> np.ndarray:
    """Three tall lines side by side, as they are found: columns from the right."""
    return np.array([[(x, 0), (x + 20, 0), (x + 20, 300), (x, 300)] for x in (200, 100, 0)], np.float32)


def test_a_page_turned_left_is_in_order_once_it_has_been_read_and_stays_so() -> None:
    found, scores = columns(), np.array([0.7, 0.8, 0.9], np.float32)

    def read(new: np.ndarray) -> list[LineText]:
        return [LineText(f"at {quad[0, 0]:g}", 0.9, upwards=True) for quad in new]

    lines, fresh = with_texts(found, scores, [], read)
    assert [(line["text"], line["score"]) for line in lines] == [("at 0", 0.9), ("at 100", 0.8), ("at 200", 0.7)]
    assert fresh == [0, 1, 2]
    # One of them was not there before; it has its place among the others.
    lines, fresh = with_texts(found, scores, [lines[0], lines[2]], read)
    assert [line["text"] for line in lines] == ["at 0", "at 100", "at 200"]
    assert fresh == [1]
    lines, _ = with_texts(found, scores, lines, None)
    assert [line["text"] for line in lines] == ["at 0", "at 100", "at 200"]


def test_words_that_became_one_line_are_not_what_they_were() -> None:
    quads, scores = find_lines(request_for(PostprocessParams(bin_threshold=0.2)))
    joined = np.array([[quads[1][0], quads[2][1], quads[2][2], quads[1][3]]], np.float32)
    lines, _ = with_texts(joined, scores[:1], known(quads[1:], ["left", "right"]), None)
    assert lines[0]["text"] is None


def test_a_line_read_as_nothing_is_not_read_again() -> None:
    quads, scores = find_lines(request_for(PostprocessParams(bin_threshold=0.2)))
    lines, fresh = with_texts(quads, scores, known(quads, ["", "", ""]), refuse_to_read)
    assert (fresh, {line["text"] for line in lines}) == ([], {""})


def test_nothing_found_is_an_answer() -> None:
    quads, scores = find_lines(request_for(PostprocessParams(bin_threshold=1.0)))
    assert with_texts(quads, scores, known(np.zeros((1, 4, 2)), ["x"]), refuse_to_read) == ([], [])


@pytest.mark.parametrize(("width", "height"), [(4000, 10), (10, 4000), (1, 1), (640, 480)])
def test_a_thumbnail_is_a_small_jpeg(width: int, height: int) -> None:
    import io

    from PIL import Image

    with Image.open(io.BytesIO(thumbnail_jpeg(np.zeros((height, width, 3), np.uint8)))) as image:
        assert image.format == "JPEG"
        assert max(image.size) <= min(THUMBNAIL_SIDE, max(width, height))
