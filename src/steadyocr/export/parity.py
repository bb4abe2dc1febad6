"""How far an exported file is from the network it was made of, in numbers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from steadyocr.detection.detector import Detector
from steadyocr.detection.postprocess import PostprocessParams
from steadyocr.runtime.base import FloatArray, IntArray, Session
from steadyocr.runtime.manifest import Manifest
from steadyocr.training.evaluate import Evaluation, InputSize, evaluate
from steadyocr.training.model import DBNet
from steadyocr.training.regions import LabelledImage

# (N, H, W): both turns, a batch, the least size and a large one.
SHAPES: Final = ((1, 32, 32), (1, 320, 480), (2, 160, 96), (1, 640, 640))


class TorchSession:
    """The network itself behind the seam that exported files are run through."""

    def __init__(self, network: DBNet) -> None:
        self._network = network.eval()

    @property
    def backend(self) -> str:
        """Library and device."""
        return "torch-cpu"

    @property
    def metadata(self) -> Mapping[str, str]:
        """Nothing is kept with a bare network."""
        return {}

    @torch.no_grad()
    def run(self, batch: FloatArray) -> FloatArray:
        """See :class:`~steadyocr.runtime.base.Session`."""
        return np.asarray(self._network.inference(torch.from_numpy(batch)).numpy(), np.float32)

    def run_argmax(self, batch: FloatArray) -> tuple[IntArray, FloatArray]:
        """A detector has no classes."""
        raise NotImplementedError

    def release_memory(self) -> None:
        """Nothing to do."""


def compare_outputs(
    reference: Session, others: Mapping[str, Session], shapes: Iterable[tuple[int, int, int]] = SHAPES, seed: int = 0
) -> dict[str, list[dict[str, Any]]]:
    """Run all on the same random input.

    Args:
        reference: What is right.
        others: What is to be judged, by name.
        shapes: (N, H, W) each.
        seed: Of the input.

    Returns:
        By name, one entry for each shape: largest and mean absolute difference of the probabilities.
    """
    rng = np.random.default_rng(seed)
    entries: dict[str, list[dict[str, Any]]] = {name: [] for name in others}
    for count, height, width in shapes:
        batch = rng.normal(0.0, 1.0, (count, 3, height, width)).astype(np.float32)
        right = reference.run(batch)
        for name, other in others.items():
            difference = np.abs(right - other.run(batch))
            entries[name].append(
                {
                    "shape": [count, 3, height, width],
                    "max_abs_difference": float(difference.max()),
                    "mean_abs_difference": float(difference.mean()),
                }
            )
    return entries


def compare_hmean(
    manifest: Manifest, sessions: Mapping[str, Session], images: Sequence[LabelledImage], max_side: int | None = None
) -> dict[str, dict[str, Any]]:
    """Judge several sessions of one model on the same pictures, with the manifest's own thresholds.

    Returns:
        By name: H-mean averaged over the sets, by set, and the difference to the first session.
    """
    own = manifest.defaults
    params = PostprocessParams(
        bin_threshold=own.bin_threshold, box_threshold=own.box_threshold, unclip_ratio=own.unclip_ratio
    )
    size = InputSize(max_side=max_side or own.max_side)
    found = {name: evaluate(Detector(session, manifest), images, [params], size) for name, session in sessions.items()}
    first = next(iter(found.values()))
    return {name: _entry(each, first) for name, each in found.items()}


def _entry(found: Evaluation, first: Evaluation) -> dict[str, Any]:
    return {
        "hmean": round(found.hmean, 4),
        "hmean_difference": round(found.hmean - first.hmean, 4),
        "sets": {name: round(counts.hmean, 4) for name, counts in sorted(found.counts.items())},
    }


def compare_speed(
    sessions: Mapping[str, Session], height: int, width: int, rounds: int = 7
) -> dict[str, dict[str, float]]:
    """Time sessions side by side: in turn, round by round, so that a busy moment hits all alike.

    Returns:
        By name: best and median milliseconds of one (1, 3, height, width) inference.
    """
    batch = np.random.default_rng(0).normal(0.0, 1.0, (1, 3, height, width)).astype(np.float32)
    taken: dict[str, list[float]] = {name: [] for name in sessions}
    for session in sessions.values():
        session.run(batch)
    for _ in range(rounds):
        for name, session in sessions.items():
            started = time.perf_counter()
            session.run(batch)
            taken[name].append(1000.0 * (time.perf_counter() - started))
    return {
        name: {"best_ms": round(min(times), 2), "median_ms": round(float(np.median(times)), 2)}
        for name, times in taken.items()
    }


def write_report(values: Mapping[str, Any], path: Path) -> None:
    """Write a report as JSON."""
    path.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
