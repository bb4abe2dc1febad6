"""An engine process without models: it starts at once and reads what is written behind the end of a picture.

``#item:NAME`` is read as NAME after some milliseconds; ``#poison:NAME`` ends the process. With a folder in
LIGHT_ENGINE_TURNS each NAME is written to its file ``seen`` first, and then a byte from its pipe ``turns`` waited for.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import time
from pathlib import Path

from steadyocr.scheduling.protocol import Message, receive_blocking, send_blocking

_MARK = re.compile(rb"#(item|poison):([\w.-]+)$")
WORK_S = float(os.environ.get("LIGHT_ENGINE_WORK_S", "0.02"))
TURNS = os.environ.get("LIGHT_ENGINE_TURNS")
RSS_BYTES = 100 << 20


def read(payload: bytes) -> Message:
    found = _MARK.search(payload[-64:])
    if found is not None and found[1] == b"poison":
        os.kill(os.getpid(), signal.SIGSEGV)
    if TURNS is not None and found is not None:
        wait_turn(Path(TURNS), found[2])
    time.sleep(WORK_S)
    return {"page": {"text": found[2].decode() if found else "", "lines": []}}


def wait_turn(folder: Path, name: bytes) -> None:
    with (folder / "seen").open("ab") as seen:
        seen.write(name + b"\n")
    with (folder / "turns").open("rb", buffering=0) as turns:
        turns.read(1)


def answer(message: Message, payload: bytes) -> Message:
    golden = {"ok": True, "problem": "", "yardstick": "known"}
    match message["kind"]:
        case "run":
            return {"kind": "result", **read(payload)}
        case "golden":
            return {"kind": "result", "golden": golden}
        case "configure":
            models = {"detector": {"name": "light", "sha256": "", "backend": "none"}}
            return {"kind": "ready", "models": models, "defaults": {}, "golden": golden, "memory_fit": None}
        case _:
            return {"kind": "pong"}


def main() -> None:
    channel = socket.socket(fileno=int(sys.argv[-1]))
    while (frame := receive_blocking(channel)) is not None:
        message, payload = frame
        if message["kind"] == "stop":
            return
        facts = {"pid": os.getpid(), "rss_bytes": RSS_BYTES, "start_ms": 1, "id": message.get("id")}
        send_blocking(channel, facts | answer(message, bytes(payload)))
        if message["kind"] not in ("configure", "ping"):
            send_blocking(channel, {"kind": "idle", **facts, "peak_rss_bytes": RSS_BYTES})


if __name__ == "__main__":
    main()
