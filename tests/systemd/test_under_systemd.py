"""The installed units under a real systemd: what is promised is done to a live service."""

from __future__ import annotations

import http.client
import http.server
import json
import shutil
import signal
import socket
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support import KnownPicture, texts_of, wait_until
from systemd_box import booted, timed, why_not
from systemd_service import (
    ALERT_DROP_INS,
    CHECKOUT,
    DROP_INS,
    ENVIRONMENT,
    KEY,
    MEMORY_BYTES,
    SOCKET,
    UNIT,
    URL,
    WATCHDOG_S,
    WEBHOOK_PORT,
    Installed,
    outcome_of,
    shown_folders,
)

pytestmark = pytest.mark.chaos


@pytest.fixture(scope="module")
def installed() -> Iterator[Installed]:
    if reason := why_not():
        pytest.skip(f"no systemd can be booted here: {reason}")
    with booted(shown_folders()) as box:
        service = Installed(box)
        (box.root / "etc/steadyocr").mkdir()
        (box.root / "etc/steadyocr/environment").write_text(ENVIRONMENT)
        (box.root / "etc/steadyocr/environment").chmod(0o600)
        (box.root / DROP_INS).mkdir(parents=True)
        (box.root / DROP_INS / "short.conf").write_text(f"[Service]\nWatchdogSec={WATCHDOG_S}\n")
        service.cli("systemd", "install", "--memory", str(MEMORY_BYTES), "--cpus", "1")
        yield service


@pytest.fixture
def service(installed: Installed) -> Iterator[Installed]:
    installed.systemctl("reset-failed", UNIT)
    yield installed
    installed.restore()


def test_an_installed_service_is_ready_and_says_so(service: Installed, english: KnownPicture) -> None:
    assert service.show("ActiveState") == "active"
    assert service.show("StatusText").startswith("ready: 1 of 1 engines up")
    assert service.systemctl("is-enabled", UNIT, SOCKET).split() == ["enabled", "enabled"]
    service.reads(english)

    info = service.info()
    assert info["memory"]["budget_bytes"] == MEMORY_BYTES, "the service reads its own limit"
    # One CPU by quota, so one thread, however many cores the machine shows.
    assert "1 x 1 engine threads" in service.systemctl("cat", UNIT)
    assert int(service.show("TasksMax")) > int(service.show("TasksCurrent")) > 2

    pid = service.main_pid
    again = service.cli("systemd", "install", "--memory", str(MEMORY_BYTES), "--cpus", "1")
    assert again.count("unchanged") == 3
    assert service.main_pid == pid


def test_its_sandbox_keeps_it_in_its_folders_and_shows_it_its_limits(service: Installed) -> None:
    # A checkout below /tmp is out of the sandbox's sight.
    probe = service.box.root / "opt" / "sandbox_probe.py"
    probe.parent.mkdir(exist_ok=True)
    shutil.copyfile(CHECKOUT / "tests" / "systemd" / "sandbox_probe.py", probe)
    service.drop_in(
        f"""
        [Service]
        ExecStartPost={sys.executable} /opt/sandbox_probe.py
        """
    )
    service.systemctl("restart", UNIT)
    found = json.loads((service.box.root / "var/lib/private/steadyocr/probe.json").read_text())
    assert found["written"] == {
        "/etc": "Read-only file system",
        "/usr": "Read-only file system",
        "/var": "Read-only file system",
        "/var/lib": "Read-only file system",
        "/": "Read-only file system",
        "/var/lib/steadyocr": "",
        "/tmp": "",
    }
    assert not (service.box.root / "tmp/probe").exists(), "its temporary folder is its own"
    assert found["home"] == [], "what lies in a home folder is not seen"
    assert found["memory_limit_bytes"] == MEMORY_BYTES
    assert found["cpu_quota"] == 1.0
    assert found["meminfo"]
    assert found["uid"] != 0
    assert (found["CapEff"], found["NoNewPrivs"], found["Seccomp"]) == ("0000000000000000", "1", "2")
    assert found["environment_file"] == "Permission denied", "keys are handed over, not left to be read"


def test_a_killed_service_is_back_and_nobody_was_refused(service: Installed, english: KnownPicture) -> None:
    before, restarts = service.main_pid, int(service.show("NRestarts"))
    service.kill(before, signal.SIGKILL)
    # The socket keeps what comes now until the successor is there.
    service.reads(english)
    assert service.main_pid not in (0, before)
    assert int(service.show("NRestarts")) == restarts + 1


