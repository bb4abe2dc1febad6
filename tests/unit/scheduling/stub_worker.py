"""A stand-in for the engine process that misbehaves in one chosen way. Run as ``stub_worker.py MODE FD``."""

from __future__ import annotations

import os
import signal
import socket
import struct
import sys
import time
from typing import Any

from steadyocr.scheduling.protocol import pack, receive_blocking, send_blocking

READY: dict[str, Any] = {
    "kind": "ready",
    "pid": os.getpid(),
    "golden": {"ok": True, "problem": ""},
    "rss_bytes": 1,
    "models": {},
}
WRONG_GOLDEN = {"ok": False, "problem": "2 lines found, 3 expected"}
MODEL_ERROR: dict[str, Any] = {"code": "model_corrupt", "message": "wrong hash", "retry_after_s": None, "details": {}}

NO_MEMORY: dict[str, Any] = {"code": "memory_pressure", "message": "short", "retry_after_s": None, "details": {}}


def main(mode: str, channel: socket.socket) -> None:
    receive_blocking(channel)
    if mode == "exits while starting":
        sys.exit(3)
    if mode == "silent while starting":
        signal.pause()
    if mode == "has no model":
        send_blocking(channel, {"kind": "failed", "error": MODEL_ERROR})
        return
    send_blocking(channel, {**READY, "golden": WRONG_GOLDEN} if mode == "misreads" else READY)
    while (frame := receive_blocking(channel)) is not None:
        message, payload = frame
        if message["kind"] == "stop":
            if mode == "ignores stop":
                signal.pause()
            return
        answer(mode, channel, message["id"], bytes(payload))


def answer(mode: str, channel: socket.socket, item: int, payload: bytes) -> None:
    if mode == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if mode == "exits":
        sys.exit(7)
    if mode == "sends garbage":
        channel.sendall(struct.pack(">II", 5, 0) + b"\0\1\2\3\4")
        time.sleep(60)
    if mode == "announces too much":
        channel.sendall(b"\xff" * 8)
        time.sleep(60)
    if mode == "has no memory":
        send_blocking(channel, {"kind": "error", "id": item, "error": NO_MEMORY})
        send_blocking(channel, {"kind": "idle", "id": item, "rss_bytes": 5, "peak_rss_bytes": 9})
        return
    if mode == "answers by half":
        channel.sendall(pack({"kind": "result", "id": item, "echo": ""}, 100) + b"half")
        sys.exit(0)
    send_blocking(channel, {"kind": "stage", "id": item, "stage": "decode"})
    send_blocking(channel, {"kind": "result", "id": item, "size": len(payload)}, payload[::-1])
    if mode == "dies after its answer":
        sys.exit(0)
    send_blocking(channel, {"kind": "idle", "id": item, "rss_bytes": 5, "peak_rss_bytes": 9})


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[2])) as given:
        main(sys.argv[1], given)
