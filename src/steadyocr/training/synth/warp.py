"""Bends and perspective, for pixels and corners alike."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from steadyocr.training.synth.sheet import Mark, Sheet

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bend:
    """A smooth shift downwards that depends on x: ``y + height_px * sin(phase + turns * 2π * x / width_px)``.

    Attributes:
        height_px: Largest shift.
        phase: In radians.
        turns: Waves over the width.
        width_px: Width of the sheet.
    """

    height_px: float
    phase: float
    turns: float
    width_px: float

    def shift(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the shift at each x, in pixels."""
        return self.height_px * np.sin(self.phase + self.turns * 2 * np.pi * x / self.width_px)


def apply(matrix: Matrix, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Send points (n, 2) through a homography (3, 3)."""
    out = np.hstack([points, np.ones((len(points), 1))]) @ matrix.T
    return np.asarray(out[:, :2] / out[:, 2:], dtype=np.float64)


def quad_to_quad(source: NDArray[np.float64], target: NDArray[np.float64]) -> Matrix:
    """Return the homography that sends four corners to four others."""
    return np.asarray(
        cv2.getPerspectiveTransform(source.astype(np.float32), target.astype(np.float32)), dtype=np.float64
    )


def corners(width: float, height: float) -> NDArray[np.float64]:
    """Return the corners of a sheet, clockwise from the top-left."""
    return np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float64)


def send_quad(quad: NDArray[np.float64], matrix: Matrix, bend: Bend | None) -> NDArray[np.float64]:
    """Send a quad; a bent line is given the smallest rectangle around it, its corners in the old order."""
    if bend is None:
        return apply(matrix, quad)
    t = np.linspace(0, 1, 9)[:, None]
    ring = np.vstack([quad[i] + t * (quad[(i + 1) % 4] - quad[i]) for i in range(4)])
    ring[:, 1] += bend.shift(ring[:, 0])
    moved = apply(matrix, ring)
    straight = np.vstack([moved[0], moved[9], moved[18], moved[27]])
    box = np.asarray(cv2.boxPoints(cv2.minAreaRect(moved.astype(np.float32))), dtype=np.float64)
    if cross_area(box) < 0:
        box = box[::-1]
    turned = [np.roll(box, k, axis=0) for k in range(4)]
    return min(turned, key=lambda q: float(np.abs(q - straight).sum()))


def cross_area(quad: NDArray[np.float64]) -> float:
    """Signed area of a polygon (n, 2): positive when clockwise as seen, y pointing down."""
    x, y = quad[:, 0], quad[:, 1]
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) / 2)


def lay(base: Sheet, top: Sheet, matrix: Matrix, bend: Bend | None = None, opacity: float = 1.0) -> None:
    """Lay one sheet over another through a bend, then a homography; its marks move along.

    Args:
        base: Changed in place; covers all.
        top: A layer, or a sheet that covers all.
        matrix: From pixels of ``top`` to pixels of ``base``, (3, 3).
        bend: Applied before the homography.
        opacity: Factor on the layer's coverage.
    """
    edge = send_quad(corners(top.width, top.height), matrix, bend)
    x0, y0 = np.maximum(np.floor(edge.min(axis=0)).astype(int), 0)
    x1, y1 = np.minimum(np.ceil(edge.max(axis=0)).astype(int) + 1, (base.width, base.height))
    if x0 >= x1 or y0 >= y1:
        return
    moved = np.array([[1, 0, -x0], [0, 1, -y0], [0, 0, 1]], dtype=np.float64) @ matrix
    size = (int(x1 - x0), int(y1 - y0))
    alpha = top.alpha if top.alpha is not None else np.full(top.rgb.shape[:2], 255, dtype=np.uint8)
    whole = np.dstack([top.rgb, alpha])
    if bend is None:
        warped = cv2.warpPerspective(whole, moved, size, flags=cv2.INTER_LINEAR)
    else:
        gx, gy = np.meshgrid(np.arange(size[0], dtype=np.float32), np.arange(size[1], dtype=np.float32))
        inverse = np.linalg.inv(moved).astype(np.float32)
        depth = inverse[2, 0] * gx + inverse[2, 1] * gy + inverse[2, 2]
        u = (inverse[0, 0] * gx + inverse[0, 1] * gy + inverse[0, 2]) / depth
        v = (inverse[1, 0] * gx + inverse[1, 1] * gy + inverse[1, 2]) / depth
        v -= (bend.height_px * np.sin(bend.phase + bend.turns * 2 * np.pi * u / bend.width_px)).astype(np.float32)
        warped = cv2.remap(whole, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    cover = warped[..., 3:].astype(np.float32) * (opacity / 255)
    view = base.rgb[y0:y1, x0:x1]
    view[:] = (view * (1 - cover) + warped[..., :3] * np.float32(opacity) + 0.5).clip(0, 255).astype(np.uint8)
    base.marks += [Mark(send_quad(m.quad, matrix, bend), m.text, m.contrast * opacity) for m in top.marks]
