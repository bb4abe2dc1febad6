"""What tuning came to, as settings and as a record of it."""

from __future__ import annotations

import time
from typing import Any

from steadyocr.ops.doctor.tuning import Verdict, Wishes


def wanted_settings(verdict: Verdict, default_side: int) -> dict[str, int]:
    """Return the settings that make the service do what won.

    Where that is what the service does by itself, they say 0, which is automatic: a number that is pinned would stay
    when the machine, a quota or the model changes.

    Args:
        verdict: Of the tuner.
        default_side: The model's own longest side, in pixels.
    """
    chosen = verdict.chosen
    automatic = chosen.candidate == verdict.default.candidate
    return {
        "engines.count": 0 if automatic else chosen.candidate.engines,
        "engines.threads": 0 if automatic else chosen.candidate.threads,
        "models.max_side": 0 if chosen.max_side == default_side else chosen.max_side,
    }


def record_of(verdict: Verdict, wishes: Wishes, settings: dict[str, int]) -> dict[str, Any]:
    """Return all of it as plain values."""
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "met": verdict.met,
        "reason": verdict.reason,
        "wishes": {"p95_s": wishes.p95_s, "memory_bytes": wishes.memory_bytes},
        "settings": settings,
        "chosen": verdict.chosen.to_wire(),
        "default": verdict.default.to_wire(),
        "table": [one.to_wire() for one in verdict.table],
    }
