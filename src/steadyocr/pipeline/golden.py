"""The golden picture: a rendered page whose lines and texts are known, read to prove that the models work."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from steadyocr.imaging.geometry import quad_iou
from steadyocr.pipeline.ocr import OcrPipeline
from steadyocr.types import OcrOptions

_FOLDER = Path(__file__).parent.parent / "models" / "golden"
_MIN_IOU = 0.5


@dataclass(frozen=True, slots=True)
class GoldenResult:
    """What came of reading the golden picture.

    Attributes:
        ok: Every known line was found (IoU at least 0.5) with its text, and nothing else.
        problem: What was wrong, for the log; empty when ok.
        duration_ms: How long it took.
    """

    ok: bool
    problem: str
    duration_ms: float


@cache
def _expected() -> tuple[bytes, list[dict[str, Any]]]:
    picture = (_FOLDER / "golden.png").read_bytes()
    lines: list[dict[str, Any]] = json.loads((_FOLDER / "golden.json").read_text(encoding="utf-8"))
    return picture, lines


def golden_picture() -> bytes:
    """Return the encoded golden picture."""
    return _expected()[0]


def check_golden(pipeline: OcrPipeline) -> GoldenResult:
    """Read the golden picture and compare lines and texts with what is known."""
    picture, expected = _expected()
    start = time.perf_counter()
    page = pipeline.read(picture, OcrOptions()).page
    duration_ms = round((time.perf_counter() - start) * 1000, 1)
    found = np.array([line.quad for line in page.lines], np.float32).reshape(-1, 4, 2)
    wanted = np.array([line["quad"] for line in expected], np.float32)
    problem = ""
    if len(found) != len(wanted):
        problem = f"{len(found)} lines found, {len(wanted)} expected"
    else:
        iou = quad_iou(wanted, found)
        best = iou.argmax(axis=1)
        if iou.max(axis=1).min() < _MIN_IOU:
            problem = "a line is not where it should be"
        elif [page.lines[index].text for index in best] != [line["text"] for line in expected]:
            problem = "a text is not what it should be"
    return GoldenResult(not problem, problem, duration_ms)
