from __future__ import annotations

import hashlib
import weakref
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyocr.errors import ModelCorrupt
from steadyocr.recognition import recognizer as module
from steadyocr.recognition.recognizer import Recognizer
from steadyocr.runtime.base import FloatArray, IntArray
from steadyocr.runtime.manifest import FileEntry, InputEntry, Manifest

HEIGHT = 48
# Class n stands for the shade n: a line painted in one shade is read as that one character.
CHARACTERS = [chr(0x4E00 + shade) for shade in range(255)]


class ShadeReader:
    """A network that names the mean shade of the left end of each line, and remembers its batches."""

    backend = "fake"

    def __init__(self, metadata: Mapping[str, str] | None = None) -> None:
        self.metadata = {"character": "\n".join(CHARACTERS)} if metadata is None else metadata
        self.shapes: list[tuple[int, ...]] = []

    def run(self, batch: FloatArray) -> FloatArray:
        raise NotImplementedError

    def run_argmax(self, batch: FloatArray) -> tuple[IntArray, FloatArray]:
        self.shapes.append(batch.shape)
        left = batch[:, 0, 4:-4, 4:12]
        shade = np.rint(left.mean(axis=(1, 2))).astype(np.int64)
        # Surer of brighter lines, so that of two readings the brighter wins.
        sureness = (shade / 255).astype(np.float32)
        return shade[:, None], sureness[:, None]

    def release_memory(self) -> None:
        raise NotImplementedError


def manifest(height: int | None = HEIGHT) -> Manifest:
    return Manifest(
        name="fake",
        task="recognition",
        licence="none",
        source="here",
        file=FileEntry(path="x", sha256=hashlib.sha256(b"").hexdigest()),
        input=InputEntry(channel_order="RGB", mean=(0, 0, 0), std=(1, 1, 1), stride=8, height=height),
        folder=Path(),
    )


def quad(x: float, y: float, width: float, height: float) -> list[list[float]]:
    return [[x, y], [x + width, y], [x + width, y + height], [x, y + height]]


def painted(widths: list[int], height: int = 20) -> tuple[np.ndarray, FloatArray, list[str]]:
    """A picture with a line of each width, each in its own shade, and what is to be read."""
    image = np.zeros((len(widths) * height, max(widths, default=1), 3), np.uint8)
    boxes = []
    for row, width in enumerate(widths):
        image[row * height : (row + 1) * height, :width] = 10 + 2 * row
        boxes.append(quad(0, row * height, width, height))
    texts = [CHARACTERS[10 + 2 * row - 1] for row in range(len(widths))]
    return image, np.array(boxes, np.float32).reshape(-1, 4, 2), texts


@given(st.lists(st.integers(16, 1200), max_size=40))
def test_each_line_is_read_once_and_the_answers_keep_their_places(widths: list[int]) -> None:
    image, quads, texts = painted(widths)
    session = ShadeReader()
    lines = Recognizer(session, manifest()).read(image, quads)
    assert [line.text for line in lines] == texts
    assert sum(shape[0] for shape in session.shapes) == len(widths)


@given(st.lists(st.integers(16, 4000), min_size=1, max_size=30))
def test_lines_run_one_by_one_at_few_widths(widths: list[int]) -> None:
    image, quads, _ = painted(widths)
    session = ShadeReader()
    Recognizer(session, manifest()).read(image, quads)
    assert session.shapes == sorted(session.shapes)
    wanted = sorted(width * HEIGHT / 20 for width in widths)
    for (count, planes, height, width), needed in zip(session.shapes, wanted, strict=True):
        assert (count, planes, height) == (1, 3, HEIGHT)
        step = module._FINE_STEP if width <= module._COARSE_ABOVE else module._COARSE_STEP
        assert width % step == 0
        assert min(needed, module._MAX_WIDTH) <= width < needed + step


def test_a_page_without_lines_runs_nothing() -> None:
    session = ShadeReader()
    assert Recognizer(session, manifest()).read(np.zeros((10, 10, 3), np.uint8), np.zeros((0, 4, 2), np.float32)) == []
    assert session.shapes == []


@pytest.mark.parametrize("bright_end", ["top", "bottom"])
def test_a_tall_line_is_read_both_ways_and_the_surer_reading_wins(bright_end: str) -> None:
    image = np.full((200, 20, 3), 50, np.uint8)
    rows = slice(0, 60) if bright_end == "top" else slice(140, 200)
    image[rows] = 200
    session = ShadeReader()
    (line,) = Recognizer(session, manifest()).read(image, np.array([quad(0, 0, 20, 200)], np.float32))
    assert session.shapes == [(1, 3, HEIGHT, 512)] * 2
    assert line.text == CHARACTERS[199]
    assert line.upwards == (bright_end == "bottom")


def test_a_line_that_is_hardly_tall_is_read_as_it_stands() -> None:
    session = ShadeReader()
    Recognizer(session, manifest()).read(np.full((40, 40, 3), 9, np.uint8), np.array([quad(0, 0, 28, 40)], np.float32))
    assert [shape[0] for shape in session.shapes] == [1]


def test_a_degenerate_quad_is_survived() -> None:
    quads = np.array([quad(5, 5, 0, 0), quad(0, 0, 20, 0), quad(0, 0, 0, 20)], np.float32)
    lines = Recognizer(ShadeReader(), manifest()).read(np.full((40, 40, 3), 9, np.uint8), quads)
    assert len(lines) == 3


def test_a_model_without_dictionary_is_corrupt() -> None:
    with pytest.raises(ModelCorrupt, match="no dictionary"):
        Recognizer(ShadeReader({}), manifest())
    with pytest.raises(ModelCorrupt, match=r"no input\.height"):
        Recognizer(ShadeReader(), manifest(height=None))


@given(st.lists(st.integers(16, 1200), max_size=40), st.integers(2, 9))
def test_lines_read_together_are_read_as_alone(widths: list[int], at_once: int) -> None:
    image, quads, texts = painted(widths)
    session, single = ShadeReader(), ShadeReader()
    lines = Recognizer(session, manifest(), lines_at_once=at_once).read(image, quads)
    assert lines == Recognizer(single, manifest()).read(image, quads)
    assert [line.text for line in lines] == texts
    assert sum(shape[0] for shape in session.shapes) == len(widths)
    assert max((shape[0] for shape in session.shapes), default=0) <= at_once
    # As few as the bound allows: only the last of a width is not full.
    for width in {shape[3] for shape in session.shapes}:
        counts = [shape[0] for shape in session.shapes if shape[3] == width]
        assert counts[:-1] == [at_once] * (len(counts) - 1)


def test_lines_that_are_too_much_together_are_read_one_by_one() -> None:
    held: list[weakref.ref[FloatArray]] = []
    still_held: list[bool] = []

    class Small(ShadeReader):
        def run_argmax(self, batch: FloatArray) -> tuple[IntArray, FloatArray]:
            if len(batch) > 1:
                activations = batch.copy()
                held.append(weakref.ref(activations))
                raise MemoryError
            still_held.append(any(each() is not None for each in held))
            return super().run_argmax(batch)

    image, quads, texts = painted([100] * 5)
    session = Small()
    assert [line.text for line in Recognizer(session, manifest(), lines_at_once=3).read(image, quads)] == texts
    assert [shape[0] for shape in session.shapes] == [1] * 5
    # What the failed attempt held is free before the first line is tried again.
    assert still_held == [False] * 5
