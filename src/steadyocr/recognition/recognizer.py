"""The text-line recogniser: crop each quad upright, batch by width, decode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steadyocr.errors import ModelCorrupt
from steadyocr.imaging.geometry import crop_quad, quad_sizes
from steadyocr.recognition.ctc import character_table, decode_best_path
from steadyocr.runtime.base import FloatArray, Session
from steadyocr.runtime.manifest import Manifest
from steadyocr.runtime.tensor import fill_tensor

# A line at least this many times taller than wide is turned before reading.
_TALL_RATIO = 1.5
# Bounds of one batch: width of all its rows together, and how much wider the widest may be than the narrowest.
_MAX_BATCH_COLUMNS = 4096
_MAX_WIDTH_SPREAD = 1.3
_MIN_WIDTH = 32
# Longer lines are squeezed to this; 66 times as long as high is more than any line seen.
_MAX_WIDTH = 3200


@dataclass(frozen=True, slots=True)
class LineText:
    """What was read in one line: text and mean character probability (0 to 1)."""

    text: str
    score: float


@dataclass(frozen=True, slots=True)
class _Crop:
    """A reading to try: which quad, how it is turned, its width at the network's input height."""

    line: int
    quarter_turns: int
    width: int


class Recognizer:
    """A CTC line recogniser. Immutable after loading.

    Args:
        session: The loaded network, whose metadata hold the dictionary under ``character``.
        manifest: Its manifest; ``input.height`` is the height of a line, ``input.stride`` the width step.

    Raises:
        ModelCorrupt: The model has no dictionary or the manifest no input height.
    """

    def __init__(self, session: Session, manifest: Manifest) -> None:
        dictionary = session.metadata.get("character")
        if not dictionary or manifest.input.height is None:
            raise ModelCorrupt(f"model {manifest.name}: no dictionary in the file or no input.height in the manifest")
        self._session = session
        self._input = manifest.input
        self._height = manifest.input.height
        self._characters = character_table(dictionary)
        self.manifest = manifest

    def read(self, image: NDArray[np.uint8], quads: FloatArray) -> list[LineText]:
        """Read the lines of a picture.

        Args:
            image: (H, W, 3) uint8 RGB.
            quads: (N, 4, 2) float32 in its pixels, clockwise from top-left.

        Returns:
            One entry for each quad, in the same order.
        """
        best = [LineText("", 0.0)] * len(quads)
        for batch in _batches(self._plan(quads)):
            for crop, line in zip(batch, self._read_batch(image, quads, batch), strict=True):
                if line.score > best[crop.line].score:
                    best[crop.line] = line
        return best

    def _plan(self, quads: FloatArray) -> list[_Crop]:
        crops = []
        for index, (width, height) in enumerate(quad_sizes(quads).tolist()):
            if height >= _TALL_RATIO * width:
                # Upright characters in a column and lines turned either way look alike from outside: the reading
                # with the better score wins.
                size = self._width_for(height, width)
                crops += [_Crop(index, 1, size), _Crop(index, 3, size)]
            else:
                crops.append(_Crop(index, 0, self._width_for(width, height)))
        return crops

    def _width_for(self, length: float, height: float) -> int:
        width = min(max(self._height * length / max(height, 1e-3), _MIN_WIDTH), _MAX_WIDTH)
        step = self._input.stride
        return int(-(-width // step) * step)

    def _read_batch(self, image: NDArray[np.uint8], quads: FloatArray, batch: Sequence[_Crop]) -> list[LineText]:
        width = max(crop.width for crop in batch)
        tensor = np.zeros((len(batch), 3, self._height, width), np.float32)
        for row, crop in zip(tensor, batch, strict=True):
            fill_tensor(row, self._crop(image, quads[crop.line], crop), self._input)
        indices, probabilities = self._session.run_argmax(tensor)
        return [LineText(*entry) for entry in decode_best_path(indices, probabilities, self._characters)]

    def _crop(self, image: NDArray[np.uint8], quad: FloatArray, crop: _Crop) -> NDArray[np.uint8]:
        # Turning the corner order turns the crop: start k corners later and the picture stands k quarter turns
        # counter-clockwise.
        turned = np.roll(quad, -crop.quarter_turns, axis=0)
        return crop_quad(image, turned, height=self._height, width=crop.width)


def _batches(crops: Sequence[_Crop]) -> Iterator[list[_Crop]]:
    """Group crops of similar width, so that padding is not what the network works on."""
    batch: list[_Crop] = []
    for crop in sorted(crops, key=lambda entry: entry.width):
        full = (len(batch) + 1) * crop.width > _MAX_BATCH_COLUMNS
        if batch and (full or crop.width > _MAX_WIDTH_SPREAD * batch[0].width):
            yield batch
            batch = []
        batch.append(crop)
    if batch:
        yield batch
