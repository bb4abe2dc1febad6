"""Judging a detector on labelled pictures by the ICDAR protocol, through the very code that serves it.

Nothing here needs torch: any ONNX detector that a manifest describes can stand in the same table.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from steadyocr.detection.detector import Detector
from steadyocr.detection.postprocess import PostprocessParams, quads_from_probability_map
from steadyocr.imaging.resize import plan_resize, to_source
from steadyocr.runtime.base import FloatArray
from steadyocr.training.metrics import Counts, count_matches, mean_hmean, total
from steadyocr.training.pictures import read_image
from steadyocr.training.regions import LabelledImage

ByteArray = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSize:
    """How large a picture is shown to a detector.

    Attributes:
        max_side: Longer side at most, in pixels.
        min_side: Enlarge a picture until its shorter side has so many pixels, as PaddleOCR's ``limit_type: min``
            does; 0 never enlarges, as the service does.
    """

    max_side: int = 1280
    min_side: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """How good a detector is, with the best of the post-processing tried.

    Attributes:
        detector: Its name.
        size: How large pictures were shown.
        params: The post-processing of these figures.
        counts: Matches by data set.
        pictures: Each picture's own counts, in the order given.
        tried: H-mean averaged over the sets, for every post-processing tried.
        ms_per_picture: Resize, network and every post-processing tried.
    """

    detector: str
    size: InputSize
    params: PostprocessParams
    counts: Mapping[str, Counts]
    pictures: Sequence[tuple[LabelledImage, Counts]]
    tried: Mapping[PostprocessParams, float]
    ms_per_picture: float

    @property
    def hmean(self) -> float:
        """H-mean averaged over the data sets, each weighing the same."""
        return mean_hmean(self.counts)

    def worst(self, count: int) -> list[LabelledImage]:
        """Return the pictures with the lowest H-mean; of equals, those with more mistakes first."""

        def badness(entry: tuple[LabelledImage, Counts]) -> tuple[float, int]:
            counts = entry[1]
            return counts.hmean, 2 * counts.matched - counts.wanted - counts.found

        return [picture for picture, _ in sorted(self.pictures, key=badness)[:count]]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "detector": self.detector,
            "max_side": self.size.max_side,
            "min_side": self.size.min_side,
            "bin_threshold": self.params.bin_threshold,
            "box_threshold": self.params.box_threshold,
            "unclip_ratio": self.params.unclip_ratio,
            "hmean": round(self.hmean, 4),
            "ms_per_picture": round(self.ms_per_picture, 1),
            "sets": {name: _scores(counts) for name, counts in sorted(self.counts.items())},
            "all": _scores(total(self.counts.values())),
            "tried": [
                {key: value for key, value in asdict(params).items() if "_" in key and key != "max_candidates"}
                | {"hmean": round(hmean, 4)}
                for params, hmean in sorted(self.tried.items(), key=lambda entry: -entry[1])
            ],
        }


def _scores(counts: Counts) -> dict[str, float]:
    return {
        "precision": round(counts.precision, 4),
        "recall": round(counts.recall, 4),
        "hmean": round(counts.hmean, 4),
        "matched": counts.matched,
        "regions": counts.wanted,
        "found": counts.found,
    }


def candidates(
    bin_thresholds: Iterable[float], box_thresholds: Iterable[float], unclip_ratios: Iterable[float]
) -> list[PostprocessParams]:
    """Return every combination."""
    return [
        PostprocessParams(bin_threshold=bin_, box_threshold=box, unclip_ratio=ratio)
        for bin_, box, ratio in itertools.product(bin_thresholds, box_thresholds, unclip_ratios)
    ]


def evaluate(
    detector: Detector,
    images: Sequence[LabelledImage],
    params: Sequence[PostprocessParams],
    size: InputSize,
    advance: Callable[[], object] = lambda: None,
) -> Evaluation:
    """Judge a detector.

    Args:
        detector: Loaded.
        images: Pictures with labels.
        params: The post-processing to try, at least one; the network runs once for all of them.
        size: How large pictures are shown.
        advance: Called after each picture.

    Returns:
        The figures under the post-processing whose H-mean, averaged over the sets, is best.
    """
    rows: list[list[Counts]] = []
    seconds = 0.0
    for labelled in images:
        image = read_image(labelled.path)
        started = time.perf_counter()
        found = list(find_quads(detector, image, params, size))
        seconds += time.perf_counter() - started
        rows.append([count_matches(list(quads), labelled.regions) for quads in found])
        advance()
    by_set = [_by_set(images, [row[index] for row in rows]) for index in range(len(params))]
    best = max(range(len(params)), key=lambda index: mean_hmean(by_set[index]))
    return Evaluation(
        detector=detector.manifest.name,
        size=size,
        params=params[best],
        counts=by_set[best],
        pictures=[(labelled, row[best]) for labelled, row in zip(images, rows, strict=True)],
        tried={each: mean_hmean(counts) for each, counts in zip(params, by_set, strict=True)},
        ms_per_picture=1000.0 * seconds / max(1, len(images)),
    )


def find_quads(
    detector: Detector, image: ByteArray, params: Iterable[PostprocessParams], size: InputSize
) -> Iterator[FloatArray]:
    """Run the network once and yield the quads (N, 4, 2), in the picture's pixels, of each post-processing."""
    height, width = image.shape[:2]
    shown = _enlarge(image, size)
    plan = plan_resize(shown.shape[1], shown.shape[0], size.max_side, stride=detector.manifest.input.stride)
    probability = detector.probability_map(shown, plan)
    scale = np.array((width / shown.shape[1], height / shown.shape[0]), np.float32)
    for each in params:
        quads, _ = quads_from_probability_map(probability, each)
        yield to_source(quads, plan) * scale


def _enlarge(image: ByteArray, size: InputSize) -> ByteArray:
    height, width = image.shape[:2]
    factor = min(size.min_side / min(width, height), size.max_side / max(width, height))
    if factor <= 1.0:
        return image
    enlarged = cv2.resize(image, (round(width * factor), round(height * factor)), interpolation=cv2.INTER_LINEAR)
    return np.asarray(enlarged, np.uint8)


def _by_set(images: Sequence[LabelledImage], counts: Sequence[Counts]) -> dict[str, Counts]:
    sets: dict[str, Counts] = {}
    for labelled, each in zip(images, counts, strict=True):
        sets[labelled.dataset] = sets.get(labelled.dataset, Counts()) + each
    return sets
