"""Why an engine died, and whether the picture in its hand may be blamed.

A picture is blamed for a crash of its own making (a fault signal, an exit of the interpreter) and for a hang that had
to be ended. For being killed by the kernel for memory it is blamed only where the engine had clearly outgrown all that
was predicted: the kernel kills who is first in line, and what has taken the memory may be any other process. A kill
from outside — an operator, a test, an orchestrator — proves nothing about the picture, and neither does the slowness of
an engine that is given no processor, nor the silence of one that somebody has stopped. An engine that has found itself
unsound may be the victim of its picture or of a card that has died: what tells is whether it had read the golden
picture right since the death before. Only the kernel's own counters tell the two kinds of SIGKILL apart.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from steadyocr.runtime.cpu import cgroup_folders


class DeathCause(StrEnum):
    """What ended an engine."""

    CRASH = "crash"
    OUT_OF_MEMORY = "out_of_memory"
    HANG = "hang"
    OVERDUE = "overdue"
    STARVED = "starved"
    UNSOUND = "unsound"
    EXIT = "exit"
    OUTSIDE = "outside"


# What an engine says by its exit code: after a fault it does not work any more.
EXIT_UNSOUND: Final = 3

# Signals that a faulty native library raises in its own process.
_FAULTS = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP})
# States in /proc/PID/stat: stopped by a signal, and by a debugger.
_STOPPED = frozenset("Tt")


@dataclass(frozen=True, slots=True)
class Death:
    """How an engine ended.

    Attributes:
        cause: What ended it.
        exit_code: Of the process, negative for a signal.
        stage: What it was doing with the item in hand, ``None`` when idle or unknown.
        silent: It had shown no sign of life for most of the time that it had the item.
        proven_at: Event-loop time at which the engine had read the golden picture right, ``None`` where unknown.
        peak_bytes: The most that the engine held with the item, where the kernel killed it for memory; 0 where unknown.
    """

    cause: DeathCause
    exit_code: int | None
    stage: str | None
    silent: bool = False
    proven_at: float | None = None
    peak_bytes: int = 0

    @property
    def blames_the_item(self) -> bool:
        """Whether the item in hand may be the reason."""
        return self.cause not in (DeathCause.OUTSIDE, DeathCause.OVERDUE, DeathCause.STARVED)

    @property
    def casts_suspicion(self) -> bool:
        """Whether the item shall run alone from now on; a client's haste must not hide that its picture hangs."""
        return self.blames_the_item or (self.cause is DeathCause.OVERDUE and self.silent)

    def describe(self) -> dict[str, Any]:
        """Return plain values for a record."""
        known = {"peak_bytes": self.peak_bytes} if self.peak_bytes else {}
        return {"cause": self.cause.value, "exit_code": self.exit_code, "stage": self.stage, **known}

    def __str__(self) -> str:
        """Say it in words, for logs and records."""
        code = self.exit_code
        how = "unknown" if code is None else f"signal {signal_name(-code)}" if code < 0 else f"exit code {code}"
        where = f" in stage {self.stage}" if self.stage else ""
        return f"{self.cause.value}{where} ({how})"


def signal_name(number: int) -> str:
    """Return what a signal is called; its number where it has no name of its own, as real-time signals have none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def classify(exit_code: int | None, *, killed_by_us: bool, out_of_memory: bool) -> DeathCause:
    """Tell what ended an engine.

    Args:
        exit_code: Of the process, negative for a signal; ``None`` when it had not ended.
        killed_by_us: The supervisor killed it, for hanging.
        out_of_memory: The kernel counted a kill for memory since the engine took the item.
    """
    if killed_by_us:
        return DeathCause.HANG
    if exit_code == EXIT_UNSOUND:
        return DeathCause.UNSOUND
    if exit_code is None or exit_code >= 0:
        return DeathCause.EXIT
    if -exit_code == signal.SIGKILL:
        return DeathCause.OUT_OF_MEMORY if out_of_memory else DeathCause.OUTSIDE
    return DeathCause.CRASH if -exit_code in _FAULTS else DeathCause.OUTSIDE


def is_stopped(pid: int | None, proc: Path = Path("/proc")) -> bool:
    """Whether somebody has stopped a process (SIGSTOP, a debugger): its silence is no fault of its own."""
    if pid is None:
        return False
    try:
        stat = (proc / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return False
    # What stands before the state, the name, may hold anything.
    return stat.rpartition(")")[2].lstrip()[:1] in _STOPPED


def memory_kills(
    root: Path = Path("/sys/fs/cgroup"),
    membership: Path = Path("/proc/self/cgroup"),
    vmstat: Path = Path("/proc/vmstat"),
) -> int:
    """Return how many processes the kernel has killed for memory here: in our cgroups and on the whole machine.

    Only its growth means something.
    """
    total = _counter(vmstat, "oom_kill")
    for controller, name in (("", "memory.events"), ("memory", "memory.oom_control")):
        for folder in cgroup_folders(root, membership, controller):
            total += _counter(folder / name, "oom_kill")
    return total


def _counter(path: Path, key: str) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    for line in lines:
        name, _, value = line.partition(" ")
        if name == key and value.strip().isdigit():
            return int(value)
    return 0
