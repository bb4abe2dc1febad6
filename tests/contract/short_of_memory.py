"""A process that runs out of address space in the middle of a network: ``short_of_memory.py BACKEND THREADS``.

Two pictures of one size take turns, so that an answer left over from the one before would show. Prints how often
memory was refused and how often the result was right; ends with 1 when it was another one.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import numpy as np

from steadyocr.runtime import memory
from steadyocr.runtime.base import SessionOptions
from steadyocr.runtime.loader import Backend, open_session
from steadyocr.runtime.manifest import find_model

_SIDE = 640
_MORE_BYTES = [step << 20 for step in (-64, 0, 8, 16, 32, 64, 256, 512)]


def main(backend: Backend, threads: int) -> int:
    # As an engine does. Out of what earlier pictures left free in the heap a whole one could be read.
    memory.give_back_large_blocks()
    session = open_session(find_model("pp-ocrv6-small-det", None), backend, SessionOptions(threads=threads))
    chance = np.random.default_rng(0)
    first, second = (chance.normal(size=(1, 3, _SIDE, _SIDE)).astype(np.float32) for _ in range(2))
    right = [session.run(batch).copy() for batch in (first, second)]
    assert not np.allclose(right[0], right[1], atol=1e-3)
    refused = good = 0
    for more in _MORE_BYTES:
        assert np.allclose(session.run(first), right[0], atol=1e-3)
        session.release_memory()
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + more, resource.RLIM_INFINITY))
        try:
            result = session.run(second)
        except MemoryError:
            refused += 1
        else:
            good += 1
            if not np.allclose(result, right[1], atol=1e-3):
                print(f"with {more} bytes more the answer was another one")
                return 1
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(refused, good)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))  # type: ignore[arg-type]
