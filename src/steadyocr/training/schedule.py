"""How far a run is, by steps or by time, and the learning rate that belongs to it."""

from __future__ import annotations

import math

from steadyocr.training.config import OptimiserConfig


def progress(step: int, total_steps: int, elapsed_s: float, max_s: float) -> float:
    """Return how much of the run is done, 0 to 1: by steps or, where a time is set, by time, whichever is more."""
    done = step / total_steps if total_steps > 0 else 1.0
    if max_s > 0:
        done = max(done, elapsed_s / max_s)
    return min(done, 1.0)


def learning_rate(step: int, done: float, config: OptimiserConfig) -> float:
    """Return the rate of a step: a linear climb, times the fall from the peak to zero over the run."""
    climb = min(1.0, (step + 1) / (config.warmup_steps + 1))
    cosine = config.schedule == "cosine"
    fall = 0.5 * (1.0 + math.cos(math.pi * done)) if cosine else (1.0 - done) ** config.poly_power
    return config.lr * climb * fall
