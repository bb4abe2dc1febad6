"""A trap for whatever a browser asks of anywhere but this machine."""

from __future__ import annotations

import contextlib
import socketserver
import threading
from collections.abc import Iterator

_LONGEST_LINE = 4096


class Trap:
    """A proxy that passes nothing on; who is told to use it gets nowhere, and what it wanted is written down."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._wanted: list[str] = []

    @property
    def arguments(self) -> list[str]:
        """What makes Chromium use it for all but this machine, under each name that the tests have for it."""
        return [f"--proxy-server=http://127.0.0.1:{self._port}", "--proxy-bypass-list=127.0.0.1;ocr.lan"]

    def note(self, line: str) -> None:
        self._wanted.append(line)

    def take(self) -> list[str]:
        """Return what was wanted since the last time, a method and an address each."""
        wanted, self._wanted = self._wanted, []
        return wanted


@contextlib.contextmanager
def trap() -> Iterator[Trap]:
    """Run one."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            asked = self.rfile.readline(_LONGEST_LINE).decode("latin-1").rpartition(" ")[0]
            if asked:  # else a connection that was made to be there when it is needed
                it.note(asked)
                self.wfile.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        it = Trap(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, name="trap", daemon=True)
        thread.start()
        yield it
        server.shutdown()
        thread.join(5)
