"""The installed units under a real systemd, while nothing goes wrong but what people do."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import stat
import sys
import time
from collections import Counter

import httpx
import pytest

from steadyocr.api import server
from steadyocr.ops.systemd.plan import Wishes, make_plan
from steadyocr.ops.systemd.units import _devices
from steadyocr.settings import load_settings
from support import KnownPicture, texts_of, wait_until
from systemd_box import timed
from systemd_service import (
    CHECKOUT,
    INSTALL,
    KEY,
    MEMORY_BYTES,
    SOCKET,
    UNIT,
    URL,
    Installed,
    outcome_of,
    told_of,
    webhook_in,
)

pytestmark = pytest.mark.chaos

# Less than reading a picture takes.
ROOM_BYTES = 8 << 20
USER = "daemon"
# The device number of /dev/zero.
ZERO = (1, 5)


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
    again = service.cli(*INSTALL)
    assert again.count("unchanged") == 3
    assert service.main_pid == pid


def test_its_sandbox_keeps_it_in_its_folders_and_shows_it_its_limits(service: Installed) -> None:
    # A checkout below /tmp is out of the sandbox's sight.
    probe = service.box.root / "opt" / "sandbox_probe.py"
    probe.parent.mkdir(exist_ok=True)
    shutil.copyfile(CHECKOUT / "tests" / "systemd" / "sandbox_probe.py", probe)
    # A stand-in for a graphics card, with what the units of a machine that has one say about it.
    os.mknod(service.box.root / "dev/nvidia0", stat.S_IFCHR, os.makedev(*ZERO))
    (service.box.root / "dev/nvidia0").chmod(0o666)
    card = "\n".join(_devices(make_plan(load_settings({"engines": {"device": "cuda"}}, environ={})[0], Wishes())))
    # As a user that stays: one that systemd makes up brings half of the sandbox along, whatever the unit says.
    # In the main process: only that one gets the credentials.
    command = f"{sys.executable} /opt/sandbox_probe.py && exec {sys.executable} -m steadyocr serve"
    service.drop_in(f"[Service]\nDynamicUser=no\nUser={USER}\nExecStart=\nExecStart=/bin/sh -c '{command}'\n{card}\n")
    service.systemctl("restart", UNIT)
    found = json.loads((service.box.root / "var/lib/steadyocr/probe.json").read_text())
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
    assert found["stands_back"] == "", "training and exports do"
    assert found["uid"] == pwd.getpwnam(USER).pw_uid
    assert (found["CapEff"], found["NoNewPrivs"], found["Seccomp"]) == ("0000000000000000", "1", "2")
    assert found["card"] == "00"
    assert found["devices"] == ["full", "null", "nvidia0", "random", "tty", "urandom", "zero"]
    assert found["channels"] == ["hook"]
    assert found["channels_file"] == "Permission denied"
    assert found["environment_file"] == "Permission denied", "keys are handed over, not left to be read"


def test_an_engine_over_the_memory_limit_is_replaced_and_the_service_lives(
    service: Installed, english: KnownPicture
) -> None:
    """What kills it is the kernel; with control groups v1 systemd does not hear of it (``OOMPolicy=``)."""
    service.reads(english)
    before, (engine,) = service.main_pid, service.info()["engines"]
    service.kill(engine["pid"], signal.SIGSTOP)
    pending = service.box.in_network(
        httpx.post, f"{URL}/v1/ocr", content=english.data, timeout=60, trust_env=False, headers=KEY
    )
    wait_until(lambda: service.info()["engines"][0]["state"] == "busy")
    # It has its picture, and now there is no room for what reading takes.
    service.limit_memory(service.memory_held() + ROOM_BYTES)
    try:
        service.kill(engine["pid"], signal.SIGCONT)
        wait_until(lambda: engine["pid"] not in service.children())
    finally:
        service.limit_memory(MEMORY_BYTES)
    assert service.main_pid == before, "the engine is killed, and nobody else"
    # Its successor reads the picture.
    answer = pending.result(90)
    assert answer.status_code == 200, answer.text
    assert texts_of(answer.json()) == english.texts
    records = list((service.box.root / "var/lib/private/steadyocr/flight").glob("flight-*.json"))
    assert any('"out_of_memory"' in record.read_text() for record in records), records
    assert (service.main_pid, service.show("ActiveState")) == (before, "active")


# It has seen the pressure, and would take new pictures again only after a while: what follows starts it anew.
def test_a_start_that_takes_longer_than_its_limit_is_given_time_while_models_load(service: Installed) -> None:
    # The whole of an unhindered start is enough to get as far as to where models load.
    start_s = service.seconds("ExecMainStartTimestampMonotonic", "ActiveEnterTimestampMonotonic") + 2
    service.drop_in(f"[Service]\nTimeoutStartSec={start_s:.1f}\n")
    service.systemctl("--no-block", "restart", UNIT)
    wait_until(lambda: service.show("StatusText") == "loading models" and len(service.children()) > 0)
    pid, engines = service.main_pid, service.children()
    for engine in engines:
        service.kill(engine, signal.SIGSTOP)
    limit_at = int(service.show("ExecMainStartTimestampMonotonic")) / 1e6 + start_s
    wait_until(lambda: time.monotonic() > limit_at + 1, start_s + 30)
    assert service.show("ActiveState") == "activating"
    for engine in engines:
        service.kill(engine, signal.SIGCONT)
    wait_until(lambda: service.show("ActiveState") == "active")
    assert service.main_pid == pid
    service.without_drop_ins()


def test_a_reload_keeps_the_process_and_refuses_wrong_settings(service: Installed) -> None:
    pid, settings = service.main_pid, service.box.root / "var/lib/private/steadyocr/steadyocr.toml"
    settings.write_text('[queue]\nmax_size = 7\n[logging]\nlevel = "warning"\n')
    settings.chmod(0o644)
    service.systemctl("reload", UNIT)
    wait_until(lambda: service.show("StatusText").endswith("; to be restarted for: queue"))
    settings.write_text("[queue]\nmax_size = 0\n")
    service.systemctl("reload", UNIT)
    wait_until(lambda: "the new settings cannot be used" in service.show("StatusText"))
    settings.unlink()
    assert service.main_pid == pid
    assert service.show("ActiveState") == "active"


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


def test_a_restart_under_load_refuses_and_drops_nothing(service: Installed, english: KnownPicture) -> None:
    before = service.main_pid
    outcomes: Counter[str] = Counter()
    over: list[bool] = []
    starts_s: list[float] = []

    def keep_asking(method: str, path: str, body: bytes | None) -> None:
        while not over:
            outcomes[f"{path} {outcome_of(method, path, body)}"] += 1

    askers = [service.box.in_network(keep_asking, "GET", "/readyz", None) for _ in range(6)]
    askers += [service.box.in_network(keep_asking, "POST", "/v1/ocr", english.data) for _ in range(2)]
    try:
        for _ in range(2):
            busy_at = outcomes.total() + 40
            wait_until(lambda busy_at=busy_at: outcomes.total() >= busy_at)  # type: ignore[misc]
            service.systemctl("restart", UNIT)
            pid = service.main_pid
            assert pid != before
            before = pid
            starts_s.append(service.seconds("ExecMainStartTimestampMonotonic", "ActiveEnterTimestampMonotonic"))
    finally:
        over.append(True)
    for asker in askers:
        asker.result(90)
    allowed = {"/readyz 200", "/v1/ocr 200"}
    if max(starts_s) > server._QUIET_START_S:
        # Whoever has waited for so long is told to come again; on so slow a machine that is what is promised.
        allowed |= {"/readyz 503", "/v1/ocr 503"}
    assert set(outcomes) <= allowed, (outcomes, starts_s)


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


def test_wrong_settings_fail_at_once_instead_of_looping(service: Installed) -> None:
    with webhook_in(service.box) as heard:
        service.drop_in("[Service]\nEnvironment=STEADYOCR_QUEUE__MAX_SIZE=0\n")
        service.systemctl("restart", UNIT, check=False)
        wait_until(lambda: service.show("ActiveState") == "failed")
        assert (service.show("NRestarts"), service.show("ExecMainStatus")) == ("0", "4")
        assert "queue.max_size" in service.journal()
        # The shipped alert unit, in its own sandbox, reads its channels and tells somebody.
        wait_until(lambda: told_of(f"{UNIT} failed", heard))
    assert told_of(f"{UNIT} failed", heard) == 1


def test_an_uninstalled_service_leaves_its_state_only(service: Installed) -> None:
    service.cli("systemd", "uninstall")
    root = service.box.root
    assert [path for path in (root / "etc/systemd/system").glob("steadyocr*") if path.is_file()] == []
    assert service.main_pid == 0
    assert (root / "var/lib/private/steadyocr").is_dir()
    assert "nothing to remove" in service.cli("systemd", "uninstall")
    # For whoever comes next.
    service.cli(*INSTALL)
    assert service.show("ActiveState") == "active"
