"""Telling a process that hangs from one that gets no processor: on a machine with too much to do, both are silent.

Hanging processes sleep, are stopped, or compute without an end. One that is starved wants to run (or waits for its
pages) but has hardly been given any time.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

# With less than this part of its share of a core for the time it was silent, a process that wants to run is starved.
_ENOUGH_SHARE = 0.5
# R: running or waiting for a core; D: waiting for a disk, as a process does whose pages were swapped out.
_WILLING = frozenset("RD")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class CpuClock:
    """Watches how much processor time one process gets. Where ``/proc`` cannot tell, nobody is starved.

    Args:
        pid: The process; ``None`` for none.
        proc: Where the system tells about processes.
        core_share: What it can count on with nobody else about, in cores. Under a quota of less than one, a process
            that computes without an end never gets a whole one, and is not starved by that.
    """

    def __init__(self, pid: int | None, proc: Path = Path("/proc"), *, core_share: float = 1.0) -> None:
        self._enough = _ENOUGH_SHARE * core_share
        self._folder = proc / str(pid) if pid is not None else None
        self.restart()

    def restart(self) -> None:
        """Count from now on: at every sign of life."""
        self._since, self._used_s = time.monotonic(), self._cpu_seconds()

    def starved(self) -> bool:
        """Whether it would have worked since the last restart if it had been given its share."""
        used_s = self._cpu_seconds()
        if used_s is None or self._used_s is None:
            return False
        given = used_s - self._used_s
        return given < self._enough * (time.monotonic() - self._since) and self._willing()

    def _cpu_seconds(self) -> float | None:
        fields = _stat(self._folder) if self._folder is not None else None
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S if fields else None

    def _willing(self) -> bool:
        if self._folder is None:
            return False
        try:
            threads = list((self._folder / "task").iterdir())
        except OSError:
            return False
        states = (fields[0] for thread in threads if (fields := _stat(thread)))
        return any(state in _WILLING for state in states)


def _stat(folder: Path) -> list[str] | None:
    """The fields of a ``stat`` file from the state on: what stands before, the name, may hold anything."""
    try:
        return (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
