"""A child process that is waited for in the one way that tells how much memory it took, to the page.

The kernel keeps a process's peak until somebody takes note of its end, and gives it to :func:`os.wait4` only; asyncio's
own processes and :class:`subprocess.Popen` drop it. No look from outside, however often, sees as much of one that grows
by a gigabyte a second and is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from typing import Final

from steadyocr.runtime.memory import peak_rss_bytes

# What is said of a process whose end somebody else has taken note of, as asyncio says it.
_UNKNOWN_EXIT: Final = 255
# The kernel's counts of pages lag behind by some on each processor.
_BLUR: Final = 1.1


class Child:
    """One process. Belongs to one event loop.

    Attributes:
        pid: Its id.
        returncode: Negative for a signal; ``None`` while it lives.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str], stderr: int, pass_fds: Sequence[int]) -> None:
        """Start it.

        Raises:
            OSError: It could not be started.
        """
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._peak_bytes = 0
        self.returncode: int | None = None
        self._process = subprocess.Popen(  # noqa: S603 - a command of ours
            command, stdin=subprocess.DEVNULL, stderr=stderr, pass_fds=pass_fds, env=dict(env)
        )
        self.pid = self._process.pid
        # Until it became another program it was a part of us, and the kernel counts our peak as its own.
        self._inherited_bytes = peak_rss_bytes()
        try:
            threading.Thread(target=self._reap, name=f"wait-{self.pid}", daemon=True).start()
        except RuntimeError as error:
            self.kill()
            self._process.wait()
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error

    def peak_bytes(self, floor_bytes: int = 0) -> int:
        """Return the most that it held, once it has ended; 0 where that is not known.

        Args:
            floor_bytes: What the figure may be owed to something else; only a larger one counts.
        """
        known = self._peak_bytes > _BLUR * max(floor_bytes, self._inherited_bytes)
        return self._peak_bytes if known else 0

    def kill(self) -> None:
        """End it at once. Safe to call twice."""
        # Not by way of Popen, which would take note of its end and lose the figure.
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    async def wait(self) -> int:
        """Wait until it has ended; returns how."""
        await self._ended.wait()
        return _UNKNOWN_EXIT if self.returncode is None else self.returncode

    def _reap(self) -> None:
        """Wait for its end, in a thread of its own."""
        try:
            _, status, usage = os.wait4(self.pid, 0)
        except ChildProcessError:
            code = _UNKNOWN_EXIT
        else:
            code = os.waitstatus_to_exitcode(status)
            self._peak_bytes = usage.ru_maxrss * 1024
        self.returncode = self._process.returncode = code
        with contextlib.suppress(RuntimeError):  # the loop is gone, and nobody waits
            self._loop.call_soon_threadsafe(self._ended.set)
