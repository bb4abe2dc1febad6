"""What a camera, a scanner or a web server does to a picture after it was made."""

from __future__ import annotations

import cv2
import numpy as np

from steadyocr.training.synth.assets import Assets
from steadyocr.training.synth.backgrounds import noise
from steadyocr.training.synth.blocks import turned
from steadyocr.training.synth.colours import Image, pixels
from steadyocr.training.synth.sheet import Sheet
from steadyocr.training.synth.warp import Bend, Matrix, corners, lay, send_quad


def photographed(rng: np.random.Generator, assets: Assets, page: Sheet) -> Sheet:
    """Lay a page on a table, seen from an angle: perspective, a bend of the paper, a shadow at its edge."""
    scale = rng.uniform(0.82, 1.1)
    width, height = int(np.clip(page.width * scale, 480, 1280)), int(np.clip(page.height * scale, 480, 1280))
    if page.width < 0.6 * page.height and rng.random() < 0.5:
        width = max(width, int(0.7 * height))
    base = Sheet(assets.scene(rng, width, height, 0.55))
    tilt = float(rng.choice([0.01, 0.12, 0.3]))
    fit = min(width / page.width, height / page.height) * rng.uniform(0.86, 1.12)
    angle = rng.normal(0, 3) if rng.random() < 0.75 else rng.uniform(-25, 25)
    matrix: Matrix = turned(rng, page, (0.0, 0.0), float(angle), tilt)
    matrix = np.diag([fit, fit, 1.0]) @ matrix
    # Keep the page's middle over the picture's.
    middle = send_quad(corners(page.width, page.height), matrix, None).mean(axis=0)
    move = np.array(
        [
            [1, 0, width * rng.uniform(0.46, 0.54) - middle[0]],
            [0, 1, height * rng.uniform(0.46, 0.54) - middle[1]],
            [0, 0, 1],
        ]
    )
    bend = (
        Bend(page.height * rng.uniform(0.003, 0.02), rng.uniform(0, 6.28), rng.uniform(0.25, 0.9), page.width)
        if rng.random() < 0.5
        else None
    )
    outline = send_quad(corners(page.width, page.height), move @ matrix, bend)
    dark = np.zeros((height // 4 + 1, width // 4 + 1), dtype=np.uint8)
    cv2.fillConvexPoly(dark, np.round((outline + rng.normal(0, 8, 2)) / 4).astype(np.int32), 150)
    soft = cv2.resize(cv2.GaussianBlur(dark, (0, 0), 4), (width, height)).astype(np.float32)[..., None] / 255
    base.rgb[:] = (base.rgb * (1 - soft)).astype(np.uint8)
    lay(base, page, move @ matrix, bend)
    return base


def light(rng: np.random.Generator, image: Image) -> Image:
    """Uneven light: a slope, clouds of shade, or the edge of a shadow."""
    h, w = image.shape[:2]
    kind = rng.random()
    if kind < 0.4:
        angle = rng.uniform(0, 2 * np.pi)
        x, y = (
            np.linspace(-0.5, 0.5, w // 4 + 1, dtype=np.float32),
            np.linspace(-0.5, 0.5, h // 4 + 1, dtype=np.float32),
        )
        field = (x[None] * np.cos(angle) + y[:, None] * np.sin(angle) + 0.5).astype(np.float32)
    elif kind < 0.7:
        field = noise(rng, w // 4 + 1, h // 4 + 1, rng.uniform(1.5, 5), 2)
    else:
        dark = np.ones((h // 4 + 1, w // 4 + 1), dtype=np.float32)
        points = rng.uniform(-0.3, 1.3, (4, 2)) * np.array([w / 4, h / 4])
        cv2.fillConvexPoly(dark, cv2.convexHull(points.astype(np.int32)), 0.0)
        field = cv2.GaussianBlur(dark, (0, 0), float(rng.uniform(1, 12)))
    low = rng.uniform(0.45, 0.95)
    gain = cv2.resize(low + (rng.uniform(1.0, 1.15) - low) * np.clip(field, 0, 1), (w, h))
    return pixels(image * gain[..., None])


def creases(rng: np.random.Generator, image: Image) -> Image:
    """Folds of crumpled paper: straight lines, lit on one side and shaded on the other."""
    h, w = image.shape[:2]
    field = np.ones((h // 2, w // 2), dtype=np.float32)
    x, y = np.arange(w // 2, dtype=np.float32)[None], np.arange(h // 2, dtype=np.float32)[:, None]
    for _ in range(int(rng.integers(1, 6))):
        angle = rng.uniform(0, np.pi)
        side = (x - rng.uniform(0, w / 2)) * np.cos(angle) + (y - rng.uniform(0, h / 2)) * np.sin(angle)
        field += (
            np.float32(rng.uniform(0.03, 0.13)) * np.sign(side) * np.exp(-np.abs(side) / np.float32(rng.uniform(4, 40)))
        )
    return pixels(image * cv2.resize(field, (w, h))[..., None])


def cast(rng: np.random.Generator, image: Image) -> Image:
    """Colour cast, contrast and brightness, as one table for each channel."""
    gain = rng.uniform(0.72, 1.12) * rng.uniform(0.9, 1.1, 3)
    lift = rng.uniform(-12, 30)
    table = np.clip(np.arange(256)[:, None] * gain + lift, 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(image, table.reshape(1, 256, 3)), dtype=np.uint8)


def moire(rng: np.random.Generator, image: Image) -> Image:
    """Stripes of a photographed screen."""
    h, w = image.shape[:2]
    angle, period = rng.uniform(0, np.pi), rng.uniform(3, 14)
    x, y = np.arange(w, dtype=np.float32)[None], np.arange(h, dtype=np.float32)[:, None]
    wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * (2 * np.pi / period) + 3 * np.sin(y / rng.uniform(60, 200)))
    return pixels(image + (wave * rng.uniform(4, 14))[..., None])


def motion(rng: np.random.Generator, image: Image, length: int) -> Image:
    """Blur along a line so many pixels long."""
    kernel = np.zeros((length, length), dtype=np.float32)
    angle, centre = rng.uniform(0, np.pi), (length - 1) / 2
    reach = centre * np.array([np.cos(angle), np.sin(angle)])
    ends = np.round(np.array([[centre, centre]]) + np.array([-reach, reach])).astype(int)
    cv2.line(kernel, tuple(ends[0].tolist()), tuple(ends[1].tolist()), 1.0, 1)
    return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum()), dtype=np.uint8)


def grain(rng: np.random.Generator, image: Image, sigma: float) -> Image:
    """Sensor noise of a standard deviation in grey levels, a little coarser than a pixel at times."""
    h, w = image.shape[:2]
    step = 1 if rng.random() < 0.6 else 2
    colour = 3 if rng.random() < 0.4 else 1
    small = rng.standard_normal((h // step + 1, w // step + 1, colour), dtype=np.float32) * np.float32(sigma)
    field = np.asarray(cv2.resize(small, (w, h)) if step > 1 else small[:h, :w])
    return pixels(image + field.reshape(h, w, colour))


def jpeg(image: Image, quality: int) -> Image:
    """Return the picture as a JPEG of that quality shows it."""
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), dtype=np.uint8) if done else image


def spoil(rng: np.random.Generator, image: Image, profile: str, text_px: float) -> tuple[Image, float]:
    """Apply a chain of effects.

    Args:
        rng: Randomness.
        image: RGB.
        profile: ``photo`` (all effects), ``page`` (fewer) or ``screen`` (resampling and JPEG mostly).
        text_px: Usual height of the text; blur mostly stays below what would make it unreadable.

    Returns:
        The picture and the blur it got, as the standard deviation of an equal Gaussian in pixels.
    """
    much = {"photo": 1.0, "page": 0.7, "screen": 0.12}[profile]
    blur = 0.0
    limit = text_px * (0.09 if rng.random() < 0.85 else 0.3)
    if rng.random() < 0.5 * much:
        image = light(rng, image)
    if profile == "page" and rng.random() < 0.15:
        image = creases(rng, image)
    if rng.random() < 0.6 * much:
        image = cast(rng, image)
    if rng.random() < 0.06 and profile != "page":
        image = moire(rng, image)
    if rng.random() < 0.45 * much:
        sigma = min(float(rng.gamma(1.6, 0.55)) + 0.3, max(0.3, limit))
        image, blur = np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), dtype=np.uint8), blur + sigma
    if rng.random() < 0.1 * much and blur + 1 < limit:
        length = int(rng.integers(3, 4 + min(10, int((limit - blur) / 0.3))))
        image, blur = motion(rng, image, length), blur + 0.3 * length
    if rng.random() < 0.25 and blur + 0.5 < limit:
        h, w = image.shape[:2]
        factor = rng.uniform(min(0.9, max(0.4, 0.45 / (limit - blur))), 0.95)
        small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        image, blur = (
            np.asarray(cv2.resize(small, (w, h), interpolation=cv2.INTER_LINEAR), dtype=np.uint8),
            blur + 0.45 / factor,
        )
    if rng.random() < 0.6 * much:
        image = grain(rng, image, float(rng.gamma(1.5, 3.2)))
    if rng.random() < 0.6:
        image = jpeg(image, int(rng.integers(25, 96)))
    return image, blur
