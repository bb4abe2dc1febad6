"""Things that look like writing and are not: bars, grids, hatching, leaves, icons. They get no label."""

from __future__ import annotations

import cv2
import numpy as np

from steadyocr.training.synth.colours import any_colour, grey, ink_for
from steadyocr.training.synth.sheet import Sheet


def barcode(rng: np.random.Generator, width: int, height: int) -> Sheet:
    """Return a field of vertical bars on white."""
    image = np.full((height, width, 3), 250, dtype=np.uint8)
    x = 6
    while x < width - 6:
        w = int(rng.integers(1, 5))
        image[4 : height - 4, x : min(x + w, width - 5)] = 15
        x += w + int(rng.integers(1, 5))
    return Sheet(image)


def matrix_code(rng: np.random.Generator, side: int) -> Sheet:
    """Return a square of random cells with three finder corners."""
    cells = int(rng.integers(21, 42))
    grid = (rng.random((cells, cells)) < 0.5).astype(np.uint8) * 235 + 10
    for y, x in ((0, 0), (0, cells - 7), (cells - 7, 0)):
        grid[y : y + 7, x : x + 7] = 10
        grid[y + 1 : y + 6, x + 1 : x + 6] = 245
        grid[y + 2 : y + 5, x + 2 : x + 5] = 10
    framed = cv2.copyMakeBorder(grid, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=245)
    image = cv2.resize(framed, (side, side), interpolation=cv2.INTER_NEAREST)
    return Sheet(np.ascontiguousarray(np.repeat(image[..., None], 3, axis=2)))


def lattice(rng: np.random.Generator, width: int, height: int) -> Sheet:
    """Return a wall of windows, keys or tiles: a grid of boxes."""
    base = any_colour(rng)
    image = np.empty((height, width, 3), dtype=np.uint8)
    image[:] = base.astype(np.uint8)
    cell_w, cell_h = int(rng.integers(6, 50)), int(rng.integers(6, 50))
    gap = max(2, min(cell_w, cell_h) // int(rng.integers(3, 7)))
    for y in range(gap, height - cell_h, cell_h + gap):
        for x in range(gap, width - cell_w, cell_w + gap):
            tone = base + float(rng.normal(0, 12)) + (60 if base.mean() < 128 else -60)
            image[y : y + cell_h, x : x + cell_w] = np.clip(tone, 0, 255).astype(np.uint8)
    return Sheet(image)


def hatching(rng: np.random.Generator, width: int, height: int) -> Sheet:
    """Return short strokes, parallel or wild, on a plain ground: fences, grass, scribble."""
    ground = any_colour(rng)
    image = np.empty((height, width, 3), dtype=np.uint8)
    image[:] = ground.astype(np.uint8)
    wild = rng.random() < 0.5
    angle, length = rng.uniform(0, np.pi), rng.uniform(6, 40)
    colour = ink_for(rng, ground, 40).tolist()
    thick = int(rng.integers(1, 4))
    for _ in range(int(width * height / (length * rng.uniform(12, 60)))):
        turn = rng.uniform(0, np.pi) if wild else angle + rng.normal(0, 0.06)
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        end = (int(x + length * np.cos(turn)), int(y + length * np.sin(turn)))
        cv2.line(image, (int(x), int(y)), end, colour, thick, cv2.LINE_AA)
    return Sheet(image)


def leaves(rng: np.random.Generator, width: int, height: int) -> Sheet:
    """Return many overlapping ellipses of related colours: leaves, pebbles, crowds."""
    base = any_colour(rng, light=(0.15, 0.6))
    image = np.empty((height, width, 3), dtype=np.uint8)
    image[:] = (base * 0.4).astype(np.uint8)
    size = rng.uniform(4, 16)
    for _ in range(min(900, int(width * height / (size * size * 1.6)))):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        axes = (max(1, int(size * rng.uniform(0.6, 1.4))), max(1, int(size * rng.uniform(0.25, 0.8))))
        tone = np.clip(base * rng.uniform(0.4, 1.6) + rng.normal(0, 10, 3), 0, 255).tolist()
        cv2.ellipse(image, centre, axes, float(rng.uniform(0, 360)), 0, 360, tone, -1, cv2.LINE_AA)
    return Sheet(image)


def icon(rng: np.random.Generator, image: np.ndarray, x: int, y: int, size: int, colour: list[float]) -> None:
    """Draw a small sign such as screens and signs carry: ring, arrow, star, bars, cross, house."""
    c, r = (x + size // 2, y + size // 2), max(2, size // 2)
    thick = max(1, size // 10)
    kind = int(rng.integers(7))
    if kind == 0:
        cv2.circle(image, c, r - thick, colour, thick, cv2.LINE_AA)
    elif kind == 1:
        cv2.arrowedLine(image, (x, c[1]), (x + size, c[1]), colour, thick + 1, cv2.LINE_AA, tipLength=0.45)
    elif kind == 2:
        turn = np.arange(10) * np.pi / 5 - np.pi / 2
        reach = np.where(np.arange(10) % 2 == 0, r, r * 0.45)
        points = np.stack([c[0] + reach * np.cos(turn), c[1] + reach * np.sin(turn)], axis=1)
        cv2.fillPoly(image, [points.astype(np.int32)], colour, cv2.LINE_AA)
    elif kind == 3:
        for i in range(3):
            at = y + (2 * i + 1) * size // 6
            cv2.line(image, (x, at), (x + size, at), colour, thick + 1)
    elif kind == 4:
        cv2.line(
            image,
            (x + thick, y + thick),
            (x + size - thick, y + size - thick),
            colour,
            thick + 1,
            cv2.LINE_AA,
        )
        cv2.line(
            image,
            (x + thick, y + size - thick),
            (x + size - thick, y + thick),
            colour,
            thick + 1,
            cv2.LINE_AA,
        )
    elif kind == 5:
        roof = np.array([[x, c[1]], [c[0], y], [x + size, c[1]]], dtype=np.int32)
        cv2.fillPoly(image, [roof], colour, cv2.LINE_AA)
        cv2.rectangle(image, (x + size // 5, c[1]), (x + size - size // 5, y + size), colour, -1)
    else:
        cv2.circle(image, c, r, colour, -1, cv2.LINE_AA)
        cv2.circle(image, (c[0], c[1] - r // 3), max(1, r // 3), grey(rng, 200, 255).tolist(), -1, cv2.LINE_AA)


def patch(rng: np.random.Generator, width: int, height: int) -> Sheet:
    """Return one of the textures above."""
    kind = int(rng.integers(5))
    if kind == 0:
        return barcode(rng, width, height)
    if kind == 1:
        return matrix_code(rng, max(20, min(width, height)))
    return (lattice, hatching, leaves)[kind - 2](rng, width, height)
