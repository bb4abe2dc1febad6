from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from steadyocr.imaging.draw import overlay_png


def pixels_of(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def quads_at(*boxes: tuple[float, float, float, float]) -> NDArray[np.float32]:
    return np.array([[[a, b], [c, b], [c, d], [a, d]] for a, b, c, d in boxes], np.float32)


def test_picture_is_copied_with_its_colours() -> None:
    image = np.zeros((60, 90, 3), np.uint8)
    image[..., 0], image[..., 2] = 200, 30
    before = image.copy()
    drawn = pixels_of(overlay_png(image, quads_at((20, 25, 70, 50))))
    np.testing.assert_array_equal(image, before)
    assert drawn.shape == image.shape
    assert drawn[55, 5].tolist() == [200, 0, 30]
    # The outline, and nothing inside it.
    assert drawn[49, 45].tolist() != [200, 0, 30]
    assert drawn[38, 45].tolist() == [200, 0, 30]


def test_without_quads_nothing_is_drawn() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    np.testing.assert_array_equal(pixels_of(overlay_png(image, np.zeros((0, 4, 2), np.float32))), image)


def test_large_picture_is_shrunk_with_its_quads() -> None:
    image = np.full((300, 600, 3), 255, np.uint8)
    drawn = pixels_of(overlay_png(image, quads_at((200, 150, 400, 250)), max_side=150))
    assert drawn.shape == (75, 150, 3)
    rows, columns = np.nonzero((drawn < 200).any(axis=2))
    # A quarter of 200..400 and of 150..250, the label above it, and a line's width.
    assert 47 <= columns.min() <= 51
    assert 98 <= columns.max() <= 102
    assert 60 <= rows.max() <= 64


def test_labels_on_a_long_strip_leave_its_lines_to_be_seen() -> None:
    """A receipt: by its longer side labels were as wide as half of it, and higher than a line."""
    image = np.full((4000, 200, 3), 255, np.uint8)
    drawn = pixels_of(overlay_png(image, quads_at((20, 2000, 180, 2030)), ["77"]))
    rows, columns = np.nonzero((drawn[:1995] < 200).any(axis=2))
    assert rows.max() - rows.min() < 20
    assert columns.max() - columns.min() < 30


def test_labels_and_quads_beyond_the_picture() -> None:
    image = np.full((40, 40, 3), 255, np.uint8)
    quads = quads_at((-10, -10, 20, 20), (30, 30, 90, 90), (500, 500, 600, 600))
    assert pixels_of(overlay_png(image, quads, ["a", "b", "c"])).shape == (40, 40, 3)
    with pytest.raises(ValueError, match="zip"):
        overlay_png(image, quads, ["a"])
