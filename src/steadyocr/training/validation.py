"""Judging weights on whole pictures, the way the service will see them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from steadyocr.detection.postprocess import PostprocessParams, quads_from_probability_map
from steadyocr.imaging.resize import ResizePlan, apply, plan_resize, to_source
from steadyocr.training.config import Source, ValidationConfig
from steadyocr.training.labels import read_folder
from steadyocr.training.metrics import Counts, count_matches, mean_hmean
from steadyocr.training.model import SIDE_MULTIPLE, DBNet
from steadyocr.training.normalise import to_network_input
from steadyocr.training.pictures import read_image
from steadyocr.training.regions import FloatArray, LabelledImage
from steadyocr.training.set_names import tell_apart


@dataclass(frozen=True, slots=True)
class Verdict:
    """How good weights are, with the post-processing that suits them best.

    Attributes:
        hmean: H-mean averaged over the data sets.
        counts: Matches by data set.
        postprocess: The parameters these were reached with.
    """

    hmean: float
    counts: dict[str, Counts]
    postprocess: PostprocessParams

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a curve file."""
        return {
            "hmean": round(self.hmean, 4),
            "bin_threshold": self.postprocess.bin_threshold,
            "unclip_ratio": self.postprocess.unclip_ratio,
            "sets": {
                name: {
                    "precision": round(count.precision, 4),
                    "recall": round(count.recall, 4),
                    "hmean": round(count.hmean, 4),
                    "regions": count.wanted,
                }
                for name, count in sorted(self.counts.items())
            },
        }


def read_sources(sources: Iterable[Source]) -> list[LabelledImage]:
    """Read all pictures to judge on; a source with weights keeps only the data sets it names."""
    parts = []
    for source in sources:
        found = read_folder(Path(source.path), source.split)
        wanted = [image for image in found if not source.dataset_weights or image.dataset in source.dataset_weights]
        parts.append((Path(source.path), wanted))
    return tell_apart(parts)


def validate(
    model: DBNet, images: Iterable[LabelledImage], config: ValidationConfig, *, device: str, bf16: bool
) -> Verdict:
    """Run the detector over pictures and count matches.

    Args:
        model: The network; its training mode is put back afterwards.
        images: Pictures with labels.
        config: Input size and the post-processing to try.
        device: Where the model is.
        bf16: Compute in bfloat16.

    Returns:
        The verdict under the best post-processing tried.
    """
    was_training = model.training
    model.eval()
    tried: dict[PostprocessParams, dict[str, Counts]] = {params: {} for params in candidates(config)}
    for labelled in images:
        image = read_image(labelled.path)
        # The service's own arithmetic: thresholds and the best weights are chosen for what it shows a network.
        plan = plan_resize(image.shape[1], image.shape[0], config.max_side, stride=SIDE_MULTIPLE)
        map_ = probability_map(model, image, plan, device=device, bf16=bf16)
        for params, counts in tried.items():
            quads, _ = quads_from_probability_map(map_, params)
            found = count_matches(list(to_source(quads, plan)), labelled.regions)
            counts[labelled.dataset] = counts.get(labelled.dataset, Counts()) + found
    model.train(was_training)
    best = max(tried, key=lambda params: mean_hmean(tried[params]))
    return Verdict(mean_hmean(tried[best]), tried[best], best)


def candidates(config: ValidationConfig) -> list[PostprocessParams]:
    """Return every combination of post-processing parameters to try."""
    return [
        PostprocessParams(bin_threshold=threshold, unclip_ratio=ratio, box_threshold=config.box_threshold)
        for threshold, ratio in itertools.product(config.bin_thresholds, config.unclip_ratios)
    ]


@torch.no_grad()
def probability_map(model: DBNet, image: NDArray[np.uint8], plan: ResizePlan, *, device: str, bf16: bool) -> FloatArray:
    """Run the network over one RGB picture; (H', W') float32, padding cut off, as the service's detector does."""
    batch = to_network_input(torch.from_numpy(np.ascontiguousarray(apply(image, plan)))[None].to(device))
    with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bf16):
        probability = model.inference(batch)
    whole = probability[0, 0].float().cpu().numpy()
    return np.ascontiguousarray(whole[: plan.content_height, : plan.content_width], np.float32)
