"""The installed units under a real systemd, while the service is killed, hung and starved."""

from __future__ import annotations

import shutil
import signal
import socket
import sys
from pathlib import Path

import pytest

from steadyocr.ops.systemd.plan import RESTART_S
from support import KnownPicture, wait_until
from systemd_service import (
    ALERT_DROP_INS,
    CHECKOUT,
    MEMORY_BYTES,
    SOCKET,
    UNIT,
    Installed,
    told_of,
    webhook_in,
)

pytestmark = pytest.mark.chaos

# How patient the watchdog is, and how long before another start. Four golden pictures are read in the former; shorter,
# and a busy machine would be taken for a hung service.
SHORTER = "[Service]\nWatchdogSec=8\nRestartSec=200ms\n"
KILLS_TO_ALERT = 3
DEATHS = "the service itself is killed again and again"


def test_a_service_that_is_killed_again_and_again_raises_one_alert(service: Installed) -> None:
    """Far slower than the start limit would notice: each successor serves, and remembers."""
    state = service.box.root / "var/lib/private/steadyocr"
    if list((state / "flight").glob("flight-*-service.json")):
        # Another test has killed it already, and that counts.
        service.systemctl("stop", UNIT)
        shutil.rmtree(state / "alerts")
        service.systemctl("start", UNIT)
    with webhook_in(service.box) as heard:
        for _ in range(KILLS_TO_ALERT - 1):
            service.kill(service.main_pid, signal.SIGKILL)
            assert service.request("GET", "/readyz").status_code == 200
        assert told_of(DEATHS, heard) == 0
        service.kill(service.main_pid, signal.SIGKILL)
        assert service.request("GET", "/readyz").status_code == 200
        wait_until(lambda: told_of(DEATHS, heard))
    assert told_of(DEATHS, heard) == 1


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
    wait_until(lambda: service.main_pid not in (0, front))
    service.reads(english)


def test_an_idle_service_proves_its_life_by_the_golden_picture(service: Installed) -> None:
    pid = service.main_pid
    done = service.info()["queue"]["completed"]
    # Nobody asks for a picture for longer than the watchdog waits.
    wait_until(lambda: service.info()["queue"]["completed"] >= done + 5)
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


def test_a_crash_loop_ends_in_failed_and_one_alert(service: Installed) -> None:
    # At the shipped pace: whether the limit can be reached at all depends on it.
    service.drop_in(
        f"""
        [Service]
        RestartSec={RESTART_S}
        ExecStart=
        ExecStart=/bin/sh -c 'echo start >> ${{STATE_DIRECTORY}}/starts; exit 1'
        """
    )
    state = service.box.root / "var/lib/private/steadyocr"
    starts, told = state / "starts", state / "told"
    service.drop_in(
        """
        [Service]
        ExecStart=
        ExecStart=/bin/sh -c 'echo %i >> ${STATE_DIRECTORY}/told'
        """,
        ALERT_DROP_INS,
    )
    service.systemctl("restart", UNIT, check=False)
    wait_until(lambda: service.show("ActiveState") == "failed")
    assert "Start request repeated too quickly" in service.journal()
    assert len(starts.read_text().splitlines()) == 5
    wait_until(told.exists)

    # Who connects, or starts it by hand, does not raise it again.
    with socket.socket() as client:
        service.box.in_network(client.connect_ex, ("127.0.0.1", 7860)).result(10)
    service.systemctl("start", UNIT, check=False)
    wait_until(lambda: service.show("ActiveState", SOCKET) == "failed")
    wait_until(lambda: not service.systemctl("list-jobs", "--no-legend"))
    assert told.read_text() == f"{UNIT}\n"
