"""Colours that are told apart, and colours that nearly are not."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
from numpy.typing import NDArray

Colour = NDArray[np.float32]
Image = NDArray[np.uint8]
_WEIGHTS = np.array([0.3, 0.59, 0.11], dtype=np.float32)


def pixels(values: NDArray[Any]) -> Image:
    """Return values as grey levels, cut to 0 to 255, uint8 of the same shape."""
    return np.asarray(np.clip(values, 0, 255), dtype=np.uint8)


def rgb(r: float, g: float, b: float) -> Colour:
    """Return a colour, channels 0 to 255, float32 (3,)."""
    return np.array([r, g, b], dtype=np.float32)


def distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weighted RGB distance over the last axis, 0 to 255."""
    gap = a - b
    return np.sqrt((gap * gap) @ _WEIGHTS)


def any_colour(rng: np.random.Generator, *, light: tuple[float, float] = (0.05, 0.95), vivid: float = 1.0) -> Colour:
    """Return a random colour of a lightness range; ``vivid`` bounds its saturation."""
    r, g, b = colorsys.hls_to_rgb(rng.random(), rng.uniform(*light), rng.random() * vivid)
    return rgb(255 * r, 255 * g, 255 * b)


def grey(rng: np.random.Generator, lo: float, hi: float, tint: float = 8) -> Colour:
    """Return a nearly neutral grey between two levels, 0 to 255."""
    return np.clip(rng.uniform(lo, hi) + rng.normal(0, tint / 3, 3), 0, 255).astype(np.float32)


_SIGN = (
    rgb(255, 255, 255),
    rgb(12, 12, 12),
    rgb(220, 20, 30),
    rgb(255, 225, 0),
    rgb(20, 60, 160),
    rgb(0, 120, 60),
    rgb(255, 120, 0),
    rgb(212, 175, 55),
    rgb(120, 20, 40),
    rgb(250, 240, 215),
)


def ink_for(rng: np.random.Generator, ground: NDArray[np.float32], gap: float = 60) -> Colour:
    """Choose an ink that stands off the ground by at least ``gap``, as signs and ads do."""
    best = rgb(0, 0, 0)
    for _ in range(8):
        pick = rng.random()
        best = (
            _SIGN[int(rng.integers(4))]
            if pick < 0.45
            else _SIGN[int(rng.integers(len(_SIGN)))]
            if pick < 0.7
            else any_colour(rng)
        )
        if float(distance(best, ground)) >= gap:
            return best
    return rgb(0, 0, 0) if float(ground @ _WEIGHTS) > 128 else rgb(255, 255, 255)


def faint_for(rng: np.random.Generator, ground: NDArray[np.float32], gap: float) -> Colour:
    """Return an ink about ``gap`` away from the ground, darker or lighter."""
    dark = float(ground @ _WEIGHTS) > 128
    return np.clip(ground + (-gap if dark else gap) + rng.normal(0, 4, 3), 0, 255).astype(np.float32)
