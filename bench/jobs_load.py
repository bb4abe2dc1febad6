"""Large jobs and large uploads: how long until they are accepted, and what the front holds meanwhile."""

from __future__ import annotations

import io
import struct
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from bench.server import Server, running_server

_BOUNDARY = "between-two-files"
_FILE_BYTES = 16 << 20
_PIECE_BYTES = 1 << 18
_TIMEOUT_S = 1800.0


class Memory:
    """The front's resident memory while something happens."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)
        self.before_bytes = self.peak_bytes = server.front_rss_bytes()

    def _watch(self) -> None:
        while not self._end.wait(0.02):
            self.peak_bytes = max(self.peak_bytes, self._server.front_rss_bytes())

    @property
    def growth_mb(self) -> float:
        """By how much it grew at most."""
        return round((self.peak_bytes - self.before_bytes) / 1e6, 1)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look at it all the time."""
        self._thread.start()
        try:
            yield
        finally:
            self._end.set()
            self._thread.join()


def _tiny(number: int) -> bytes:
    """A picture of 16 x 16 grey pixels, all numbers different."""
    row = b"\0" + bytes([number % 251, number // 251 % 251, number // 63_001 % 251]) + bytes(13)
    parts = [(b"IHDR", struct.pack(">2I5B", 16, 16, 8, 0, 0, 0, 0)), (b"IDAT", zlib.compress(row * 16)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def measure_submit(items: int) -> dict[str, Any]:
    """Return what a job of many small pictures costs, as a form and as an archive."""
    figures: dict[str, Any] = {"items": items}
    pictures = [_tiny(n) for n in range(items)]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number, data in enumerate(pictures):
            archive.writestr(f"{number}.png", data)
    form = b"".join(_part(f"{n}.png") + data + b"\r\n" for n, data in enumerate(pictures))
    form += f"--{_BOUNDARY}--\r\n".encode()
    bodies = {
        "form": (form, f"multipart/form-data; boundary={_BOUNDARY}"),
        "zip": (packed.getvalue(), "application/zip"),
    }
    for name, (body, kind) in bodies.items():
        with running_server() as server, httpx.Client(base_url=server.url, timeout=_TIMEOUT_S) as client:
            memory = Memory(server)
            with memory.watched():
                started = time.perf_counter()
                answer = client.post("/v1/jobs", content=body, headers={"content-type": kind})
                took_s = time.perf_counter() - started
                assert answer.status_code == 202, answer.text
                if name == "zip":
                    await_total(client, answer.headers["location"], items + 1)
                    figures["zip_expanded_s"] = round(time.perf_counter() - started, 2)
                # What follows costs memory too: unpacking, the first items.
                time.sleep(5.0)
            client.post(f"{answer.headers['location']}/cancel").raise_for_status()
        figures |= {f"{name}_accepted_s": round(took_s, 2), f"{name}_front_growth_mb": memory.growth_mb}
    return figures


def await_total(client: httpx.Client, job: str, total: int) -> None:
    """Wait until an archive has become its items; it stays one itself."""
    end = time.monotonic() + _TIMEOUT_S
    while (found := client.get(job).raise_for_status().json()["total"]) != total:
        assert time.monotonic() < end, found
        time.sleep(0.02)


def _part(name: str) -> bytes:
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n'
    return f"{head}Content-Type: image/png\r\n\r\n".encode()


def measure_upload(megabytes: int) -> dict[str, Any]:
    """Return what an upload of many large files costs; the stream is made while it is sent."""
    files = max(1, (megabytes << 20) // _FILE_BYTES)
    with running_server() as server, httpx.Client(base_url=server.url, timeout=_TIMEOUT_S) as client:
        memory = Memory(server)
        with memory.watched():
            started = time.perf_counter()
            kind = f"multipart/form-data; boundary={_BOUNDARY}"
            answer = client.post("/v1/jobs", content=_large(files), headers={"content-type": kind})
            took_s = time.perf_counter() - started
        assert answer.status_code == 202, answer.text
        total = client.get(answer.headers["location"]).json()["total"]
        client.post(f"{answer.headers['location']}/cancel").raise_for_status()
    return {
        "megabytes": files * _FILE_BYTES >> 20,
        "files": files,
        "items": total,
        "seconds": round(took_s, 1),
        "front_growth_mb": memory.growth_mb,
    }


def _large(files: int) -> Iterator[bytes]:
    """Go through a form of files that begin like pictures and go on like noise."""
    noise = bytes(range(256)) * (_PIECE_BYTES // 256)
    for number in range(files):
        yield _part(f"{number}.png")
        head = _tiny(number)
        yield head
        left = _FILE_BYTES - len(head)
        while left > 0:
            yield noise[: min(left, _PIECE_BYTES)]
            left -= _PIECE_BYTES
        yield b"\r\n"
    yield f"--{_BOUNDARY}--\r\n".encode()
