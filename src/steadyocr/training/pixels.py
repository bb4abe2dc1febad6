"""Damage to a crop's pixels, as cameras, screens and codecs do it; what the text regions are stays untouched."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

ByteArray = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelParams:
    """How often each damage happens; every ``p_`` is a probability."""

    p_colour: float = 0.7
    p_invert: float = 0.1
    p_grey: float = 0.08
    p_light: float = 0.2
    p_blur: float = 0.15
    p_resample: float = 0.15
    p_noise: float = 0.15
    p_jpeg: float = 0.2


def damage_pixels(image: ByteArray, params: PixelParams, rng: Generator) -> ByteArray:
    """Apply a random choice of damages to an (H, W, 3) uint8 crop."""
    steps: tuple[tuple[float, Callable[[ByteArray, Generator], ByteArray]], ...] = (
        (params.p_colour, colour),
        (params.p_invert, invert),
        (params.p_grey, grey),
        (params.p_light, light),
        (params.p_blur, blur),
        (params.p_resample, resample),
        (params.p_noise, noise),
        (params.p_jpeg, jpeg),
    )
    for probability, step in steps:
        if rng.random() < probability:
            image = step(image, rng)
    return image


def colour(image: ByteArray, rng: Generator) -> ByteArray:
    """Brightness, contrast, gamma and colour cast, as one look-up table for each channel."""
    ramp = np.linspace(0.0, 1.0, 256, dtype=np.float32)[:, None]
    gamma = math.exp(rng.uniform(-0.4, 0.4))
    contrast = math.exp(rng.uniform(-0.5, 0.3))
    brightness = rng.uniform(-0.15, 0.15)
    cast = rng.uniform(0.88, 1.12, 3).astype(np.float32)
    table = ((ramp**gamma - 0.5) * contrast + 0.5 + brightness) * cast
    lut = np.clip(table * 255.0, 0, 255).astype(np.uint8).reshape(1, 256, 3)
    return np.asarray(cv2.LUT(image, lut), np.uint8)


def invert(image: ByteArray, _: Generator) -> ByteArray:
    """Light text on dark for dark text on light."""
    return np.asarray(cv2.bitwise_not(image), np.uint8)


def grey(image: ByteArray, _: Generator) -> ByteArray:
    """Take the colour away."""
    return np.asarray(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8)


def light(image: ByteArray, rng: Generator) -> ByteArray:
    """Uneven light: a smooth random gain between deep shadow and full light."""
    height, width = image.shape[:2]
    grid = rng.uniform(0.45, 1.1, (int(rng.integers(2, 5)), int(rng.integers(2, 5)))).astype(np.float32)
    gain = cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR)
    scaled = cv2.multiply(image, cv2.merge((gain, gain, gain)), dtype=cv2.CV_8U)
    return np.asarray(scaled, np.uint8)


def blur(image: ByteArray, rng: Generator) -> ByteArray:
    """Out of focus, or moved."""
    if rng.random() < 0.6:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.5, 1.8))), np.uint8)
    length = int(rng.integers(3, 8))
    kernel = np.zeros((length, length), np.float32)
    angle = rng.uniform(0.0, math.pi)
    middle = (length - 1) / 2.0
    reach = np.array((math.cos(angle), math.sin(angle))) * middle
    start, end = np.rint(middle - reach).astype(int), np.rint(middle + reach).astype(int)
    cv2.line(kernel, (int(start[0]), int(start[1])), (int(end[0]), int(end[1])), 1.0, 1)
    return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum()), np.uint8)


def resample(image: ByteArray, rng: Generator) -> ByteArray:
    """A picture that was once smaller."""
    height, width = image.shape[:2]
    factor = rng.uniform(0.4, 0.9)
    how = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_NEAREST)[int(rng.integers(3))]
    small = cv2.resize(image, (max(1, int(width * factor)), max(1, int(height * factor))), interpolation=how)
    back = cv2.INTER_LINEAR if rng.random() < 0.7 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(small, (width, height), interpolation=back), np.uint8)


def noise(image: ByteArray, rng: Generator) -> ByteArray:
    """Sensor noise, grey or coloured."""
    height, width = image.shape[:2]
    sigma = np.float32(rng.uniform(2.0, 14.0))
    if rng.random() < 0.5:
        grey = rng.standard_normal((height, width), np.float32) * sigma
        grain: NDArray[np.float32] = np.repeat(grey[..., None], 3, axis=2)
    else:
        grain = rng.standard_normal((height, width, 3), np.float32) * sigma
    return np.asarray(cv2.add(image, grain, dtype=cv2.CV_8U), np.uint8)


def jpeg(image: ByteArray, rng: Generator) -> ByteArray:
    """Compression, down to quality 25."""
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR) if done else None
    return image if decoded is None else np.asarray(decoded, np.uint8)
