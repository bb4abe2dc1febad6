"""An engine process that does everything once: the same picture with the same options is answered from memory.

What the tests of the page ask for again and again is read by a real engine the first time. Its frames are kept in the
folder REMEMBERED_ANSWERS, for all engines of a run of the tests, and a real engine is started only when something new
comes. Only the models of the package are remembered: whatever else has a name may be another model tomorrow.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import steadyocr
from steadyocr.scheduling.engine import WORKER_COMMAND, EngineProcess
from steadyocr.scheduling.protocol import Message, receive_blocking, send_blocking

FOLDER = "REMEMBERED_ANSWERS"
_BUILTIN = Path(steadyocr.__file__).parent / "models"
_Frame = tuple[Message, bytes]
# What names the asking, not what is asked for.
_PASSING = ("id", "request_id", "job_id", "keep_scratch")
_PLACES = ("cache_dir", "user_models")
_LAST = ("ready", "failed", "idle", "pong")


class Memory:
    """Answers by what was asked, in a folder that several processes share."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)

    def recall(self, key: str) -> list[_Frame] | None:
        try:
            frames: list[_Frame] = pickle.loads((self._folder / key).read_bytes())
        except FileNotFoundError:
            return None
        return frames

    @contextlib.contextmanager
    def one_at_a_time(self, key: str) -> Iterator[None]:
        """Let the engines that are asked the same at once wait for the first one."""
        with (self._folder / f"{key}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def keep(self, key: str, frames: list[_Frame]) -> None:
        unfinished = self._folder / f"{key}.{os.getpid()}"
        unfinished.write_bytes(pickle.dumps(frames))
        unfinished.replace(self._folder / key)


class RememberingEngine:
    """Stands between the front and a real engine, which it starts when there is need of one."""

    def __init__(self, front: socket.socket, configure: Message, memory: Memory) -> None:
        self._front = front
        self._configure = configure
        self._memory = memory
        self._real: socket.socket | None = None
        config = configure["config"]
        self._remembers = all((_BUILTIN / config[part]).is_dir() for part in ("detector", "recogniser"))
        self._config = {name: value for name, value in config.items() if name not in _PLACES}

    def _key(self, message: Message, payload: bytes) -> str:
        asked = {name: value for name, value in message.items() if name not in (*_PASSING, "config")}
        return hashlib.sha256(json.dumps([self._config, asked], sort_keys=True).encode() + payload).hexdigest()

    def answer(self, message: Message, payload: bytes = b"") -> None:
        if message["kind"] == "ping" and self._real is None:
            self._pass_on({"kind": "pong", "rss_bytes": self._configured["rss_bytes"]}, b"", message)
            return
        if not self._remembers:
            self._ask(message, payload)
            return
        key = self._key(message, payload)
        with self._memory.one_at_a_time(key):
            known = self._memory.recall(key)
            if known is None:
                self._memory.keep(key, self._ask(message, payload))
                return
        for frame, data in known:
            self._pass_on(frame, data, message)

    def _pass_on(self, frame: Message, data: bytes, asked: Message) -> None:
        if frame["kind"] == "ready":
            self._configured = frame
        mine: dict[str, Any] = {"pid": os.getpid()} if "pid" in frame else {}
        if "id" in asked:
            mine["id"] = asked["id"]
        send_blocking(self._front, frame | mine, data)

    def _ask(self, message: Message, payload: bytes) -> list[_Frame]:
        if self._real is None:
            self._real = self._start()
            first = self._listen(self._real, None)
            if message is self._configure:
                for frame, data in first:
                    self._pass_on(frame, data, message)
                return first
        send_blocking(self._real, message, payload)
        return self._listen(self._real, message)

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [*WORKER_COMMAND, str(theirs.fileno())]
            subprocess.Popen(command, pass_fds=[theirs.fileno()])  # ends when its channel closes, or with its parent
        send_blocking(ours, self._configure)
        return ours

    def _listen(self, real: socket.socket, message: Message | None) -> list[_Frame]:
        frames: list[_Frame] = []
        while not frames or frames[-1][0]["kind"] not in _LAST:
            received = receive_blocking(real)
            if received is None:
                sys.exit("the real engine has ended")
            frames.append((received[0], bytes(received[1])))
            if message is not None:
                self._pass_on(*frames[-1], message)
        return frames


def main() -> None:
    front = socket.socket(fileno=int(sys.argv[-1]))
    received = receive_blocking(front)
    if received is None:
        return
    engine = RememberingEngine(front, received[0], Memory(Path(os.environ[FOLDER])))
    engine.answer(received[0])
    while (received := receive_blocking(front)) is not None and received[0]["kind"] != "stop":
        engine.answer(received[0], bytes(received[1]))


def run_program() -> None:
    """Run the program with such engines: ``remembering_engine.py serve --port 0``."""
    from steadyocr.cli.main import main as program

    EngineProcess.__init__.__defaults__ = ((sys.executable, __file__),)
    program()


if __name__ == "__main__":
    # As an engine it is given nothing but the number of its channel.
    main() if sys.argv[1].isdigit() else run_program()
