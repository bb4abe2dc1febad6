"""Scripts that begin with everything imported: forked from a process that has imported it, instead of started anew.

Most of what a front costs until it is ready is imports, and tests start a hundred of them. A script that this
interpreter is to run begins in a copy of such a process, and what starts it cannot tell the difference: it has a
process of its own for a child, with its arguments, environment, streams and session. Whatever else there is to
start is started as always.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import importlib
import inspect
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# The whole program, as far as the front has it; without pixels and models, which belong to engines.
_IMPORTED = (
    "steadyocr.cli.main",
    "steadyocr.api.server",
    "steadyocr.jobs.sql_store",
    "steadyocr.cli.work",
    "steadyocr.cli.batch",
)
# As Popen names them: what the child reads, and writes, from and to what this process has.
_PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
_ORDER_BYTES = 1 << 20
_PR_SET_CHILD_SUBREAPER = 36


def start(command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
    """Start a command as ``subprocess.Popen`` does, faster where it is a script for this interpreter."""
    is_script = command[0] == sys.executable and command[1].endswith(".py")
    return (ForkedPopen if is_script else subprocess.Popen)(command, **options)


class ForkedPopen(subprocess.Popen[Any]):
    """A Popen whose child is a script that begins in a copy of a process with everything imported."""

    def _execute_child(self, *args: Any) -> None:
        given = inspect.signature(subprocess.Popen._execute_child).bind(self, *args).arguments  # type: ignore[attr-defined]
        order = {
            "script": given["args"][1],
            "arguments": list(given["args"][2:]),
            "environment": dict(given["env"] if given["env"] is not None else os.environ),
            "folder": str(given["cwd"] or Path.cwd()),
            "new_session": given["start_new_session"],
        }
        pipes = [given[name] for name in _PIPES]
        theirs = [pipes[0], pipes[3], pipes[5]]
        self.pid = _nursery().begin(order, [number if end == -1 else end for number, end in enumerate(theirs)])
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


class Nursery:
    """The process that has everything imported, and the channel on which it is asked for copies."""

    def __init__(self) -> None:
        # What it starts becomes a child of this process, as if it had been started here.
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._asking = threading.Lock()
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
            )

    def begin(self, order: dict[str, Any], streams: list[int]) -> int:
        """Begin a script with these streams; returns its process's number."""
        with self._asking:
            socket.send_fds(self._channel, [json.dumps(order).encode()], streams)
            return int(self._channel.recv(32))

    def end(self) -> None:
        self._channel.close()
        self._process.wait(10)


@functools.cache
def _nursery() -> Nursery:
    return Nursery()


def end() -> None:
    """End the process that has everything imported, if there is one; what began in copies of it goes on."""
    if _nursery.cache_info().currsize:
        _nursery().end()
        _nursery.cache_clear()


def _serve(channel: socket.socket) -> None:
    """Begin what is asked for until the channel closes; returns in the process of a script, too, when it has ended."""
    while True:
        data, streams, _, _ = socket.recv_fds(channel, _ORDER_BYTES, 3)
        if not data:
            return
        number = _fork_orphan()
        if number == 0:
            channel.close()
            _run(json.loads(data), streams)
            return
        channel.send(str(number).encode())
        for stream in streams:
            os.close(stream)


def _fork_orphan() -> int:
    """Fork a process whose parent ends at once, so that it becomes a child of whoever asked; returns as fork does."""
    reading, writing = os.pipe()
    between = os.fork()
    if between == 0:
        number = os.fork()
        if number == 0:
            os.close(reading)
            os.close(writing)
            return 0
        os.write(writing, str(number).encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as told:  # noqa: PTH123 - a descriptor
        number = int(told.read())
    # Only from now on is it the child of whoever asked.
    os.waitpid(between, 0)
    return number


def _run(order: dict[str, Any], streams: Sequence[int]) -> None:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    if order["new_session"]:
        os.setsid()
    # A shell that runs the tests in the background has switched Ctrl-C off for all of them.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    script = order["script"]
    sys.argv = [script, *order["arguments"]]
    sys.path[0] = str(Path(script).parent)
    runpy.run_path(script, run_name="__main__")


def main() -> None:
    for name in _IMPORTED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))


if __name__ == "__main__":
    main()
