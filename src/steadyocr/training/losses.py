"""The DBNet training loss: balanced cross-entropy, threshold L1 and Dice; defined without text too."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

_EPS = 1e-6


@dataclass(frozen=True, slots=True)
class LossWeights:
    """Factors and constants of the loss.

    Attributes:
        bce: Factor of the cross-entropy on the probability map.
        threshold_l1: Factor of the L1 distance on the threshold map.
        dice: Factor of the Dice loss on the approximate binary map.
        negative_ratio: Hardest background pixels kept for each text pixel.
        min_negative_share: Share of all learnable pixels kept as background at least, so that pictures
            without text still teach.
        steepness: k of the approximate binarisation (DB paper, equation 2).
    """

    bce: float = 5.0
    threshold_l1: float = 10.0
    dice: float = 1.0
    negative_ratio: float = 3.0
    min_negative_share: float = 0.02
    steepness: float = 50.0


@dataclass(frozen=True, slots=True)
class Targets:
    """What the network should say, each (N, H, W): maps float32 from 0 to 1, masks float32 of 0 and 1."""

    shrink_map: Tensor
    shrink_mask: Tensor
    threshold_map: Tensor
    threshold_mask: Tensor


@dataclass(frozen=True, slots=True)
class LossTerms:
    """The weighted sum, with gradient, and the terms it is made of; those of the labels unweighted."""

    total: Tensor
    bce: Tensor
    threshold_l1: Tensor
    dice: Tensor
    distillation: Tensor | None = None

    def with_distillation(self, loss: Tensor) -> LossTerms:
        """Add what a teacher has to say."""
        return replace(self, total=self.total + loss, distillation=loss)


def db_loss(prob_logits: Tensor, threshold_logits: Tensor, targets: Targets, weights: LossWeights) -> LossTerms:
    """Compute the loss.

    Args:
        prob_logits: (N, 1, H, W) probability map before its sigmoid.
        threshold_logits: (N, 1, H, W) threshold map before its sigmoid.
        targets: The wanted maps and where they count.
        weights: Factors of the terms.

    Returns:
        All terms, finite for every batch.
    """
    prob = prob_logits.squeeze(1).float()
    threshold = torch.sigmoid(threshold_logits.squeeze(1).float())
    bce = balanced_bce(prob, targets.shrink_map, targets.shrink_mask, weights)
    l1 = masked_l1(threshold, targets.threshold_map, targets.threshold_mask)
    binary = torch.sigmoid(weights.steepness * (torch.sigmoid(prob) - threshold))
    dice = dice_loss(binary, targets.shrink_map, targets.shrink_mask)
    total = weights.bce * bce + weights.threshold_l1 * l1 + weights.dice * dice
    return LossTerms(total, bce, l1, dice)


def balanced_bce(logits: Tensor, wanted: Tensor, mask: Tensor, weights: LossWeights) -> Tensor:
    """Cross-entropy over all text pixels and the hardest background pixels.

    With n text pixels, the ``max(negative_ratio * n, min_negative_share * learnable pixels)`` background pixels of
    highest loss count, over the whole batch.
    """
    loss = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    positive = wanted * mask
    negative = (1.0 - wanted) * mask
    positives = positive.sum()
    kept = hardest(loss.detach(), negative, _negative_count(positives, negative, mask, weights))
    chosen = positive + kept
    return (loss * chosen).sum() / (chosen.sum() + _EPS)


def _negative_count(positives: Tensor, negative: Tensor, mask: Tensor, weights: LossWeights) -> int:
    wanted = max(weights.negative_ratio * float(positives), weights.min_negative_share * float(mask.sum()))
    return min(int(wanted), int(negative.sum()))


def hardest(loss: Tensor, mask: Tensor, count: int) -> Tensor:
    """Return a 0/1 mask of the ``count`` elements of highest loss inside ``mask`` (ties are all kept)."""
    if count <= 0:
        return torch.zeros_like(mask)
    # Elements outside the mask get -1; a cross-entropy is never negative, so they sort last.
    candidates = torch.where(mask > 0, loss, torch.full_like(loss, -1.0)).flatten()
    cut = torch.kthvalue(candidates, candidates.numel() - count + 1).values
    return mask * (loss >= cut)


def masked_l1(value: Tensor, wanted: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute difference inside the mask; 0 where the mask is empty."""
    return ((value - wanted).abs() * mask).sum() / (mask.sum() + _EPS)


def dice_loss(value: Tensor, wanted: Tensor, mask: Tensor) -> Tensor:
    """1 - 2|A∩B| / (|A| + |B|) over the whole batch; 0 for a batch without text."""
    overlap = (value * wanted * mask).sum()
    total = (value * mask).sum() + (wanted * mask).sum() + _EPS
    has_text = ((wanted * mask).sum() > 0).float()
    return has_text * (1.0 - 2.0 * overlap / total)
