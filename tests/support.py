"""What several test modules share: known pictures, other encodings of them, real servers, loops that do not wait."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec

import httpx
import numpy as np
import psutil
from PIL import Image

import forked
from steadyocr.errors import SteadyOCRError
from steadyocr.imaging.geometry import quad_iou

FIXTURES = Path(__file__).parent / "fixtures"
# The program with engines that need no models: they read what is written behind the end of a picture.
LIGHT = (sys.executable, str(Path(__file__).parent / "chaos" / "jobs" / "jobs_node.py"))
STEADYOCR = str(Path(sys.executable).with_name("steadyocr"))
_START_S = 60.0

P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class KnownPicture:
    """An encoded picture and the text lines in it, in reading order; their quads are the boxes of the ink."""

    data: bytes
    texts: list[str]
    quads: list[list[list[float]]]

    @property
    def image(self) -> Image.Image:
        return Image.open(io.BytesIO(self.data))

    def first_line(self) -> KnownPicture:
        """The same down to the end of its first line: a fifth of the work, and still its own text."""
        below = (self.quads[0][2][1] + self.quads[1][0][1]) / 2
        top = self.image.crop((0, 0, self.image.width, round(below)))
        return KnownPicture(encoded(top), self.texts[:1], self.quads[:1])


def known_picture(name: str) -> KnownPicture:
    lines = json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))
    data = (FIXTURES / f"{name}.png").read_bytes()
    return KnownPicture(data, [line["text"] for line in lines], [line["quad"] for line in lines])


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def texts_of(page: Mapping[str, Any]) -> list[str]:
    return [line["text"] for line in page["lines"]]


def quads_of(page: Mapping[str, Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array([line["quad"] for line in page["lines"]], np.float32).reshape(-1, 4, 2)


def overlaps(found: Any, known: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    """IoU of each quad with the one at the same place of the other list."""
    a, b = np.asarray(found, np.float32), np.asarray(known, np.float32)
    assert a.shape == b.shape
    return np.diag(quad_iou(a, b))


def without_times(page: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in page.items() if key not in ("timings_ms", "request_id")}


# On a busy machine everything takes longer; only a test that fails waits as long as this.
PATIENCE_S = 120.0


def wait_until(condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "the awaited condition did not come true"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def clean_environment(data_dir: Path, **settings: str) -> dict[str, str]:
    """This process's environment without anybody's settings, plus those given (``queue__max_size="2"``)."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("STEADYOCR_")}
    given = {f"STEADYOCR_{name.upper()}": value for name, value in settings.items()}
    # Measuring memory takes seconds at the first start in a folder; what tests that asks for it.
    usual = {"STEADYOCR_DATA_DIR": str(data_dir), "STEADYOCR_MEMORY__CALIBRATE": "false"}
    return {**inherited, **usual, **given}


def run_cli(
    *arguments: str, data_dir: Path, program: Sequence[str] = (STEADYOCR,), **settings: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*program, *arguments],
        env=clean_environment(data_dir, **settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def call_cli(*arguments: str, data_dir: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    """The same in this process, for commands that start nothing: a process of its own costs a second or two."""
    from typer.testing import CliRunner

    from steadyocr.cli.exit_codes import exit_code_of
    from steadyocr.cli.main import app

    unset = dict.fromkeys(name for name in os.environ if name.startswith("STEADYOCR_"))
    result = CliRunner().invoke(app, list(arguments), env={**unset, **clean_environment(data_dir, **settings)})
    error = result.exception
    if isinstance(error, SteadyOCRError):
        said = f"{result.stderr}steadyocr: {error.message} [{error.code}]\n"
        return subprocess.CompletedProcess(arguments, exit_code_of(error), result.stdout, said)
    if error is not None and not isinstance(error, SystemExit):
        raise error
    return subprocess.CompletedProcess(arguments, result.exit_code, result.stdout, result.stderr)


class RunningServer:
    """``steadyocr serve`` as a real process on a free port."""

    def __init__(
        self, data_dir: Path, settings: Mapping[str, str], program: Sequence[str] = (STEADYOCR,), *, port: int = 0
    ) -> None:
        self.process = forked.start(
            [*program, "serve", "--port", str(port)],
            env=clean_environment(data_dir, **{"logging__format": "json", "engines__threads": "2", **settings}),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read_log, name="server-log", daemon=True)
        self._reader.start()
        self.client = httpx.Client(timeout=60, trust_env=False)

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            for line in stream:
                with contextlib.suppress(ValueError):
                    self.log.append(json.loads(line))

    def find_log(self, message: str) -> dict[str, Any] | None:
        return next((entry for entry in list(self.log) if entry["message"] == message), None)

    def wait_ready(self) -> None:
        wait_until(lambda: self.find_log("Ready") or self.process.poll() is not None, _START_S)
        ready = self.find_log("Ready")
        assert ready is not None, self.log
        self.client.base_url = httpx.URL(ready["url"])

    @property
    def url(self) -> str:
        return str(self.client.base_url)

    @property
    def pid(self) -> int:
        return self.process.pid

    def engine_pid(self) -> int:
        pid: int = self.info()["engines"][0]["pid"]
        return pid

    def info(self) -> dict[str, Any]:
        info: dict[str, Any] = self.client.get("/v1/info").raise_for_status().json()
        return info

    def ocr(self, data: bytes, **options: Any) -> dict[str, Any]:
        answer = self.client.post("/v1/ocr", content=data, params=options)
        assert answer.status_code == 200, answer.text
        page: dict[str, Any] = answer.json()
        return page

    def close(self) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(PATIENCE_S)
        self._reader.join(5)


@contextlib.contextmanager
def running_server(
    data_dir: Path, program: Sequence[str] = (STEADYOCR,), *, port: int = 0, **settings: Any
) -> Iterator[RunningServer]:
    """Run a server; its port is a free one, unless one restarts where it was."""
    server = RunningServer(data_dir, settings, program, port=port)
    try:
        server.wait_ready()
        yield server
    finally:
        server.close()


class _SkippingSelector(selectors.DefaultSelector):
    """Never waits: when nothing is to be done before a moment, that moment is now."""

    def __init__(self) -> None:
        super().__init__()
        self.skipped_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "nothing will ever happen: the test waits for something that does not come"
        self.skipped_s += max(timeout, 0.0)
        return super().select(0)


class _SkippingLoop(asyncio.SelectorEventLoop):
    """An event loop on its own clock, which stands still while code runs and jumps while all of it waits."""

    def __init__(self) -> None:
        self._skipping = _SkippingSelector()
        super().__init__(self._skipping)

    def time(self) -> float:
        return 1000.0 + self._skipping.skipped_s


def without_waiting(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an async test on a fake clock. For tests without processes, threads and sockets."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with asyncio.Runner(loop_factory=_SkippingLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


def in_real_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an async test on the usual loop."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run
