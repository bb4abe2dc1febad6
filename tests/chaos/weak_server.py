"""``steadyocr`` with engines that have a weakness, and a limit on their address space where one is asked for."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

from steadyocr.cli.main import main
from steadyocr.scheduling.engine import EngineProcess

WORKER = (sys.executable, str(Path(__file__).with_name("misbehaving_worker.py")))

if __name__ == "__main__":
    # Children inherit the limit; the front stays far below it.
    limit = int(os.environ.get("WEAK_ADDRESS_SPACE", "0"))
    if limit:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    EngineProcess.__init__.__defaults__ = (WORKER,)
    main()
