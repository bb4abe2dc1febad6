"""Measuring what pictures cost in memory on this machine, and fitting the model that admission predicts with.

The pictures are made of the golden picture repeated, so they are as dense with text as a full page, and the whole way
from encoded bytes to a page is measured.
"""

from __future__ import annotations

import io
import itertools
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from steadyocr.imaging.plan import plan_resize
from steadyocr.pipeline.golden import golden_picture
from steadyocr.pipeline.ocr import OcrPipeline
from steadyocr.runtime import device, memory
from steadyocr.types import OcrOptions

DoubleArray = NDArray[np.float64]

# A full page; more would take long to read and tell nothing more, since lines are read in batches.
_MAX_TILES: Final = 20

# (width, height, side limit): small to large, and large ones shrunk, so that both slopes can be told apart.
SHAPES: Final = (
    (640, 480, 1280),
    (1280, 960, 1280),
    (1280, 1280, 1280),
    (2400, 1600, 1280),
    (2400, 1600, 640),
    (4800, 3200, 960),
)


@dataclass(frozen=True, slots=True)
class MemorySample:
    """One measurement: stored pixels, network pixels, resident bytes before and at the peak, and on an accelerator."""

    pixels: int
    network_pixels: int
    idle_bytes: int
    peak_bytes: int
    device_extra_bytes: int = 0


def measure(pipeline: OcrPipeline, shape: tuple[int, int, int]) -> MemorySample:
    """Read one calibration picture and return what it took."""
    width, height, max_side = shape
    picture = _picture(width, height)
    pipeline.release_memory()
    memory.trim()
    idle_bytes, held_bytes = memory.rss_bytes(), device.held_bytes()
    memory.reset_peak_rss()
    device.reset_peak()
    pipeline.read(picture, OcrOptions(max_side=max_side))
    plan = plan_resize(width, height, max_side)
    return MemorySample(
        pixels=width * height,
        network_pixels=plan.padded_width * plan.padded_height,
        idle_bytes=idle_bytes,
        peak_bytes=memory.peak_rss_bytes(),
        device_extra_bytes=device.peak_bytes() - held_bytes,
    )


def fit(samples: list[MemorySample], base_bytes: int) -> dict[str, float]:
    """Fit the two slopes by least squares, neither below zero; returns the fields of a ``MemoryFit``."""
    peaks = np.array([sample.peak_bytes for sample in samples], np.float64)
    features = np.array([(sample.pixels, sample.network_pixels) for sample in samples], np.float64)
    idle = np.array([sample.idle_bytes for sample in samples], np.float64)
    slopes = _non_negative_slopes(features, peaks - idle)
    predicted = idle + features @ slopes
    return {
        "base": float(base_bytes),
        "per_pixel": float(slopes[0]),
        "per_network_pixel": float(slopes[1]),
        # The most that any shape took: cards hand memory out in large blocks, so small shapes look dear.
        "device_per_network_pixel": max(sample.device_extra_bytes / sample.network_pixels for sample in samples[1:]),
        "samples": len(samples),
        "worst_error": float(np.abs(predicted / peaks - 1.0).max()),
    }


def _non_negative_slopes(features: DoubleArray, extra: DoubleArray) -> DoubleArray:
    slopes: DoubleArray = np.linalg.lstsq(features, extra, rcond=None)[0].astype(np.float64)
    if slopes.min() >= 0:
        return slopes
    # With two slopes the best non-negative answer lies on one of the axes.
    single = np.maximum(0.0, (features * extra[:, None]).sum(axis=0) / (features**2).sum(axis=0))
    candidates: DoubleArray = np.diag(single).astype(np.float64)
    errors = ((candidates @ features.T - extra) ** 2).sum(axis=1)
    best: DoubleArray = candidates[int(errors.argmin())]
    return best


def _picture(width: int, height: int) -> bytes:
    tile = Image.open(io.BytesIO(golden_picture())).convert("RGB")
    page = Image.new("RGB", (width, height), tile.getpixel((0, 0)))
    places = ((x, y) for y in range(0, height, tile.height) for x in range(0, width, tile.width))
    for place in itertools.islice(places, _MAX_TILES):
        page.paste(tile, place)
    stream = io.BytesIO()
    page.save(stream, "PNG", compress_level=1)
    return stream.getvalue()
