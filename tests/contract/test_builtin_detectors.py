"""Every built-in detector serves: its file is the manifest's, and it finds the lines of a plain page."""

from __future__ import annotations

import pytest

from steadyocr.imaging.header import ImageLimits
from steadyocr.pipeline.ocr import OcrPipeline
from steadyocr.runtime.base import SessionOptions
from steadyocr.runtime.manifest import find_model, list_models, load_manifest
from steadyocr.types import OcrOptions
from support import known_picture

DETECTORS = sorted(name for name, folder in list_models().items() if load_manifest(folder).task == "detection")


def test_there_is_our_own_detector_and_one_to_compare_with() -> None:
    assert DETECTORS == ["pp-ocrv6-small-det", "resnet18-db"]


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("picture", ["chinese", "english"])
def test_it_finds_the_lines_of_a_plain_page(name: str, picture: str) -> None:
    pipeline = OcrPipeline(
        find_model(name),
        find_model("pp-ocrv6-small-rec"),
        backend="auto",
        session_options=SessionOptions(threads=2),
        limits=ImageLimits(),
    )
    known = known_picture(picture)
    page = pipeline.read(known.data, OcrOptions()).page
    assert [line.text for line in page.lines] == known.texts
