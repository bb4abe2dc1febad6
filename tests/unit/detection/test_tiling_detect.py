from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from steadyocr.detection.detector import Detection
from steadyocr.detection.postprocess import FloatArray, PostprocessParams, quads_from_probability_map
from steadyocr.detection.tiling import detect_tiled, plan_tiles
from steadyocr.imaging.geometry import order_quads, quad_iou
from steadyocr.imaging.resize import ResizePlan, apply, plan_resize, to_source

BARE = PostprocessParams(unclip_ratio=0.0)
TILE, OVERLAP = 256, 64
Image = NDArray[np.uint8]


class InkDetector:
    """Every dark pixel is text, but like a network it sees nothing near its input's edges and no huge letters.

    Of shapes more than 90 pixels high it finds the middle.
    """

    def __init__(self) -> None:
        self.shapes: list[tuple[int, int]] = []

    def detect(self, image: Image, params: PostprocessParams, max_side: int) -> Detection:
        plan = plan_resize(image.shape[1], image.shape[0], max_side)
        quads, scores = quads_from_probability_map(self.probability_map(image, plan), params)
        return Detection(to_source(quads, plan), scores, plan)

    def probability_map(self, image: Image, plan: ResizePlan) -> FloatArray:
        resized = apply(image, plan)
        self.shapes.append((resized.shape[1], resized.shape[0]))
        ink = (resized[..., 0] < 128).astype(np.uint8)
        for contour in cv2.findContours(ink, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]:
            if min(cv2.minAreaRect(contour)[1]) > 90:
                x, y, width, height = cv2.boundingRect(contour)
                ink[y : y + height, x : x + width] = 0
                ink[y + height // 3 : y + height * 2 // 3, x + width // 3 : x + width * 2 // 3] = 1
        probability = np.zeros(ink.shape, np.float32)
        probability[8:-8, 8:-8] = ink[8:-8, 8:-8] * np.float32(0.9)
        return probability[: plan.content_height, : plan.content_width]


def bar(x: float, y: float, width: float, height: float, degrees: float = 0.0) -> FloatArray:
    """A text line: its quad, from its centre."""
    corners = np.asarray(cv2.boxPoints(((x, y), (width, height), degrees)), np.float32)
    quad: FloatArray = order_quads(corners[None])[0]
    return quad


def drawn(width: int, height: int, *bars: FloatArray) -> Image:
    image = np.full((height, width, 3), 255, np.uint8)
    for quad in bars:
        cv2.fillConvexPoly(image, np.round((quad - 0.5) * 16).astype(np.int32), (0, 0, 0), shift=4)
    return image


def found(image: Image, params: PostprocessParams = BARE, max_side: int = 256) -> Detection:
    return detect_tiled(InkDetector(), image, params, max_side, tile_side=TILE, overlap=OVERLAP)


def seams(length: int) -> list[int]:
    tiles = plan_tiles(length, 64, tile_side=TILE, overlap=OVERLAP)
    return [tile.x.inner_start for tile in tiles[1:]]


def assert_found_once(detection: Detection, *bars: FloatArray) -> None:
    iou = quad_iou(np.stack(bars), detection.quads)
    assert iou.shape == (len(bars), len(bars))
    assert iou.max(axis=1).min() > 0.85
    np.testing.assert_allclose(detection.scores, 0.9, atol=0.05)


def test_a_picture_that_fits_into_a_tile_is_detected_as_ever() -> None:
    image = drawn(250, 200, bar(100, 60, 120, 14), bar(120, 120, 150, 16, 10))
    params, detector = PostprocessParams(), InkDetector()
    tiled = detect_tiled(detector, image, params, 64, tile_side=TILE, overlap=OVERLAP)
    plain = InkDetector().detect(image, params, 250)
    np.testing.assert_array_equal(tiled.quads, plain.quads)
    np.testing.assert_array_equal(tiled.scores, plain.scores)
    assert tiled.plan == plain.plan
    assert len(tiled.quads) == 2
    assert len(detector.shapes) == 1


@pytest.mark.parametrize("offset", [-20, -6, 0, 6, 20])
@pytest.mark.parametrize("height", [12, 40, 60])
def test_a_line_along_a_seam_is_found_once(height: int, offset: int) -> None:
    line = bar(350, seams(900)[1] + offset, 500, height)
    assert_found_once(found(drawn(700, 900, line)), line)
    upright = bar(seams(900)[1] + offset, 350, height, 500)
    assert_found_once(found(drawn(900, 700, upright)), upright)


def test_lines_across_and_between_seams_are_found_once() -> None:
    (first, second, *_), (third, *_) = seams(900), seams(700)
    lines = [
        bar(450, 50, 840, 14),
        bar(first, 150, 60, 20),
        bar((first + second) / 2, third, second - first, 24),
        bar(second, 400, 24, 200),
        bar(700, 600, 100, 30),
    ]
    assert_found_once(found(drawn(900, 700, *lines)), *lines)


@pytest.mark.parametrize("degrees", [-20, 20, 70])
def test_a_tilted_line_across_three_tiles_is_one_line(degrees: float) -> None:
    line = bar(450, 450, 640, 20, degrees)
    centred = line - 450
    assert np.ptp(centred, axis=0).max() > 2 * TILE
    assert_found_once(found(drawn(900, 900, line)), line)


def test_tiles_give_what_the_whole_picture_gives() -> None:
    rng = np.random.default_rng(7)
    lines = [
        bar(300 + 550 * column + rng.uniform(-20, 20), 60 + 55 * row, rng.uniform(60, 460), rng.uniform(8, 24))
        for row in range(14)
        for column in range(2)
    ]
    image, params = drawn(1200, 900, *lines), PostprocessParams()
    plain = InkDetector().detect(image, params, 1200)
    tiled = found(image, params)
    assert len(plain.quads) == len(lines)
    np.testing.assert_allclose(tiled.quads, plain.quads, atol=1e-3)
    np.testing.assert_allclose(tiled.scores, plain.scores, atol=0.005)
    assert tiled.plan.effective_scale == 1.0


@pytest.mark.parametrize(("width", "height"), [(2400, 120), (120, 2400)])
def test_a_strip_is_read_along_its_length(width: int, height: int) -> None:
    # Three network pixels are too few for the shrunk pass.
    lines = [bar(width * share, height * share, 80, 10) for share in (0.45, 0.5, 0.55)]
    if width > height:
        lines = [bar(x, 60, 80, 10) for x in range(100, 2400, 100)]
    assert_found_once(found(drawn(width, height, *lines)), *lines)


def test_a_huge_line_is_taken_from_the_shrunk_pass_without_its_pieces() -> None:
    title, small = bar(500, 180, 800, 240), bar(500, 500, 600, 12)
    image = drawn(1000, 700, title, small)
    assert_found_once(found(image), title, small)
    # Without the shrunk pass only a piece of the title would be there.
    pieces = InkDetector().detect(image, BARE, 1000)
    assert quad_iou(title[None], pieces.quads).max() < 0.3


def test_all_tiles_have_the_shape_that_was_planned() -> None:
    detector = InkDetector()
    detect_tiled(detector, drawn(1000, 700), BARE, 256, tile_side=TILE, overlap=OVERLAP)
    tiles = plan_tiles(1000, 700, tile_side=TILE, overlap=OVERLAP)
    assert detector.shapes[1:] == [(tiles[0].padded_width, tiles[0].padded_height)] * len(tiles)


def test_an_empty_picture_holds_nothing() -> None:
    detection = found(drawn(600, 600))
    assert (detection.quads.shape, detection.scores.shape) == ((0, 4, 2), (0,))


def test_candidates_are_limited_for_each_tile() -> None:
    lines = [bar(60 + 80 * column, 40 + 40 * row, 50, 10) for row in range(14) for column in range(12)]
    tiles = len(plan_tiles(1000, 600, tile_side=TILE, overlap=OVERLAP))
    detection = found(drawn(1000, 600, *lines), PostprocessParams(unclip_ratio=0.0, max_candidates=2))
    assert len(detection.quads) == 2 * tiles < len(lines)


def test_the_caller_hears_of_each_tile_and_may_give_up() -> None:
    class GivenUp(Exception):
        pass

    heard: list[tuple[int, int]] = []

    def listen(index: int, count: int) -> None:
        heard.append((index, count))
        if index == 3:
            raise GivenUp

    with pytest.raises(GivenUp):
        detect_tiled(InkDetector(), drawn(600, 600), BARE, 256, tile_side=TILE, overlap=OVERLAP, on_tile=listen)
    assert heard == [(index, 9) for index in range(4)]


@pytest.mark.parametrize(
    ("width", "height", "count"),
    [(1280, 1280, 1), (1281, 1280, 2), (3840, 2160, 8), (5000, 3000, 15), (12000, 600, 11)],
)
def test_known_counts(width: int, height: int, count: int) -> None:
    assert len(plan_tiles(width, height)) == count


@pytest.mark.parametrize(
    "wrong", [{"tile_side": 100}, {"overlap": 641}, {"overlap": -1}, {"stride": 0}, {"tile_side": 0}]
)
def test_sizes_that_make_no_sense_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="sizes must be"):
        plan_tiles(100, 100, **wrong)


def test_a_byte_map_gives_what_a_float_map_gives() -> None:
    rng = np.random.default_rng(3)
    noise = np.asarray(cv2.GaussianBlur(rng.random((300, 300)), (0, 0), 4))
    levels: Image = np.interp(noise, (noise.min(), noise.max()), (0, 255)).round().astype(np.uint8)
    for threshold in (0.0, 0.3, 0.5, 1.0):
        params = PostprocessParams(bin_threshold=threshold)
        quads, scores = quads_from_probability_map(levels, params)
        wanted_quads, wanted_scores = quads_from_probability_map((levels / 255).astype(np.float32), params)
        np.testing.assert_array_equal(quads, wanted_quads)
        np.testing.assert_allclose(scores, wanted_scores, atol=1e-5)
        assert math.isclose(threshold, 1.0) == (len(quads) == 0)
