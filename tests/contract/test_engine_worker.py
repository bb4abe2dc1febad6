"""The engine's side of the wire, with a pipeline in our hand: faults, self-test, shortage of memory, signals."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from steadyocr.pipeline.golden import _known, golden_picture
from steadyocr.runtime import device
from steadyocr.runtime.base import DeviceMemoryError
from steadyocr.scheduling import worker as module
from steadyocr.scheduling.config import EngineConfig
from steadyocr.scheduling.housekeeping import Housekeeping
from steadyocr.scheduling.protocol import Message, receive_blocking, send_blocking
from steadyocr.scheduling.worker import Unsound, Worker
from steadyocr.types import ModelIdentity, OcrOptions
from support import PATIENCE_S, wait_until

MIB = 1 << 20
CONFIG = EngineConfig(detector="d", recogniser="r", scratch_bytes=1 << 40, memory_slack_bytes=32 * MIB)


class Pipeline:
    """Reads the golden picture right as long as its card lives; other pictures do what their bytes say."""

    builtin = True

    def __init__(self) -> None:
        self.models = {"detector": ModelIdentity("d", "0", "fake")}
        self.defaults = SimpleNamespace(model_dump=dict)
        self.card_is_dead = False
        self.golden_reads = 0
        self.released = 0
        self.on_release: Callable[[], None] = lambda: None

    def read(self, data: bytes, *_: Any, **__: Any) -> Any:
        if data == golden_picture():
            self.golden_reads += 1
        if data == b"kills the card":
            self.card_is_dead = True
        if self.card_is_dead:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        match data:
            case b"bug":
                raise RuntimeError("a fault of ours")
            case b"damages the models":
                self.models = {}
                raise RuntimeError("a fault of ours")
            case b"too much for the card":
                raise DeviceMemoryError("full")
        lines = _known()[1] if self.models else ()
        page = SimpleNamespace(lines=lines, to_wire=lambda: {"lines": len(lines)})
        return SimpleNamespace(page=page, overlay=None, parts={}, map_plan={})

    def release_memory(self) -> None:
        self.released += 1
        self.on_release()


class Front:
    """Speaks to a worker that runs in a thread."""

    def __init__(self, pipeline: Pipeline, config: EngineConfig) -> None:
        self.channel, theirs = socket.socketpair()
        self.channel.settimeout(20)
        self.ended_by: BaseException | None = None
        self.thread = threading.Thread(target=self._work, args=(theirs, config), name="worker")
        self.thread.start()
        self.started = [self.next() for _ in range(2)]

    def _work(self, channel: socket.socket, config: EngineConfig) -> None:
        with channel:
            try:
                Worker(channel, config).serve()
            except Unsound as error:
                self.ended_by = error

    def next(self) -> Message:
        frame = receive_blocking(self.channel)
        assert frame is not None, "the worker has ended"
        return frame[0]

    def send(self, payload: bytes, **extra: Any) -> None:
        header = {"kind": "run", "id": 7, "options": OcrOptions().to_wire(), "cap": None, **extra}
        send_blocking(self.channel, header, payload)

    def read(self, payload: bytes, **extra: Any) -> list[Message]:
        """All frames about one picture."""
        self.send(payload, **extra)
        frames = [self.next()]
        while frames[-1]["kind"] != "idle":
            frames.append(self.next())
        return frames

    def close(self) -> None:
        self.channel.close()
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()


@pytest.fixture
def pipeline() -> Pipeline:
    return Pipeline()


@pytest.fixture
def front(monkeypatch: pytest.MonkeyPatch, pipeline: Pipeline, tmp_path: Path) -> Iterator[Front]:
    monkeypatch.setattr(module, "_build_pipeline", lambda _: pipeline)
    front = Front(pipeline, CONFIG)
    yield front
    front.close()


def kinds(frames: list[Message]) -> list[str]:
    return [frame["kind"] for frame in frames]


def test_an_engine_says_that_its_models_are_loaded_before_it_warms_up(front: Front) -> None:
    assert kinds(front.started) == ["warming", "ready"]


def test_a_bug_in_one_picture_is_an_error_and_the_engine_goes_on(front: Front, pipeline: Pipeline) -> None:
    for _ in range(3):
        stage, error, _ = front.read(b"bug")
        assert (stage["kind"], stage["stage"]) == ("stage", "self_test")
        assert (error["kind"], error["error"]["code"]) == ("error", "internal")
    # One to start with, one for each fault, none for what works.
    assert kinds(front.read(b"good")) == ["result", "idle"]
    assert pipeline.golden_reads == 4


@pytest.mark.parametrize("picture", [b"kills the card", b"damages the models"])
def test_an_engine_that_fails_its_own_test_after_a_fault_ends_with_the_picture_in_hand(
    front: Front, picture: bytes
) -> None:
    front.send(picture)
    assert front.next()["stage"] == "self_test"
    # No answer: the front gives the picture to another engine.
    assert receive_blocking(front.channel) is None
    front.thread.join(PATIENCE_S)
    assert isinstance(front.ended_by, Unsound)


def test_shortage_in_the_self_test_is_no_reason_to_end(
    monkeypatch: pytest.MonkeyPatch, front: Front, pipeline: Pipeline
) -> None:
    read = pipeline.read

    def short_of_memory(data: bytes, *arguments: Any, **options: Any) -> Any:
        if data == golden_picture():
            raise DeviceMemoryError("full")
        return read(data, *arguments, **options)

    monkeypatch.setattr(pipeline, "read", short_of_memory)
    assert kinds(front.read(b"bug")) == ["stage", "error", "idle"]


@pytest.mark.parametrize(("comes_back", "trusted"), [(True, True), (False, False)])
@pytest.mark.parametrize("more_waits", [True, False])
def test_after_a_full_card_the_engine_looks_whether_its_memory_came_back(
    monkeypatch: pytest.MonkeyPatch, front: Front, pipeline: Pipeline, comes_back: bool, trusted: bool, more_waits: bool
) -> None:
    held = [0]
    monkeypatch.setattr(device, "held_bytes", lambda: held[0])
    assert not front.read(b"good")[-1]["allocation_failed"]
    before = pipeline.released

    def refuse(_: object) -> bool:
        # Between the shortage and the look: what the failed attempt took is still there, or is not.
        held[0] = 0 if comes_back else 500 * MIB
        return False

    monkeypatch.setattr(Housekeeping, "_may_stay_untidy", _watched(Housekeeping._may_stay_untidy, refuse))
    error, idle = front.read(b"too much for the card", keep_scratch=more_waits)
    assert error["error"]["code"] == "memory_pressure"
    assert not idle["untidy"]
    assert idle["allocation_failed"] is not trusted
    assert (pipeline.released > before) is not comes_back


def _watched(ask: Callable[..., bool], before: Callable[[object], bool]) -> Callable[..., bool]:
    def asked(self: object, message: Message) -> bool:
        untidy = ask(self, message)
        before(self)
        return untidy

    return asked


def test_a_signal_to_the_whole_group_does_not_end_an_engine_while_its_front_lives() -> None:
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "steadyocr.scheduling.worker", str(theirs.fileno())]
    with ours, theirs, subprocess.Popen(command, pass_fds=[theirs.fileno()]) as process:
        theirs.close()
        wait_until(lambda: _ignores(process.pid, signal.SIGTERM))
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(process.pid, number)
        ours.close()
        assert process.wait(PATIENCE_S) == 0


def _ignores(pid: int, number: signal.Signals) -> bool:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigIgn:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False
