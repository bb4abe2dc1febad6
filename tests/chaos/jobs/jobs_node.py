"""The real program with engines that need no models: ``jobs_node.py serve --port 0``."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

from steadyocr.cli.main import main
from steadyocr.scheduling.engine import EngineProcess

LIGHT_ENGINE = (sys.executable, str(Path(__file__).with_name("light_engine.py")))

_real_time = time.time
_offset_s = 0.0


def jumping_time() -> float:
    """The wall clock of this process, which is set forward a day by SIGUSR1 and back two by SIGUSR2."""
    return _real_time() + _offset_s


def jump(number: int, _frame: object) -> None:
    global _offset_s  # noqa: PLW0603 - one clock
    _offset_s += 86_400.0 if number == signal.SIGUSR1 else -2 * 86_400.0


if __name__ == "__main__":
    time.time = jumping_time
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, jump)
    EngineProcess.__init__.__defaults__ = (LIGHT_ENGINE,)
    main()
