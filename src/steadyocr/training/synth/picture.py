"""One training picture: kind, camera, effects, and labels that are honest about what can be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from steadyocr.training.synth import ads, brushwork, effects, handheld, pages, scenes, screens, tables
from steadyocr.training.synth.assets import Assets
from steadyocr.training.synth.sheet import Mark, Sheet
from steadyocr.training.synth.warp import cross_area

IGNORED: Final = "###"
_MIN_HEIGHT_PX: Final = 6.0
_MIN_CONTRAST: Final = 20.0


@dataclass(frozen=True, slots=True)
class Line:
    """A label.

    Attributes:
        quad: Corners, x then y, clockwise from the text's top-left, float64 (4, 2), inside the picture.
        text: What is written.
        ignore: Too small, faint, blurred or cut to be asked for.
    """

    quad: NDArray[np.float64]
    text: str
    ignore: bool


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of picture.

    Attributes:
        draw: Makes the sheet.
        weight: Share among the kinds.
        profile: Which effects it gets.
        photographed: Share that is photographed as a page.
    """

    draw: Callable[[np.random.Generator, Assets], Sheet]
    weight: float
    profile: str
    photographed: float = 0.0


KINDS: Final[dict[str, Kind]] = {
    "sign": Kind(scenes.sign, 0.22, "photo"),
    "ad": Kind(ads.ad, 0.21, "screen"),
    "document": Kind(pages.document, 0.11, "page", 0.5),
    "receipt": Kind(pages.receipt, 0.06, "page", 0.55),
    "table": Kind(tables.table, 0.05, "page", 0.35),
    "form": Kind(tables.form, 0.04, "page", 0.3),
    "window": Kind(screens.window, 0.05, "screen", 0.06),
    "phone": Kind(handheld.phone, 0.03, "screen", 0.06),
    "code": Kind(handheld.code, 0.02, "screen", 0.06),
    "vertical": Kind(brushwork.strip, 0.05, "photo"),
    "tiny": Kind(scenes.tiny, 0.05, "photo"),
    "plates": Kind(scenes.plates, 0.03, "photo"),
    "caption": Kind(scenes.caption, 0.03, "photo"),
    "note": Kind(brushwork.note, 0.03, "page", 0.4),
    "blank": Kind(scenes.blank, 0.02, "photo"),
}


def choose_kind(rng: np.random.Generator, names: tuple[str, ...] | None = None) -> str:
    """Choose a kind by weight, among the names given or all."""
    able = names or tuple(KINDS)
    weights = np.array([KINDS[n].weight for n in able])
    return able[int(rng.choice(len(able), p=weights / weights.sum()))]


def render_picture(
    rng: np.random.Generator, assets: Assets, kind: str | None = None
) -> tuple[NDArray[np.uint8], list[Line]]:
    """Render a picture with its labels.

    Args:
        rng: Randomness; the same state and assets give the same picture.
        assets: Fonts, texts and photographs.
        kind: A key of :data:`KINDS`; ``None`` chooses one.

    Returns:
        The picture, RGB uint8 (height, width, 3), and one label for every text line.
    """
    spec = KINDS[kind or choose_kind(rng)]
    sheet = spec.draw(rng, assets)
    profile = spec.profile
    if rng.random() < spec.photographed:
        sheet, profile = effects.photographed(rng, assets, sheet), "photo"
    usual = float(np.median([mark.height for mark in sheet.marks])) if sheet.marks else 20.0
    image, blur = effects.spoil(rng, sheet.rgb, profile, usual)
    height, width = image.shape[:2]
    lines = (finish(mark, width, height, blur) for mark in sheet.marks)
    return np.ascontiguousarray(image), [line for line in lines if line is not None]


def finish(mark: Mark, width: int, height: int, blur: float) -> Line | None:
    """Cut a mark to the picture and decide whether it can be read.

    Args:
        mark: Where the text is.
        width: Of the picture, in pixels.
        height: Of the picture, in pixels.
        blur: Standard deviation of the blur, in pixels.

    Returns:
        The label, or ``None`` when next to nothing of the text is in the picture.
    """
    quad, limit = mark.quad, np.array([width - 1, height - 1], dtype=np.float64)
    area = cross_area(quad)
    if area <= 1:
        return None
    share = 1.0
    if (quad < 0).any() or (quad > limit).any():
        frame = np.array([[0, 0], [limit[0], 0], limit, [0, limit[1]]], dtype=np.float32)
        seen, shape = cv2.intersectConvexConvex(quad.astype(np.float32), frame)
        share = seen / area
        if share < 0.05 or shape is None:
            return None
        if share < 0.97:
            quad = _around(np.asarray(shape, dtype=np.float64).reshape(-1, 2), quad)
        quad = np.clip(quad, 0, limit)
        if cross_area(quad) <= 1:
            return None
    tall = mark.height
    # Chinese needs about 7 px, Latin 5-6; blur beyond an eighth of the height closes the letters.
    ignore = tall < _MIN_HEIGHT_PX or mark.contrast < _MIN_CONTRAST or blur > 0.125 * tall or share < 0.4
    return Line(quad, mark.text, bool(ignore))


def _around(points: NDArray[np.float64], like: NDArray[np.float64]) -> NDArray[np.float64]:
    """Smallest rectangle around points, along the sides of a quad and with its order of corners."""
    across = like[1] - like[0]
    across = across / max(float(np.hypot(*across)), 1e-6)
    basis = np.array([across, [-across[1], across[0]]])
    local = points @ basis.T
    (x0, y0), (x1, y1) = local.min(axis=0), local.max(axis=0)
    return np.asarray(np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]) @ basis, dtype=np.float64)
