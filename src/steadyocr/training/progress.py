"""Where a run stands, how fast it goes and how it ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from steadyocr.training.losses import LossTerms


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands, for a bar or a log line.

    Attributes:
        step: Steps done.
        total_steps: Steps in the run; a run bounded by time may end before.
        done: Share of the run that is done, by steps or time, 0 to 1.
        eta_s: Seconds still to go.
        crops_per_s: Of late.
        lr: Learning rate of the last step.
        losses: Means since the last report.
        hmean: H-mean averaged over the data sets, when this report is about a validation.
        hmean_by_set: The same by set.
    """

    step: int
    total_steps: int
    done: float
    eta_s: float
    crops_per_s: float
    lr: float
    losses: dict[str, float] = field(default_factory=dict)
    hmean: float | None = None
    hmean_by_set: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        step: Steps done.
        finished: False when it was asked to stop before its end.
        best_hmean: Best validation, or ``None`` without one.
    """

    step: int
    finished: bool
    best_hmean: float | None


Report = Callable[[Progress], None]


class Watch:
    """Training time over all parts of a run."""

    def __init__(self, clock: Callable[[], float], before_s: float) -> None:
        self._clock = clock
        self._origin_s = clock() - before_s

    @property
    def elapsed_s(self) -> float:
        """Seconds so far, those before a resume included."""
        return self._clock() - self._origin_s


class Window:
    """Losses and speed between two rows of the curve."""

    def __init__(self, started_s: float) -> None:
        self._started_s = started_s
        self._terms: list[LossTerms] = []
        self._crops = 0

    def add(self, terms: LossTerms, crops: int) -> None:
        """Note one step."""
        self._terms.append(terms)
        self._crops += crops

    @property
    def steps(self) -> int:
        """Steps noted."""
        return len(self._terms)

    def means(self) -> dict[str, float]:
        """Mean of each loss term."""
        means = {}
        for name in ("total", "bce", "threshold_l1", "dice", "distillation"):
            values = [value.detach() for term in self._terms if (value := getattr(term, name)) is not None]
            if values:
                means[name] = float(torch.stack(values).mean())
        return means

    def crops_per_s(self, now_s: float) -> float:
        """Speed so far."""
        passed = now_s - self._started_s
        return self._crops / passed if passed > 0 else 0.0


def curve_row(at: Progress, elapsed_s: float) -> dict[str, Any]:
    """Return what every row of a curve file begins with."""
    return {
        "step": at.step,
        "done": round(at.done, 4),
        "elapsed_s": round(elapsed_s, 1),
        "eta_s": round(at.eta_s, 1),
        "crops_per_s": round(at.crops_per_s, 2),
        "lr": at.lr,
    }


def one_line(at: Progress) -> str:
    """Say a report in a line."""
    head = f"step {at.step}/{at.total_steps} {100 * at.done:.1f}% eta {at.eta_s / 60:.0f} min"
    if at.hmean is not None:
        sets = " ".join(f"{name} {value:.3f}" for name, value in at.hmean_by_set.items())
        return f"{head} H-mean {at.hmean:.4f} ({sets})"
    losses = " ".join(f"{name} {value:.4f}" for name, value in at.losses.items())
    return f"{head} lr {at.lr:.2e} {at.crops_per_s:.1f} crops/s {losses}"
