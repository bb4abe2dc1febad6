"""The service as it is installed inside a booted systemd, and what a test does to it."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import signal
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ci_must import skip_or_fail
from support import KnownPicture, texts_of
from systemd_box import Box, booted, why_not

CHECKOUT = Path(__file__).parents[1]
UNIT, SOCKET = "steadyocr.service", "steadyocr.socket"
URL = "http://127.0.0.1:7860"
MEMORY_BYTES = 1500 << 20
WEBHOOK_PORT = 9099
DROP_INS = Path("etc/systemd/system/steadyocr.service.d")
ALERT_DROP_INS = Path("etc/systemd/system/steadyocr-alert@.service.d")
CHANNELS_FILE = Path("/etc/steadyocr/alert channels")
INSTALL = ("systemd", "install", "--memory", str(MEMORY_BYTES), "--cpus", "1", "--channels-file", str(CHANNELS_FILE))
ENVIRONMENT = """
STEADYOCR_MEMORY__CALIBRATE=false
STEADYOCR_ENGINES__COUNT=1
STEADYOCR_SERVER__DRAIN_TIMEOUT_S=3
STEADYOCR_AUTH__API_KEYS="for the operator"
"""
KEY = {"X-API-Key": "for the operator"}


def shown_folders() -> list[Path]:
    needed = sorted({CHECKOUT, Path(sys.prefix), Path(sys.base_prefix)} - {Path("/usr")})
    return [path for path in needed if not any(other in path.parents for other in needed)]


def outcome_of(method: str, path: str, body: bytes | None) -> str:
    """Status, or how it failed, of a request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", 7860, timeout=60)
    try:
        connection.request(method, path, body, KEY)
        return str(connection.getresponse().status)
    except (OSError, http.client.HTTPException) as error:
        return repr(error)
    finally:
        connection.close()


class Installed:
    """The service inside the box."""

    def __init__(self, box: Box) -> None:
        self.box = box

    def cli(self, *arguments: str) -> str:
        return self.box.run(Path(sys.executable), "-m", "steadyocr", *arguments).stdout

    def systemctl(self, *arguments: str, check: bool = True) -> str:
        return self.box.run("systemctl", *arguments, check=check).stdout.strip()

    def show(self, name: str, unit: str = UNIT) -> str:
        return self.systemctl("show", "--value", "--property", name, unit)

    def seconds(self, begin: str, end: str) -> float:
        """Between two of systemd's time stamps."""
        return (int(self.show(end)) - int(self.show(begin))) / 1e6

    @property
    def main_pid(self) -> int:
        """As seen from inside."""
        return int(self.show("MainPID"))

    def kill(self, pid: int, number: signal.Signals) -> None:
        self.box.run("kill", f"-{number.name.removeprefix('SIG')}", str(pid))

    def children(self) -> list[int]:
        """Processes that the main process started, as seen from inside."""
        main = str(self.main_pid)
        children = self.box.root / "proc" / main / "task" / main / "children"
        return [int(pid) for pid in children.read_text().split()] if main != "0" else []

    def memory_held(self) -> int:
        """Bytes of the whole unit that cannot be given back."""
        group = self.show("ControlGroup").lstrip("/")
        mounts = [self.box.root / "sys/fs/cgroup/memory", self.box.root / "sys/fs/cgroup"]
        text = next(path / group / "memory.stat" for path in mounts if (path / group / "memory.stat").exists())
        numbers = dict(line.split() for line in text.read_text().splitlines())
        return int(numbers.get("total_rss") or numbers["anon"])

    def limit_memory(self, limit: int) -> None:
        self.systemctl("set-property", "--runtime", UNIT, f"MemoryMax={limit}")

    def journal(self) -> str:
        return self.box.run("journalctl", "--no-pager", "--output=cat", "--unit", UNIT).stdout

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        call = self.box.in_network(
            httpx.request, method, URL + path, timeout=60, trust_env=False, headers=KEY, **options
        )
        return call.result(90)

    def info(self) -> dict[str, Any]:
        info: dict[str, Any] = self.request("GET", "/v1/info").raise_for_status().json()
        return info

    def reads(self, picture: KnownPicture) -> None:
        answer = self.request("POST", "/v1/ocr", content=picture.data)
        assert answer.status_code == 200, answer.text
        assert texts_of(answer.json()) == picture.texts

    def drop_in(self, text: str, folder: Path = DROP_INS) -> None:
        (self.box.root / folder).mkdir(exist_ok=True)
        (self.box.root / folder / "scenario.conf").write_text(textwrap.dedent(text))
        self.systemctl("daemon-reload")

    def without_drop_ins(self) -> None:
        for folder in (DROP_INS, ALERT_DROP_INS):
            (self.box.root / folder / "scenario.conf").unlink(missing_ok=True)
        self.systemctl("daemon-reload")

    def restore(self) -> None:
        if self.show("DropInPaths").find("scenario.conf") >= 0 or self.show("ActiveState") != "active":
            self.without_drop_ins()
            self.systemctl("reset-failed")
            self.systemctl("stop", UNIT)
            self.systemctl("start", SOCKET, UNIT)
        # Starts of earlier tests do not count towards the limit.
        self.systemctl("reset-failed", UNIT)


def told_of(what: str, heard: list[str]) -> int:
    """How many of the notices say something; on a slow machine there may be others."""
    return sum(what in notice for notice in heard)


@contextlib.contextmanager
def webhook_in(box: Box) -> Iterator[list[str]]:
    """Where the alert channel of :data:`CHANNELS_FILE` leads, inside the box; yields what it hears."""
    heard: list[str] = []

    class Webhook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = box.in_network(http.server.HTTPServer, ("127.0.0.1", WEBHOOK_PORT), Webhook).result(10)
    listening = threading.Thread(target=server.serve_forever, args=(0.02,), name="webhook")
    listening.start()
    try:
        yield heard
    finally:
        server.shutdown()
        listening.join()
        server.server_close()


@pytest.fixture(scope="module")
def installed(request: pytest.FixtureRequest) -> Iterator[Installed]:
    """The shipped unit as it is, but for what the module's ``SHORTER`` says."""
    if reason := why_not():
        skip_or_fail(f"no systemd can be booted here: {reason}")
    with booted(shown_folders()) as box:
        service = Installed(box)
        (box.root / "etc/steadyocr").mkdir()
        secrets = {
            "etc/steadyocr/environment": ENVIRONMENT,
            str(CHANNELS_FILE)[1:]: f"hook = json://127.0.0.1:{WEBHOOK_PORT}/\n",
        }
        for name, text in secrets.items():
            (box.root / name).write_text(text)
            (box.root / name).chmod(0o600)
        (box.root / DROP_INS).mkdir(parents=True)
        # Its name comes first, so that a scenario may say otherwise.
        (box.root / DROP_INS / "00-shorter.conf").write_text(getattr(request.module, "SHORTER", ""))
        service.cli(*INSTALL)
        yield service


@pytest.fixture
def service(installed: Installed) -> Installed:
    # Before and not after: what the last test of a module leaves goes with the box.
    installed.restore()
    return installed
