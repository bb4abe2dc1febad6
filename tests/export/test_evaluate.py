"""Judging detectors: nothing here needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from labelled import make_folder
from steadyocr.detection.detector import Detector
from steadyocr.detection.postprocess import PostprocessParams
from steadyocr.runtime.base import FloatArray, IntArray
from steadyocr.runtime.manifest import FileEntry, InputEntry, Manifest
from steadyocr.training.evaluate import InputSize, candidates, evaluate, find_quads
from steadyocr.training.labels import read_folder
from steadyocr.training.pictures import read_image
from steadyocr.training.verdict_picture import draw_verdict


class DarkIsText:
    """A session that takes every dark pixel for text."""

    backend = "test"

    @property
    def metadata(self) -> Mapping[str, str]:
        return {}

    def run(self, batch: FloatArray) -> FloatArray:
        return (batch[:, :1] < 100).astype(np.float32)

    def run_argmax(self, batch: FloatArray) -> tuple[IntArray, FloatArray]:
        raise NotImplementedError

    def release_memory(self) -> None:
        pass


@pytest.fixture
def detector() -> Detector:
    manifest = Manifest(
        name="dark",
        task="detection",
        licence="",
        source="",
        file=FileEntry(path="x", sha256="0" * 64),
        input=InputEntry(channel_order="RGB", mean=(0, 0, 0), std=(1, 1, 1), stride=32),
        folder=Path(),
    )
    return Detector(DarkIsText(), manifest)


# Regions are given whole here, so nothing is to be grown back.
EXACT = PostprocessParams(bin_threshold=0.5, box_threshold=0.5, unclip_ratio=0.01)


def test_perfect_detector_scores_one(detector: Detector, tmp_path: Path) -> None:
    images = read_folder(make_folder(tmp_path, 3))
    found = evaluate(detector, images, [EXACT], InputSize(max_side=128))
    assert found.hmean == 1.0
    assert found.counts[tmp_path.name].matched == 3
    assert found.to_dict()["sets"][tmp_path.name]["precision"] == 1.0


def test_best_post_processing_counts_and_all_are_told(detector: Detector, tmp_path: Path) -> None:
    images = read_folder(make_folder(tmp_path, 2))
    tried = candidates([0.5], [0.5], [0.01, 5.0])
    found = evaluate(detector, images, tried, InputSize(max_side=128))
    assert found.params == tried[0]
    assert [entry["hmean"] for entry in found.to_dict()["tried"]] == [1.0, 0.0]
    assert {"bin_threshold", "box_threshold", "unclip_ratio", "hmean"} <= set(found.to_dict()["tried"][0])


@pytest.mark.parametrize("size", [InputSize(max_side=64), InputSize(max_side=512, min_side=192)])
def test_quads_come_back_in_the_pictures_own_pixels(detector: Detector, tmp_path: Path, size: InputSize) -> None:
    (labelled,) = read_folder(make_folder(tmp_path, 1))
    (quads,) = find_quads(detector, read_image(labelled.path), [EXACT], size)
    assert np.abs(quads[0] - labelled.regions[0].polygon).max() < 2.5


def test_worst_pictures_come_first(detector: Detector, tmp_path: Path) -> None:
    root = make_folder(tmp_path, 3)
    (root / "labels" / "1.txt").write_text("0,0,9,0,9,9,0,9,x\n100,0,109,0,109,9,100,9,y\n", encoding="utf-8")
    found = evaluate(detector, read_folder(root), [EXACT], InputSize(max_side=128))
    (worst,) = found.worst(1)
    assert worst.path.name == "1.png"
    (quads,) = find_quads(detector, read_image(worst.path), [EXACT], found.size)
    picture = draw_verdict(read_image(worst.path), worst.regions, list(quads))
    assert picture.startswith(b"\xff\xd8")
    assert draw_verdict(read_image(worst.path), (), [])
