"""The text-line recogniser: crop each quad upright, run it at one of a few widths, decode."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steadyocr.errors import ModelCorrupt
from steadyocr.imaging.geometry import crop_quad, quad_sizes
from steadyocr.recognition.ctc import character_table, decode_best_path
from steadyocr.runtime.base import FloatArray, IntArray, Session
from steadyocr.runtime.manifest import Manifest
from steadyocr.runtime.tensor import fill_tensor

# A line at least this many times taller than wide is turned before reading.
_TALL_RATIO = 1.5
# Quarter turns counter-clockwise that lay a tall line down as it is read.
_FROM_ABOVE, _FROM_BELOW = 1, 3
# Lines are padded to a multiple of the fine step, longer ones of the coarse step, and run one by one: 29 shapes in all.
# Measured with OpenVINO on AMX (12 pages, 427 lines, CPU time): a column costs 23 us in any batch of 1 to 8 lines, but
# a shape never seen 30 ms and one seen before 6 ms, so batches of free size cost about 1.15 times as much as this.
# Character errors are the same, and the kernels that are kept for each shape are bounded.
_FINE_STEP = 64
_COARSE_STEP = 128
_COARSE_ABOVE = 512
_MIN_WIDTH = 32
# Longer lines are squeezed to this; 66 times as long as high is more than any line seen.
_MAX_WIDTH = 3200


@dataclass(frozen=True, slots=True)
class LineText:
    """What was read in one line.

    Attributes:
        text: The text.
        score: Mean character probability, 0 to 1.
        upwards: It was read from below, like a line on a page turned left.
    """

    text: str
    score: float
    upwards: bool = False


def read_upwards(texts: Iterable[LineText]) -> bool:
    """Whether a page was turned left, by how well its lines were read from below, and how well otherwise."""
    return sum(text.score if text.upwards else -text.score for text in texts) > 0


@dataclass(frozen=True, slots=True)
class _Crop:
    """A reading to try.

    Attributes:
        line: Index of the quad.
        quarter_turns: How it is turned.
        width: At the network's input height.
    """

    line: int
    quarter_turns: int
    width: int


class Recognizer:
    """A CTC line recogniser. Immutable after loading.

    Args:
        session: The loaded network, whose metadata hold the dictionary under ``character``.
        manifest: Its manifest; ``input.height`` is the height of a line, ``input.stride`` the width step.
        lines_at_once: Lines of one padded width that go through the network together.

    Raises:
        ModelCorrupt: The model has no dictionary or the manifest no input height.
    """

    def __init__(self, session: Session, manifest: Manifest, *, lines_at_once: int = 1) -> None:
        dictionary = session.metadata.get("character")
        if not dictionary or manifest.input.height is None:
            raise ModelCorrupt(f"model {manifest.name}: no dictionary in the file or no input.height in the manifest")
        self._session = session
        self._input = manifest.input
        self._height = manifest.input.height
        self._characters = character_table(dictionary)
        self._lines_at_once = lines_at_once
        self.manifest = manifest

    def read(
        self, image: NDArray[np.uint8], quads: FloatArray, on_progress: Callable[[], None] = lambda: None
    ) -> list[LineText]:
        """Read the lines of a picture.

        Args:
            image: (H, W, 3) uint8 RGB.
            quads: (N, 4, 2) float32 in its pixels, clockwise from top-left.
            on_progress: Called after each batch of lines: a sign of life on pages that take long.

        Returns:
            One entry for each quad, in the same order.
        """
        best = [LineText("", 0.0)] * len(quads)
        for crops in self._batches(quads):
            for crop, line in zip(crops, self._read_crops(image, quads, crops), strict=True):
                if line.score > best[crop.line].score:
                    best[crop.line] = line
            on_progress()
        return best

    def _batches(self, quads: FloatArray) -> Iterator[list[_Crop]]:
        """Group readings by padded width, narrow ones first: equal shapes follow each other, as a change costs."""
        ordered = sorted(self._plan(quads), key=lambda entry: entry.width)
        for _, group in itertools.groupby(ordered, key=lambda entry: self._padded(entry.width)):
            while crops := list(itertools.islice(group, self._lines_at_once)):
                yield crops

    def _plan(self, quads: FloatArray) -> list[_Crop]:
        crops = []
        for index, (width, height) in enumerate(quad_sizes(quads).tolist()):
            if height >= _TALL_RATIO * width:
                # Upright characters in a column and lines turned either way look alike from outside: the reading
                # with the better score wins.
                size = self._width_for(height, width)
                crops += [_Crop(index, _FROM_ABOVE, size), _Crop(index, _FROM_BELOW, size)]
            else:
                crops.append(_Crop(index, 0, self._width_for(width, height)))
        return crops

    def _width_for(self, length: float, height: float) -> int:
        width = min(max(self._height * length / max(height, 1e-3), _MIN_WIDTH), _MAX_WIDTH)
        return math.ceil(width)

    def _padded(self, width: int) -> int:
        step = math.lcm(_COARSE_STEP if width > _COARSE_ABOVE else _FINE_STEP, self._input.stride)
        return -(-width // step) * step

    def _read_crops(self, image: NDArray[np.uint8], quads: FloatArray, crops: Sequence[_Crop]) -> list[LineText]:
        tensor = np.zeros((len(crops), 3, self._height, self._padded(crops[0].width)), np.float32)
        for row, crop in zip(tensor, crops, strict=True):
            fill_tensor(row, self._crop(image, quads[crop.line], crop), self._input)
        found = self._run(tensor)
        if found is None:
            # Together they were too much; the page must not fail for that. The failed attempt lets go of everything
            # first: within an except block its traceback would hold what the single lines need.
            del tensor, row
            return [self._read_crops(image, quads, [crop])[0] for crop in crops]
        return [
            LineText(text, score, upwards=crop.quarter_turns == _FROM_BELOW)
            for crop, (text, score) in zip(crops, decode_best_path(*found, self._characters), strict=True)
        ]

    def _run(self, tensor: FloatArray) -> tuple[IntArray, FloatArray] | None:
        """Run the network; ``None`` when memory was not enough for these lines together."""
        try:
            return self._session.run_argmax(tensor)
        except MemoryError:
            if len(tensor) == 1:
                raise
        return None

    def _crop(self, image: NDArray[np.uint8], quad: FloatArray, crop: _Crop) -> NDArray[np.uint8]:
        # Turning the corner order turns the crop: start k corners later and the picture stands k quarter turns
        # counter-clockwise.
        turned = np.roll(quad, -crop.quarter_turns, axis=0)
        return crop_quad(image, turned, height=self._height, width=crop.width)
