"""How many engines a machine gets when nobody says."""

from __future__ import annotations

from typing import Final

from steadyocr.scheduling.governor import detect_budget_bytes

_MIB: Final = 1 << 20
# The rest is kept free, as the memory governor does.
_USABLE: Final = 0.85
_FRONT_BYTES: Final = 128 * _MIB
# An engine with the built-in models after its first pictures, and what a picture adds while it is read (median); both
# measured, docs/benchmarks.md. A user's own models may need more: then the governor lets fewer work at a time.
_IDLE_BYTES: Final = 430 * _MIB
_WORKING_BYTES: Final = 300 * _MIB
# One engine of two threads on two cores. Two engines of two threads read 1.36 times as many pictures there, since
# decoding and waiting leave cores idle, but take twice the memory on what is likely a small machine: that is for the
# operator to say (engines.count), or for `steadyocr doctor --tune` to measure.
_CORES_PER_ENGINE: Final = 2


def default_engines(cores: int, *, budget_bytes: int = 0, device: str = "cpu") -> int:
    """Return how many engines suit a machine.

    Args:
        cores: That may be used.
        budget_bytes: Memory of the whole service; 0 takes the tightest limit found.
        device: ``cpu``, ``cuda`` or ``cuda:N``. A card gets one engine: each has a context and models of its own there,
            and the card computes for one at a time anyway.

    Returns:
        At least 1, and so many at most that all can work, with room for one more that warms up to replace another.
    """
    if device != "cpu":
        return 1
    room = (budget_bytes or detect_budget_bytes()) * _USABLE - _FRONT_BYTES - _IDLE_BYTES
    return max(1, min(cores // _CORES_PER_ENGINE, int(room // (_IDLE_BYTES + _WORKING_BYTES))))
