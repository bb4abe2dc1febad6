"""The text-line detector: resize, run, post-process, map back."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from steadyocr.detection.postprocess import PostprocessParams, quads_from_probability_map
from steadyocr.imaging.resize import ResizePlan, apply, plan_resize, to_source
from steadyocr.runtime.base import FloatArray, Session
from steadyocr.runtime.manifest import Manifest
from steadyocr.runtime.tensor import fill_tensor


@dataclass(frozen=True, slots=True)
class Detection:
    """What was found in one picture.

    Attributes:
        quads: (N, 4, 2) float32 in pixels of the picture that was given, clockwise from top-left.
        scores: (N,) float32, mean text probability inside each.
        plan: How the picture was resized for the network.
        kept: The probability map as bytes, (H', W') probability x 255, when it was asked for.
    """

    quads: FloatArray
    scores: FloatArray
    plan: ResizePlan
    kept: NDArray[np.uint8] | None = None


class Detector:
    """A DB text detector. Immutable after loading: all options travel with the call.

    Args:
        session: The loaded network.
        manifest: Its manifest, which owns preprocessing and stride.
    """

    def __init__(self, session: Session, manifest: Manifest) -> None:
        self._session = session
        self._input = manifest.input
        self.manifest = manifest

    def detect(
        self, image: NDArray[np.uint8], params: PostprocessParams, max_side: int, *, keep_map: bool = False
    ) -> Detection:
        """Find the text lines of a picture.

        Args:
            image: (H, W, 3) uint8 RGB.
            params: Post-processing knobs.
            max_side: Longest side given to the network, in pixels.
            keep_map: Return the map too; the quads are then found in its bytes.
        """
        height, width = image.shape[:2]
        plan = plan_resize(width, height, max_side, stride=self._input.stride)
        probability = self.probability_map(image, plan)
        kept = cv2.convertScaleAbs(probability, alpha=255).astype(np.uint8, copy=False) if keep_map else None
        quads, scores = quads_from_probability_map(probability if kept is None else kept, params)
        return Detection(to_source(quads, plan), scores, plan, kept)

    def probability_map(self, image: NDArray[np.uint8], plan: ResizePlan) -> FloatArray:
        """Return the text probability of each network pixel that shows the picture (padding cut off), (H', W')."""
        resized = apply(image, plan)
        height, width = resized.shape[:2]
        batch = np.empty((1, 3, height, width), np.float32)
        fill_tensor(batch[0], resized, self._input)
        probability = self._session.run(batch)[0, 0]
        return np.ascontiguousarray(probability[: plan.content_height, : plan.content_width])
