"""A real server for a benchmark: started on a free loopback port, stopped by its process id."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from steadyocr.runtime.memory import rss_bytes

OUT = Path(__file__).parent / "out"
_START_S = 60.0


@dataclass(frozen=True, slots=True)
class Server:
    """Where it listens, its process, its log."""

    url: str
    pid: int
    log: Path

    def front_rss_bytes(self) -> int:
        """Resident memory of the front."""
        return rss_bytes(self.pid)

    def info(self) -> dict[str, Any]:
        """The info route."""
        facts: dict[str, Any] = httpx.get(f"{self.url}/v1/info", timeout=30).json()
        return facts


@contextmanager
def running_server(
    settings: Mapping[str, str] | None = None,
    *,
    program: Sequence[str] = (sys.executable, "-m", "steadyocr"),
    wrapper: Sequence[str] = (),
) -> Iterator[Server]:
    """Serve until the block ends.

    Args:
        settings: Environment settings.
        program: What serves.
        wrapper: A command that runs the program given after it, in limits of its own.
    """
    # A benchmark that is stopped takes its server along; by itself SIGTERM would skip every "finally".
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "server.log"
        environment = {**os.environ, "STEADYOCR_DATA_DIR": folder, **(settings or {})}
        command = [*wrapper, *program, "serve", "--port", str(port)]
        with log.open("w") as stream:
            process = subprocess.Popen(command, env=environment, stderr=stream)
        server = Server(f"http://127.0.0.1:{port}", process.pid, log)
        try:
            _await_ready(server, process)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _await_ready(server: Server, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx.get(f"{server.url}/readyz", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise SystemExit(f"the server did not become ready:\n{server.log.read_text()}")


async def send(server: Server, client: httpx.AsyncClient, picture: bytes, timeout_s: float) -> httpx.Response | None:
    """Post one picture; ``None`` when the connection failed."""
    headers = {"X-Request-Timeout": f"{timeout_s:g}", "Content-Type": "application/octet-stream"}
    try:
        return await client.post(f"{server.url}/v1/ocr", content=picture, headers=headers)
    except httpx.TransportError:
        return None
