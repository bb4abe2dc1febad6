"""A stand-in for the engine process that misbehaves in one chosen way. Run as ``stub_worker.py MODE FD``."""

from __future__ import annotations

import os
import signal
import socket
import struct
import sys
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
    if mode == "warms up":
        send_blocking(channel, {"kind": "warming"})
    if mode == "says nonsense while starting":
        send_blocking(channel, {"kind": "ready", "golden": [], "rss_bytes": None})
    send_blocking(channel, {**READY, "golden": WRONG_GOLDEN} if mode == "misreads" else READY)
    while (frame := receive_blocking(channel)) is not None:
        message, payload = frame
        if message["kind"] == "stop":
            if mode == "ignores stop":
                signal.pause()
            return
        if message["kind"] == "ping":
            kind = "stage" if mode == "mixes things up" else "pong"
            send_blocking(channel, {"kind": kind, "id": 0, "rss_bytes": 5})
            continue
        answer(mode, channel, message["id"], bytes(payload))


def end_badly(mode: str, channel: socket.socket, item: int, payload: bytes) -> None:
    """End, or say something that is no answer and then nothing more."""
    match mode:
        case "grows and is killed":
            _grown = b"x" * int(payload)
            os.kill(os.getpid(), signal.SIGKILL)
        case "is killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "is killed by a signal without a name":
            os.kill(os.getpid(), 40)
        case "exits":
            sys.exit(7)
        case "sends garbage":
            channel.sendall(struct.pack(">II", 5, 0) + b"\0\1\2\3\4")
        case "announces too much":
            channel.sendall(b"\xff" * 8)
        case "leaves the stage out":
            send_blocking(channel, {"kind": "stage", "id": item})
        case "sends an error that is none":
            send_blocking(channel, {"kind": "error", "id": item, "error": ["no", "error"]})
        case _:
            return
    signal.pause()


def answer(mode: str, channel: socket.socket, item: int, payload: bytes) -> None:
    end_badly(mode, channel, item, payload)
    if mode == "has no memory":
        send_blocking(channel, {"kind": "error", "id": item, "error": NO_MEMORY})
        send_blocking(channel, {"kind": "idle", "id": item, "rss_bytes": 5, "peak_rss_bytes": 9})
        return
    if mode == "answers by half":
        channel.sendall(pack({"kind": "result", "id": item, "echo": ""}, 100) + b"half")
        sys.exit(0)
    send_blocking(channel, {"kind": "stage", "id": item, "stage": "decode"})
    send_blocking(channel, {"kind": "result", "id": item, "size": len(payload)}, payload[::-1])
    if mode == "reports no memory":
        send_blocking(channel, {"kind": "idle", "id": item, "rss_bytes": float("nan"), "peak_rss_bytes": []})
    if mode == "dies after its answer":
        sys.exit(0)
    send_blocking(channel, {"kind": "idle", "id": item, "rss_bytes": 5, "peak_rss_bytes": 9})


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[2])) as given:
        main(sys.argv[1], given)
