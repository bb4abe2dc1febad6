"""Which picture each crop comes from: a pure function of seed and position, so that a run can be taken up anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steadyocr.errors import DatasetError
from steadyocr.training.config import Source
from steadyocr.training.regions import LabelledImage


@dataclass(frozen=True, slots=True)
class Group:
    """Indices of the pictures of one data set, and its share of the crops."""

    weight: float
    members: tuple[int, ...]


def group_images(
    parts: Iterable[tuple[Source, Sequence[LabelledImage]]],
) -> tuple[list[LabelledImage], list[Group]]:
    """Lay the sources' pictures in one row and group them by weight."""
    images: list[LabelledImage] = []
    groups: list[Group] = []
    for source, found in parts:
        for share, members in _shares(source, found):
            first = len(images)
            images += members
            groups.append(Group(source.weight * share, tuple(range(first, first + len(members)))))
    groups = [group for group in groups if group.weight > 0 and group.members]
    if not groups:
        raise DatasetError("no source has pictures and a weight above 0")
    return images, groups


def _shares(source: Source, images: Sequence[LabelledImage]) -> Iterator[tuple[float, list[LabelledImage]]]:
    weights: Mapping[str, float] = source.dataset_weights
    if not weights:
        yield 1.0, list(images)
        return
    total = sum(weights.values())
    for name, weight in weights.items():
        members = [image for image in images if image.dataset == name]
        if not members:
            raise DatasetError(f"{source.path}: no picture belongs to the data set {name!r} that has a weight")
        yield weight / total, members


def plan_epoch(groups: Sequence[Group], count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Return the picture index of each of an epoch's ``count`` crops.

    Each group gets its share to the nearest crop; inside it every picture is drawn once before any is drawn again.
    """
    rng = np.random.default_rng((seed, epoch, 0x5A))
    shares = np.array([group.weight for group in groups])
    # Systematic rounding: cumulative shares rounded, so that the parts always sum to the whole.
    bounds = np.rint(np.cumsum(shares) / shares.sum() * count).astype(int)
    drawn = [
        _cycle(np.asarray(group.members, np.int64), int(size), rng)
        for group, size in zip(groups, np.diff(bounds, prepend=0), strict=True)
    ]
    plan = np.concatenate(drawn)
    rng.shuffle(plan)
    return plan


def _cycle(members: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    rounds = -(-count // len(members))
    return np.concatenate([rng.permutation(members) for _ in range(rounds)] or [members[:0]])[:count]
