"""The pipe in which an engine's standard error ends, on the front's side."""

from __future__ import annotations

import asyncio
import os
from typing import Final

from steadyocr.telemetry.relay import LineRelay

_CHUNK_BYTES: Final = 64 << 10
# What is still read after an engine's end; a pipe holds no more, unless a child of the engine goes on writing.
_LAST_CHUNKS: Final = 4


class EngineStderr:
    """Reads while the event loop turns; no task, nothing to await. Owned by the engine's handle.

    Attributes:
        write_end: The descriptor that becomes the engine's standard error.
    """

    def __init__(self) -> None:
        self._read_end, self.write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        self._relay = LineRelay({})
        self._loop = asyncio.get_running_loop()

    def attach(self, pid: int) -> None:
        """Begin to read what the process writes."""
        self._close_write_end()
        self._relay = LineRelay({"engine_pid": pid})
        self._loop.add_reader(self._read_end, self._read_once)

    def close(self) -> None:
        """Log what is left and let go of the pipe. Safe to call twice."""
        self._close_write_end()
        for _ in range(_LAST_CHUNKS):
            if not self._read_once():
                break
        self._end()

    def _read_once(self) -> bool:
        """Read what is there; returns whether there may be more."""
        if self._read_end < 0:
            return False
        try:
            data = os.read(self._read_end, _CHUNK_BYTES)
        except BlockingIOError:
            return False
        self._relay.feed(data)
        if not data:
            self._end()
        return bool(data)

    def _end(self) -> None:
        read_end, self._read_end = self._read_end, -1
        if read_end >= 0:
            self._loop.remove_reader(read_end)
            os.close(read_end)
            self._relay.feed(b"")

    def _close_write_end(self) -> None:
        write_end, self.write_end = self.write_end, -1
        if write_end >= 0:
            os.close(write_end)
