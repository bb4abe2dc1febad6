"""How many engines and threads go together with how many cores: one rule for all that judge or write them."""

from __future__ import annotations

from typing import Final

# Decoding, and waiting for the front, leave cores idle: two engines that each use all cores are often the fastest.
# Beyond that, threads only wait for each other.
_MOST_THREADS_PER_CORE: Final = 2


def threads_agree(engines: int, threads: int, cores: int) -> bool:
    """Whether engines and threads suit the cores.

    One picture is computed by the threads of one engine, which slow each other down as soon as they share a core.
    Engines may overlap, since they do not compute all the time.

    Args:
        engines: Engine processes.
        threads: Threads of each.
        cores: Whole cores that may be used.

    Returns:
        ``True`` when no engine has more threads than cores and all together have at most two for each core.
    """
    return threads <= cores and engines * threads <= _MOST_THREADS_PER_CORE * cores
