"""Plane geometry of quads, vectorised over many at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]


def order_quads(quads: FloatArray) -> FloatArray:
    """Order each quad's corners clockwise from top-left, seen in reading direction.

    The corners are sorted by angle round the centre, so the outline never crosses itself; the start is the corner
    with the smallest x + y, ties broken by the smaller y.

    Args:
        quads: (N, 4, 2) convex quads in any corner order.

    Returns:
        (N, 4, 2), same corners.
    """
    if len(quads) == 0:
        return quads
    centred = quads - quads.mean(axis=1, keepdims=True)
    # With y downward, growing angle runs clockwise on screen.
    order = np.argsort(np.arctan2(centred[..., 1], centred[..., 0]), axis=1)
    clockwise = np.take_along_axis(quads, order[..., None], axis=1)
    key = clockwise.sum(axis=2) + 1e-4 * clockwise[..., 1]
    start = np.argmin(key, axis=1)
    index = (start[:, None] + np.arange(4)) % 4
    return np.take_along_axis(clockwise, index[..., None], axis=1)
