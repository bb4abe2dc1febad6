"""What lies behind the text: photographs of the user's, and grounds made of noise, waves and shapes."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from steadyocr.training.synth.colours import Colour, Image, any_colour, grey, pixels

_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})


def list_pictures(folder: Path) -> tuple[list[Path], list[Path]]:
    """Find the photographs and the paper textures of a folder.

    Pictures below a folder named ``paper`` are papers; a ``synthdog/background`` folder is left out (its pictures
    hold text), and so is every path that a ``*suspected_text.json`` list beside them names.
    """
    suspects: set[str] = set()
    for listing in sorted(folder.rglob("*suspected_text.json")):
        suspects.update(str(s) for s in json.loads(listing.read_text(encoding="utf-8")))
    photos, papers = [], []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES):
        if path.parent.name == "paper":
            papers.append(path)
        elif path.parent.parts[-2:] != ("synthdog", "background") and f"{path.parent.name}/{path.name}" not in suspects:
            photos.append(path)
    return photos, papers


@functools.lru_cache(maxsize=120)
def _read(path: Path) -> Image:
    picture = cv2.imdecode(np.frombuffer(path.read_bytes(), dtype=np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        return np.full((64, 64, 3), 128, dtype=np.uint8)
    scale = 1100 / max(picture.shape[:2])
    if scale < 1:
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(picture[..., ::-1])


def noise(
    rng: np.random.Generator, width: int, height: int, cells: float, octaves: int = 3, stretch: float = 1.0
) -> NDArray[np.float32]:
    """Return smooth noise 0 to 1, float32 (height, width), about ``cells`` bumps across."""
    total = np.zeros((height, width), dtype=np.float32)
    weight = 1.0
    for _ in range(octaves):
        nx, ny = max(2, int(cells * stretch)), max(2, int(cells * height / width))
        grid = rng.random((min(ny, height), min(nx, width)), dtype=np.float32)
        total += weight * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        cells, weight = cells * 2.3, weight * 0.5
    lo, hi = float(total.min()), float(total.max())
    return (total - lo) / max(hi - lo, 1e-6)


def mix(field: NDArray[np.float32], a: Colour, b: Colour) -> Image:
    """Colour a field 0..1 (height, width) from one colour to another."""
    steps = np.linspace(0, 1, 256, dtype=np.float32)[:, None]
    table = np.clip(a + steps * (b - a) + 0.5, 0, 255).astype(np.uint8)
    return np.asarray(table[(field * 255).astype(np.uint8)], dtype=np.uint8)


def photo(rng: np.random.Generator, paths: Sequence[Path], width: int, height: int) -> Image:
    """Return a cut of a photograph at the size asked for, mirrored half of the time, with fine grain on it."""
    source = _read(paths[int(rng.integers(len(paths)))])
    h, w = source.shape[:2]
    scale = max(width / w, height / h) * rng.uniform(1.0, 1.35)
    cw, ch = min(w, int(width / scale)), min(h, int(height / scale))
    x, y = int(rng.integers(w - cw + 1)), int(rng.integers(h - ch + 1))
    cut = source[y : y + ch, x : x + cw]
    if rng.random() < 0.5:
        cut = cut[:, ::-1]
    big = cv2.resize(np.ascontiguousarray(cut), (width, height), interpolation=cv2.INTER_CUBIC)
    if scale > 1.2 and rng.random() < 0.7:
        # The photographs are small: enlarged they lack the fine detail that the text over them has.
        soft = cv2.GaussianBlur(big, (0, 0), 2)
        big = cv2.addWeighted(big, 1.8, soft, -0.8, 0)
        grain = cv2.resize(rng.integers(-9, 10, (height // 2, width // 2, 1), dtype=np.int16), (width, height))
        big = np.clip(big + grain[..., None], 0, 255).astype(np.uint8)
    return np.asarray(big, dtype=np.uint8)


def _gradient(rng: np.random.Generator, width: int, height: int, a: Colour, b: Colour) -> Image:
    angle = rng.uniform(0, 2 * np.pi)
    x, y = np.linspace(-0.5, 0.5, width, dtype=np.float32), np.linspace(-0.5, 0.5, height, dtype=np.float32)
    if rng.random() < 0.35:
        field = np.hypot(x[None] - rng.uniform(-0.4, 0.4), y[:, None] - rng.uniform(-0.4, 0.4)).astype(np.float32)
    else:
        field = (x[None] * np.cos(angle) + y[:, None] * np.sin(angle) + 0.5).astype(np.float32)
    return mix(np.clip(field, 0, 1), a, b)


def _bricks(rng: np.random.Generator, width: int, height: int, a: Colour, b: Colour) -> Image:
    step_y = int(rng.integers(12, 60))
    step_x = int(step_y * rng.uniform(1, 3))
    rows, cols = height // step_y + 2, width // step_x + 3
    tones = rng.random((rows, cols), dtype=np.float32)
    y, x = np.arange(height) // step_y, np.arange(width)
    shift = (y % 2) * (step_x // 2) * int(rng.random() < 0.7)
    column = (x[None] + shift[:, None]) // step_x
    image = mix(tones[y[:, None], column] * np.float32(rng.uniform(0.1, 0.6)), a, b)
    joint = max(1, step_y // 12)
    seam = ((np.arange(height) % step_y) < joint)[:, None] | (((x[None] + shift[:, None]) % step_x) < joint)
    image[seam] = np.clip(grey(rng, 40, 220), 0, 255).astype(np.uint8)
    return image


def _shapes(rng: np.random.Generator, width: int, height: int, a: Colour, b: Colour) -> Image:
    image = _gradient(rng, width, height, a, b)
    for _ in range(int(rng.integers(2, 10))):
        colour = any_colour(rng).tolist()
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        size = int(max(width, height) * rng.uniform(0.03, 0.5)) + 2
        if rng.random() < 0.5:
            cv2.circle(image, centre, size, colour, -1 if rng.random() < 0.7 else 3, cv2.LINE_AA)
        else:
            points = (np.array(centre) + rng.integers(-size, size + 1, (int(rng.integers(3, 6)), 2))).astype(np.int32)
            cv2.fillPoly(image, [points], colour, cv2.LINE_AA)
    return pixels(cv2.GaussianBlur(image, (0, 0), float(rng.uniform(3, 25)))) if rng.random() < 0.4 else image


def made(rng: np.random.Generator, width: int, height: int, light: tuple[float, float] = (0.05, 0.95)) -> Image:
    """Return a procedural ground: plain, gradient, clouds, wood, bricks, stripes or shapes."""
    vivid = float(rng.random())
    a, b = any_colour(rng, light=light, vivid=vivid), any_colour(rng, light=light, vivid=vivid)
    kind = rng.random()
    if kind < 0.14:
        return mix(np.zeros((height, width), dtype=np.float32), a, b)
    if kind < 0.42:
        return _gradient(rng, width, height, a, b)
    if kind < 0.6:
        return mix(noise(rng, width, height, rng.uniform(2, 30), 4), a, b)
    if kind < 0.7:
        field = noise(rng, width, height, 3, 3, stretch=rng.choice([0.1, 6.0]))
        return mix((np.sin(field * rng.uniform(20, 70)) * 0.5 + 0.5).astype(np.float32), a, 0.6 * a + 0.4 * b)
    if kind < 0.8:
        return _bricks(rng, width, height, a, b)
    if kind < 0.86:
        angle, period = rng.uniform(0, np.pi), rng.uniform(6, 60)
        x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
        return mix((((x * np.cos(angle) + y * np.sin(angle)) / period) % 1 > 0.5).astype(np.float32), a, b)
    return _shapes(rng, width, height, a, b)


def paper(rng: np.random.Generator, paths: Sequence[Path], width: int, height: int) -> Image:
    """Return a sheet of paper: white, off-white, or a texture of the folder."""
    kind = rng.random()
    base = grey(rng, 225, 255, 14)
    if kind < 0.45 or (kind > 0.8 and not paths):
        return mix(np.zeros((height, width), dtype=np.float32), base, base)
    if kind < 0.8:
        shade = noise(rng, width, height, rng.uniform(2, 8), 3)
        return mix(shade, base, base - np.float32(rng.uniform(4, 35)))
    texture = photo(rng, paths, width, height).astype(np.float32)
    relief = (texture - texture.mean(axis=(0, 1))) * np.float32(rng.uniform(0.1, 0.4))
    return pixels(base + relief)
