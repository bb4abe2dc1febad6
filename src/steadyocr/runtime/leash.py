"""Runs a command that must not harm its neighbours: ``python -m steadyocr.runtime.leash --memory N --nice N -- CMD``.

The limits are set here, in a process of one thread, and the command takes this process over: setting them between a
fork and an exec of a larger process is not safe.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
# The kernel's choice when memory runs out: this process long before any engine.
_OOM_SCORE: Final = 900


def main(arguments: Sequence[str] | None = None) -> int:
    """Set the limits and become the command."""
    parser = argparse.ArgumentParser(prog="python -m steadyocr.runtime.leash", description=__doc__)
    parser.add_argument("--memory", type=int, required=True, help="bytes of memory the command may allocate")
    parser.add_argument("--nice", type=int, required=True, help="how far it stands back, 0 to 19")
    parser.add_argument("--parent", type=int, required=True, help="process with whose end it is asked to end")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    _end_with(options.parent)
    resource.setrlimit(resource.RLIMIT_DATA, (options.memory, options.memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _stand_back(options.nice)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE))
    os.execvp(options.command[0], options.command)  # noqa: S606 - no shell is wanted


def _end_with(parent: int) -> None:
    """Be asked to end when the parent is gone, however it went; survives the exec."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit("the parent has ended already")


def _stand_back(nice: int) -> None:
    # A sandbox may forbid it: then the work goes on unpolitely, which is better than not at all.
    with contextlib.suppress(OSError):
        os.nice(nice)
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    # Where the kernel groups processes by session, niceness counts inside the group only; the group has its own.
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(nice))


if __name__ == "__main__":
    sys.exit(main())
