"""The service as it is installed inside a booted systemd, and what a test does to it."""

from __future__ import annotations

import http.client
import signal
import sys
import textwrap
from pathlib import Path
from typing import Any

import httpx

from support import KnownPicture, texts_of
from systemd_box import Box

CHECKOUT = Path(__file__).parents[1]
UNIT, SOCKET = "steadyocr.service", "steadyocr.socket"
URL = "http://127.0.0.1:7860"
MEMORY_BYTES = 1500 << 20
WEBHOOK_PORT = 9099
# The shipped unit is tested as it is, but for the watchdog's patience.
WATCHDOG_S = 6
DROP_INS = Path("etc/systemd/system/steadyocr.service.d")
ALERT_DROP_INS = Path("etc/systemd/system/steadyocr-alert@.service.d")
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

    @property
    def main_pid(self) -> int:
        """As seen from inside."""
        return int(self.show("MainPID"))

    def kill(self, pid: int, number: signal.Signals) -> None:
        self.box.run("kill", f"-{number.name.removeprefix('SIG')}", str(pid))

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
