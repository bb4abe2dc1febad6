"""A process of the laboratory: started on a leash, watched, and ended with everything it has started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from steadyocr.runtime.memory import rss_bytes

_LOOK_S: Final = 0.5
# From the wish to stop until the end is enforced: a checkpoint may have to be written.
_GRACE_S: Final = 15.0
_MAX_LOG_BYTES: Final = 1 << 20
_KEPT_LOG_BYTES: Final = 256 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a child may take.

    Attributes:
        memory_bytes: Of all its processes together.
        nice: How far it stands back.
        seconds: How long it may run.
    """

    memory_bytes: int
    nice: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Ending:
    """How a child ended.

    Attributes:
        code: Exit code; negative for a signal.
        reason: Why it was ended from here (``memory``, ``time``, ``asked``, ``disk``); empty when it ended by
            itself.
    """

    code: int
    reason: str


class Child:
    """One process, in a session of its own, with a bounded log.

    Args:
        command: What to run.
        log: Where its output goes, both streams.
        environment: All of it.
        limits: What it may take.
    """

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str], limits: Limits) -> None:
        self._command = command
        self._log = log
        self._environment = environment
        self._limits = limits
        self._process: asyncio.subprocess.Process | None = None
        self._asked = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """Process id, once started; also that of its session."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Start it.

        Raises:
            OSError: It cannot be started.
        """
        leash = (
            *(sys.executable, "-m", "steadyocr.runtime.leash"),
            *("--memory", str(self._limits.memory_bytes)),
            *("--nice", str(self._limits.nice)),
            *("--parent", str(os.getpid())),
        )
        # Straight into a file, so that it can still write, and finish, should this process be gone.
        with self._log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *leash,
                "--",
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(self._environment),
                start_new_session=True,
            )

    @property
    def asked(self) -> bool:
        """Whether it was asked to stop."""
        return self._asked.is_set()

    def ask_to_stop(self) -> None:
        """Ask it to finish, in its own way and soon."""
        self._asked.set()

    async def wait(self) -> Ending:
        """Watch it until its end. Whoever gives up waiting ends it at once."""
        process = self._process
        if process is None:
            raise RuntimeError("the child was never started")
        exited = asyncio.create_task(process.wait(), name="lab-child-exit")
        try:
            reason = await self._watch(exited)
            if not exited.done():
                await self._end(process, exited)
            return Ending(exited.result(), reason)
        finally:
            _signal_group(process.pid, signal.SIGKILL)
            exited.cancel()

    async def _watch(self, exited: asyncio.Task[int]) -> str:
        """Look at it from time to time; returns why it has to end, or nothing when it has ended."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self._limits.seconds
        asked = asyncio.create_task(self._asked.wait(), name="lab-child-asked")
        try:
            while not exited.done():
                await asyncio.wait({exited, asked}, timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
                if exited.done():
                    return ""
                if asked.done():
                    return "asked"
                if loop.time() >= ends_at:
                    return "time"
                if await asyncio.to_thread(self.memory_bytes) > self._limits.memory_bytes:
                    return "memory"
                bound_log(self._log)
        finally:
            asked.cancel()
        return ""

    async def _end(self, process: asyncio.subprocess.Process, exited: asyncio.Task[int]) -> None:
        # The first process alone: it decides what becomes of its helpers.
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await asyncio.wait({exited}, timeout=_GRACE_S)
        _signal_group(process.pid, signal.SIGKILL)
        await asyncio.wait({exited})

    def memory_bytes(self) -> int:
        """Resident memory of the process and all it has started, in bytes."""
        return sum(rss_bytes(pid) for pid in session_members(self.pid)) if self.pid else 0


def session_members(session: int) -> list[int]:
    """Return the processes of a session."""
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [pid for pid in pids if _stat(pid)[1] == session]


def start_ticks(pid: int) -> int:
    """When a process was started, in the kernel's ticks; with the pid it names one process for good. 0 when gone."""
    return _stat(pid)[0]


def _stat(pid: int) -> tuple[int, int]:
    """Start time and session of a process; zeros when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0, 0
    # The name in parentheses may hold anything, blanks and parentheses too.
    fields = text.rpartition(")")[2].split()
    return int(fields[19]), int(fields[3])


async def end_leftover(pid: int, ticks: int) -> None:
    """End a child of an earlier process of ours that has not ended with it; it may write its checkpoint first."""
    if not ticks or start_ticks(pid) != ticks:
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + _GRACE_S
    # It is no child of this process, so there is nothing to wait on.
    while start_ticks(pid) == ticks and loop.time() < ends_at:  # noqa: ASYNC110
        await asyncio.sleep(_LOOK_S)
    if start_ticks(pid) == ticks:
        _signal_group(pid, signal.SIGKILL)


def bound_log(path: Path) -> None:
    """Cut the beginning off a log that has grown too long; its writer appends, so it goes on at the new end."""
    try:
        if path.stat().st_size <= _MAX_LOG_BYTES:
            return
        tail = read_tail(path, _KEPT_LOG_BYTES)
        with path.open("r+b") as file:
            file.truncate(0)
        with path.open("ab") as file:
            file.write(tail)
    except FileNotFoundError:
        return


def read_tail(path: Path, max_bytes: int) -> bytes:
    """Return the last bytes of a file; nothing when it is not there."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - max_bytes))
            return file.read(max_bytes)
    except FileNotFoundError:
        return b""


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
