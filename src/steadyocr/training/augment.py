"""Random crops of labelled pictures: one warp straight into the crop, then cheap pixel damage.

Everything is a function of its arguments and a seeded generator. Text is never mirrored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from steadyocr.training.pixels import PixelParams, damage_pixels
from steadyocr.training.regions import FloatArray, Region, polygon_area, rect_sides

ByteArray = NDArray[np.uint8]
Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentParams:
    """How a crop is drawn from a picture; every ``p_`` is a probability.

    Attributes:
        scale_min: Least enlargement, crop pixels per picture pixel.
        scale_max: Greatest enlargement.
        p_text_height: Choose the scale so that one region gets a height drawn from the next two, instead.
        text_height_min: Pixels in the crop.
        text_height_max: Pixels in the crop.
        rotation_deg: Usual rotation, drawn from minus to plus this.
        p_free_rotation: Any angle instead.
        p_quarter_turn: A quarter turn on top, either way.
        aspect_max: Widths and heights are stretched against each other by up to this factor.
        p_perspective: A mild perspective.
        perspective: How far it moves the crop's corners at most, as a share of the side.
        p_aim_at_text: The crop is placed over a region instead of anywhere.
        keep_area: A cut region stays learnable when this share of its area is inside.
        keep_height: Or when this share of its height is: a line cut across still reads as a line.
        pixels: Damage to the pixels.
    """

    scale_min: float = 0.35
    scale_max: float = 2.2
    p_text_height: float = 0.5
    text_height_min: float = 9.0
    text_height_max: float = 90.0
    rotation_deg: float = 12.0
    p_free_rotation: float = 0.06
    p_quarter_turn: float = 0.05
    aspect_max: float = 1.25
    p_perspective: float = 0.3
    perspective: float = 0.08
    p_aim_at_text: float = 0.9
    keep_area: float = 0.5
    keep_height: float = 0.7
    pixels: PixelParams = field(default_factory=PixelParams)


def random_crop(
    image: ByteArray, regions: tuple[Region, ...], size: int, params: AugmentParams, rng: Generator
) -> tuple[ByteArray, list[Region]]:
    """Draw one training crop.

    Args:
        image: (H, W, 3) uint8, RGB.
        regions: Of the picture.
        size: Side of the crop in pixels.
        params: What may happen.
        rng: Where chance comes from.

    Returns:
        (size, size, 3) uint8 and the regions in it, in crop coordinates, clipped to it.
    """
    matrix = _draw_matrix(image.shape[1], image.shape[0], regions, size, params, rng)
    crop = _warp(image, matrix, size, _border_colour(image, rng))
    crop = damage_pixels(crop, params.pixels, rng)
    return crop, transform_regions(regions, matrix, size, params)


def _draw_matrix(
    width: int, height: int, regions: tuple[Region, ...], size: int, params: AugmentParams, rng: Generator
) -> Matrix:
    """Draw the homography from picture to crop, both in pixel-edge coordinates."""
    target = _pick_region(regions, rng)
    scale = _draw_scale(target, width, height, size, params, rng)
    centre = _draw_centre(target, width, height, size / scale, params, rng)
    stretch = math.sqrt(math.exp(rng.uniform(-1.0, 1.0) * math.log(params.aspect_max)))
    angle = _draw_angle(params, rng)
    cos, sin = math.cos(angle), math.sin(angle)
    shift = np.array([[1, 0, -centre[0]], [0, 1, -centre[1]], [0, 0, 1]], np.float64)
    zoom = np.diag([scale * stretch, scale / stretch, 1.0])
    turn = np.array([[cos, -sin, size / 2], [sin, cos, size / 2], [0, 0, 1]], np.float64)
    return _draw_perspective(size, params, rng) @ turn @ zoom @ shift


def _pick_region(regions: tuple[Region, ...], rng: Generator) -> Region | None:
    readable = [region for region in regions if not region.ignore]
    return readable[int(rng.integers(len(readable)))] if readable else None


def _draw_scale(
    target: Region | None, width: int, height: int, size: int, params: AugmentParams, rng: Generator
) -> float:
    low, high = params.scale_min, params.scale_max
    scale = math.exp(rng.uniform(math.log(low), math.log(high)))
    if target is not None and rng.random() < params.p_text_height:
        wanted = math.exp(rng.uniform(math.log(params.text_height_min), math.log(params.text_height_max)))
        # The picture's own scale range is left by at most a factor of two, or big text would become mush.
        scale = float(np.clip(wanted / max(rect_sides(target.polygon)[0], 1.0), low / 2, high * 2))
    # No smaller, in area, than about half the crop: the rest would be empty border.
    return max(scale, 0.75 * size / math.sqrt(width * height))


def _draw_centre(
    target: Region | None, width: int, height: int, reach: float, params: AugmentParams, rng: Generator
) -> tuple[float, float]:
    """Draw the crop's centre in the picture; ``reach`` is the crop's side in picture pixels."""
    if target is not None and rng.random() < params.p_aim_at_text:
        low, high = target.polygon.min(axis=0), target.polygon.max(axis=0)
        x, y = rng.uniform(low, high) + rng.uniform(-0.4, 0.4, 2) * reach
    else:
        x, y = rng.uniform((0.0, 0.0), (width, height))
    return _inside(x, width, reach, rng), _inside(y, height, reach, rng)


def _inside(value: float, length: float, reach: float, rng: Generator) -> float:
    # A little of the world outside the picture is allowed, so that borders are known too.
    margin = 0.5 * reach - 0.05 * reach * rng.random()
    if length <= 2 * margin:
        return length / 2 + rng.uniform(-0.5, 0.5) * (2 * margin - length)
    return float(np.clip(value, margin, length - margin))


def _draw_angle(params: AugmentParams, rng: Generator) -> float:
    angle = rng.uniform(-1.0, 1.0) * params.rotation_deg
    if rng.random() < params.p_free_rotation:
        angle = rng.uniform(-180.0, 180.0)
    if rng.random() < params.p_quarter_turn:
        angle += 90.0 if rng.random() < 0.5 else -90.0
    return math.radians(angle)


def _draw_perspective(size: int, params: AugmentParams, rng: Generator) -> Matrix:
    if rng.random() >= params.p_perspective:
        return np.eye(3)
    corners = np.array([[0, 0], [size, 0], [size, size], [0, size]], np.float32)
    moved = corners + rng.uniform(-1.0, 1.0, (4, 2)).astype(np.float32) * params.perspective * size
    return np.asarray(cv2.getPerspectiveTransform(corners, moved), np.float64)


def _border_colour(image: ByteArray, rng: Generator) -> tuple[float, float, float]:
    kind = rng.random()
    if kind < 0.5:
        mean = cv2.mean(image[:: max(1, image.shape[0] // 32), :: max(1, image.shape[1] // 32)])
        return mean[0], mean[1], mean[2]
    grey = 0.0 if kind < 0.65 else 255.0 if kind < 0.8 else 255.0 * float(rng.random())
    return grey, grey, grey


def _warp(image: ByteArray, matrix: Matrix, size: int, border: tuple[float, float, float]) -> ByteArray:
    """Warp the needed window of the picture into the crop, averaging first where it shrinks a lot."""
    corners = np.array([[[0, 0], [size, 0], [size, size], [0, size]]], np.float64)
    source = cv2.perspectiveTransform(corners, np.linalg.inv(matrix))[0]
    height, width = image.shape[:2]
    x0, y0 = (int(v) for v in np.clip(np.floor(source.min(axis=0)) - 2, 0, (width - 1, height - 1)))
    x1, y1 = (int(v) for v in np.clip(np.ceil(source.max(axis=0)) + 2, (x0 + 1, y0 + 1), (width, height)))
    window = image[y0:y1, x0:x1]
    matrix = matrix @ np.array([[1, 0, x0], [0, 1, y0], [0, 0, 1]], np.float64)
    shrink = math.sqrt(polygon_area(source.astype(np.float32))) / size
    if shrink > 1.5:
        small = (max(1, round((x1 - x0) / shrink)), max(1, round((y1 - y0) / shrink)))
        back = np.diag([(x1 - x0) / small[0], (y1 - y0) / small[1], 1.0])
        window = np.asarray(cv2.resize(window, small, interpolation=cv2.INTER_AREA), np.uint8)
        matrix = matrix @ back
    # OpenCV counts from pixel centres, we from pixel edges.
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]], np.float64)
    centred = np.linalg.inv(half) @ matrix @ half
    warped = cv2.warpPerspective(
        window,
        centred,
        (size, size),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=border,
    )
    return np.asarray(warped, np.uint8)


def transform_regions(regions: tuple[Region, ...], matrix: Matrix, size: int, params: AugmentParams) -> list[Region]:
    """Carry regions into the crop: outside ones vanish, cut ones are clipped or become "ignore"."""
    if not regions:
        return []
    lengths = [len(region.polygon) for region in regions]
    points = np.concatenate([region.polygon for region in regions]).astype(np.float64)
    frame = np.array([[0, 0], [size, 0], [size, size], [0, size]], np.float32)
    ends = np.cumsum(lengths)[:-1]
    kept = []
    before = _before_horizon(points, matrix, frame)
    for region, polygon, depth in zip(regions, np.split(points, ends), np.split(before, ends), strict=True):
        # What reaches past the horizon would come back folded.
        seen = polygon if (depth >= 0).all() else _clip_half(polygon, depth)
        if len(seen) < 3:
            continue
        warped = cv2.perspectiveTransform(seen[None].astype(np.float64), matrix)[0].astype(np.float32)
        found = _clip_region(region, warped, frame, params)
        if found is not None:
            kept.append(found)
    return kept


def _before_horizon(points: Matrix, matrix: Matrix, frame: FloatArray) -> Matrix:
    """How far points of the picture are before a line between the crop and the horizon; below 0 behind it.

    The homogeneous coordinate is linear in the picture, so that nowhere in the crop it is nearer to 0 than in one of
    the crop's corners.
    """
    corners = cv2.perspectiveTransform(frame[None].astype(np.float64), np.linalg.inv(matrix))[0]
    at_corners, at_points = (where @ matrix[2, :2] + matrix[2, 2] for where in (corners, points))
    sign = np.sign(at_corners.sum())
    return np.asarray(at_points * sign - (at_corners * sign).min() / 2, np.float64)


def _clip_region(region: Region, polygon: FloatArray, frame: FloatArray, params: AugmentParams) -> Region | None:
    size = float(frame[2, 0])
    low, high = polygon.min(axis=0), polygon.max(axis=0)
    if (high <= 0).any() or (low >= size).any():
        return None
    if (low >= 0).all() and (high <= size).all():
        return region.with_polygon(polygon)
    clipped = clip_to_frame(polygon, size)
    if len(clipped) < 3:
        return None
    inside, whole = polygon_area(clipped), polygon_area(polygon)
    if inside < 1.0 or whole <= 0:
        return None
    enough = inside >= params.keep_area * whole or _height_kept(clipped, polygon, params.keep_height)
    return region.with_polygon(clipped, ignore=region.ignore or not enough)


def _height_kept(clipped: FloatArray, polygon: FloatArray, share: float) -> bool:
    clipped_sides, sides = rect_sides(clipped), rect_sides(polygon)
    return clipped_sides[0] >= share * sides[0]


def clip_to_frame(polygon: FloatArray, size: float) -> FloatArray:
    """Clip a polygon to [0, size] x [0, size] (Sutherland and Hodgman 1974)."""
    points = polygon
    for axis in (0, 1):
        for bound, sign in ((0.0, 1.0), (size, -1.0)):
            if len(points) == 0:
                return points
            points = _clip_half(points, (points[:, axis] - np.float32(bound)) * np.float32(sign))
    return points


def _clip_half(points: NDArray[Any], depth: NDArray[Any]) -> FloatArray:
    """The part of a polygon where something linear that is known at its corners is not below 0."""
    kept: list[NDArray[Any]] = []
    for index in range(len(points)):
        after = (index + 1) % len(points)
        if depth[index] >= 0:
            kept.append(points[index])
        if (depth[index] >= 0) != (depth[after] >= 0):
            share = depth[index] / (depth[index] - depth[after])
            kept.append(points[index] + share * (points[after] - points[index]))
    return np.asarray(kept, np.float32).reshape(-1, 2)
