"""Small labelled pictures that training, export and the tools are tested on."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def bar_picture(rng: np.random.Generator) -> tuple[np.ndarray, str]:
    """A light picture of 128 x 96 with one dark bar of "text", and the bar's label row."""
    image = rng.integers(180, 255, (96, 128, 3), dtype=np.uint8)
    x, y = int(rng.integers(5, 40)), int(rng.integers(5, 60))
    image[y : y + 20, x : x + 70] = 20
    return image, f"{x},{y},{x + 70},{y},{x + 70},{y + 20},{x},{y + 20},bar"


def make_folder(root: Path, count: int = 4) -> Path:
    """Write ``images`` and ``labels``."""
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    rng = np.random.default_rng(7)
    for index in range(count):
        image, row = bar_picture(rng)
        cv2.imwrite(str(root / "images" / f"{index}.png"), image)
        (root / "labels" / f"{index}.txt").write_text(f"{row}\n", encoding="utf-8")
    return root


def make_icdar(root: Path, count: int = 3, split: str = "train", *, prefix: str = "", bom: bool = False) -> Path:
    """Write an ICDAR-2015 folder, dialect A or, with ``prefix="gt_"`` and a BOM, C."""
    (root / f"{split}_images").mkdir(parents=True)
    (root / f"{split}_gts").mkdir()
    rng = np.random.default_rng(8)
    names = []
    for index in range(count):
        image, row = bar_picture(rng)
        cv2.imwrite(str(root / f"{split}_images" / f"{index}.png"), image)
        encoding = "utf-8-sig" if bom else "utf-8"
        (root / f"{split}_gts" / f"{prefix}{index}.txt").write_text(f"{row}\n", encoding=encoding)
        names.append(f"{index}.png")
    (root / f"{split}_list.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    return root
