"""The process that says whether engines would find their inference library, and the library its card.

Arguments: backend, device. In a process of its own, since who asks must not load such a library. Prints what is wrong.
"""

from __future__ import annotations

import sys
from typing import cast

from steadyocr.errors import SteadyOCRError
from steadyocr.runtime.loader import Backend, refuse_blind_library


def main() -> int:
    """Check; a problem is printed and ends with 1."""
    backend, device = sys.argv[1:]
    try:
        refuse_blind_library(cast("Backend", backend), device)
    except SteadyOCRError as error:
        sys.stdout.write(error.message)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