def test_a_stopped_service_is_ended_by_the_watchdog(service: Installed, english: KnownPicture) -> None:
    before = service.main_pid
    service.kill(before, signal.SIGSTOP)
    service.reads(english)
    assert service.main_pid not in (0, before)
    assert "Watchdog timeout" in service.journal()


def test_a_hung_engine_stops_the_feeding(service: Installed, english: KnownPicture) -> None:
    """The front runs well, but nothing gets done: that is not alive. Its own supervisor is far more patient here."""
    service.reads(english)
    front, (engine,) = service.main_pid, service.info()["engines"]
    service.kill(engine["pid"], signal.SIGSTOP)
    wait_until(lambda: service.main_pid not in (0, front), 60)
    service.reads(english)


def test_an_idle_service_proves_its_life_by_the_golden_picture(service: Installed) -> None:
    pid = service.main_pid
    done = service.info()["queue"]["completed"]
    # Nobody asks for a picture for longer than the watchdog waits.
    wait_until(lambda: service.info()["queue"]["completed"] >= done + 5, 60)
    assert service.main_pid == pid


def test_a_hog_is_killed_at_the_memory_limit_and_the_service_lives(service: Installed, english: KnownPicture) -> None:
    service.reads(english)
    before = service.main_pid
    hog = service.box.run(
        Path(sys.executable),
        CHECKOUT / "tests/systemd/memory_hog.py",
        service.show("ControlGroup"),
        str(2 * MEMORY_BYTES),
        check=False,
    )
    assert hog.returncode == -signal.SIGKILL, (hog.returncode, hog.stdout, hog.stderr)
    assert int(hog.stdout.split()[-1]) < MEMORY_BYTES, "killed before it had what it asked for"
    # It may have seen the pressure, and then it takes new pictures again only after a while.
    assert service.request("GET", "/readyz").status_code == 200
    assert service.main_pid == before
    service.systemctl("restart", UNIT)


def test_a_stop_lets_the_request_in_flight_finish(service: Installed, english: KnownPicture) -> None:
    service.reads(english)
    before, (engine,) = service.main_pid, service.info()["engines"]
    service.kill(engine["pid"], signal.SIGSTOP)
    pending = service.box.in_network(
        httpx.post, f"{URL}/v1/ocr", content=english.data, timeout=60, trust_env=False, headers=KEY
    )
    wait_until(lambda: service.info()["engines"][0]["state"] == "busy")
    service.systemctl("--no-block", "restart", UNIT)
    wait_until(lambda: service.show("ActiveState") == "deactivating")
    assert service.show("StatusText") == "finishing what was accepted"
    service.kill(engine["pid"], signal.SIGCONT)
    answer = pending.result(60)
    assert answer.status_code == 200, answer.text
    assert texts_of(answer.json()) == english.texts
    service.reads(english)
    assert service.main_pid not in (0, before)
    assert service.show("Result") == "success"


def test_a_stop_ends_by_itself_although_an_engine_hangs(service: Installed, english: KnownPicture) -> None:
    (engine,) = service.info()["engines"]
    service.kill(engine["pid"], signal.SIGSTOP)
    pending = service.box.in_network(
        httpx.post, f"{URL}/v1/ocr", content=english.data, timeout=60, trust_env=False, headers=KEY
    )
    wait_until(lambda: service.info()["engines"][0]["state"] == "busy")
    limit_s = int(service.show("TimeoutStopUSec").removesuffix("s"))
    took_s = timed(lambda: service.systemctl("stop", SOCKET, UNIT))
    assert took_s < limit_s
    assert service.show("Result") == "success", "it was not killed for being late"
    answer = pending.result(60)
    assert (answer.status_code, answer.json()["code"]) == (503, "cancelled")


def test_a_restart_under_load_refuses_and_drops_nothing(service: Installed, english: KnownPicture) -> None:
    before = service.main_pid
    outcomes: Counter[str] = Counter()
    over: list[bool] = []

    def keep_asking(method: str, path: str, body: bytes | None) -> None:
        while not over:
            outcomes[f"{path} {outcome_of(method, path, body)}"] += 1

    askers = [service.box.in_network(keep_asking, "GET", "/readyz", None) for _ in range(6)]
    askers += [service.box.in_network(keep_asking, "POST", "/v1/ocr", english.data) for _ in range(2)]
    try:
        for _ in range(2):
            busy_at = outcomes.total() + 100
            wait_until(lambda busy_at=busy_at: outcomes.total() >= busy_at)  # type: ignore[misc]
            service.systemctl("restart", UNIT)
            pid = service.main_pid
            assert pid != before
            before = pid
    finally:
        over.append(True)
    for asker in askers:
        asker.result(90)
    assert set(outcomes) == {"/readyz 200", "/v1/ocr 200"}, outcomes


def test_a_reload_keeps_the_process_and_refuses_wrong_settings(service: Installed) -> None:
    pid, settings = service.main_pid, service.box.root / "var/lib/private/steadyocr/steadyocr.toml"
    settings.write_text('[queue]\nmax_size = 7\n[logging]\nlevel = "warning"\n')
    settings.chmod(0o644)
    service.systemctl("reload", UNIT)
    wait_until(lambda: service.show("StatusText") == "settings read again; to be restarted for: queue")
    settings.write_text("[queue]\nmax_size = 0\n")
    service.systemctl("reload", UNIT)
    wait_until(lambda: service.show("StatusText").startswith("the new settings cannot be used"))
    settings.unlink()
    assert service.main_pid == pid
    assert service.show("ActiveState") == "active"


def test_a_crash_loop_ends_in_failed_and_one_alert(service: Installed) -> None:
    service.drop_in(
        """
        [Service]
        ExecStart=
        ExecStart=/bin/sh -c 'echo start >> ${STATE_DIRECTORY}/starts; exit 1'
        """
    )
    state = service.box.root / "var/lib/private/steadyocr"
    starts, alerts = state / "starts", state / "alerts"
    service.drop_in(
        """
        [Service]
        ExecStart=
        ExecStart=/bin/sh -c 'echo %i >> ${STATE_DIRECTORY}/alerts'
        """,
        ALERT_DROP_INS,
    )
    service.systemctl("restart", UNIT, check=False)
    wait_until(lambda: service.show("ActiveState") == "failed", 60)
    assert "Start request repeated too quickly" in service.journal()
    assert len(starts.read_text().splitlines()) == 5
    wait_until(alerts.exists)

    # Who connects, or starts it by hand, does not raise it again.
    with socket.socket() as client:
        service.box.in_network(client.connect_ex, ("127.0.0.1", 7860)).result(10)
    service.systemctl("start", UNIT, check=False)
    wait_until(lambda: service.show("ActiveState", SOCKET) == "failed")
    wait_until(lambda: not service.systemctl("list-jobs", "--no-legend"))
    assert alerts.read_text() == f"{UNIT}\n"


def test_wrong_settings_fail_at_once_instead_of_looping(service: Installed) -> None:
    heard: list[bytes] = []

    class Webhook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    webhook = service.box.in_network(http.server.HTTPServer, ("127.0.0.1", WEBHOOK_PORT), Webhook).result(10)
    listening = threading.Thread(target=webhook.serve_forever, name="webhook")
    listening.start()
    try:
        service.drop_in("[Service]\nEnvironment=STEADYOCR_QUEUE__MAX_SIZE=0\n")
        channel = f"STEADYOCR_ALERTS__CHANNELS=json://127.0.0.1:{WEBHOOK_PORT}/"
        service.drop_in(f"[Service]\nEnvironment={channel}\n", ALERT_DROP_INS)
        service.systemctl("restart", UNIT, check=False)
        wait_until(lambda: service.show("ActiveState") == "failed")
        assert (service.show("NRestarts"), service.show("ExecMainStatus")) == ("0", "4")
        assert "queue.max_size" in service.journal()
        # The shipped alert unit, in its own sandbox, tells somebody.
        wait_until(lambda: heard, 60)
    finally:
        webhook.shutdown()
        listening.join()
        webhook.server_close()
    (told,) = heard
    assert f"{UNIT} failed" in told.decode()


def test_an_uninstalled_service_leaves_its_state_only(service: Installed) -> None:
    service.cli("systemd", "uninstall")
    root = service.box.root
    assert [path for path in (root / "etc/systemd/system").glob("steadyocr*") if path.is_file()] == []
    assert service.main_pid == 0
    assert (root / "var/lib/private/steadyocr").is_dir()
    assert "nothing to remove" in service.cli("systemd", "uninstall")
    # For whoever comes next.
    service.cli("systemd", "install", "--memory", str(MEMORY_BYTES), "--cpus", "1")
    assert service.show("ActiveState") == "active"
