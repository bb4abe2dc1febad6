from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from steadyocr.telemetry.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """The address of a manager, and its ear."""
    name = f"{tmp_path}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        abstract = request.param == "abstract"
        ear.bind(f"\0{name}" if abstract else name)
        ear.settimeout(5)
        yield (f"@{name}" if abstract else name), ear


def heard(ear: socket.socket) -> list[str]:
    return ear.recv(4096).decode().splitlines()


def test_every_message_arrives_as_the_protocol_wants_it(manager: tuple[str, socket.socket]) -> None:
    address, ear = manager
    notifier = Notifier(address)
    notifier.ready("2 engines")
    assert heard(ear) == ["READY=1", "STATUS=2 engines"]
    notifier.status("one\nline  only")
    assert heard(ear) == ["STATUS=one line only"]
    notifier.alive()
    assert heard(ear) == ["WATCHDOG=1"]
    notifier.extend_timeout(2.5)
    assert heard(ear) == ["EXTEND_TIMEOUT_USEC=2500000"]
    notifier.stopping("bye", within_s=45)
    assert heard(ear) == ["STOPPING=1", "STATUS=bye", "EXTEND_TIMEOUT_USEC=45000000"]
    notifier.reloading()
    reloading, moment = heard(ear)
    assert reloading == "RELOADING=1"
    assert int(moment.removeprefix("MONOTONIC_USEC=")) > 0


def test_a_status_has_a_bound(manager: tuple[str, socket.socket]) -> None:
    address, ear = manager
    Notifier(address).status("x" * 10_000)
    assert len(heard(ear)[0]) == len("STATUS=") + 200


def test_a_remark_stands_behind_each_status_until_it_is_taken_back(manager: tuple[str, socket.socket]) -> None:
    address, ear = manager
    notifier = Notifier(address)
    notifier.remark = "to be restarted"
    for text in ("2 engines", "1 engine"):
        notifier.status(text)
        assert heard(ear) == [f"STATUS={text}; to be restarted"]
    notifier.remark = ""
    notifier.status("2 engines")
    assert heard(ear) == ["STATUS=2 engines"]


def test_what_the_manager_said_is_taken_out_of_the_environment() -> None:
    environ = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid()), "HOME": "/"}
    notifier = Notifier.from_environment(environ)
    assert (notifier.managed, notifier.watchdog_s) == (True, 3.0)
    assert environ == {"HOME": "/"}


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"NOTIFY_SOCKET": "vsock:2:1234"},
        {"WATCHDOG_USEC": "3000000"},
        {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"},
        {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "soon"},
        {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "0"},
    ],
)
def test_without_a_manager_or_for_another_process_there_is_no_watchdog(environ: dict[str, str]) -> None:
    given = environ.get("NOTIFY_SOCKET") == "/run/x"
    notifier = Notifier.from_environment(environ)
    assert (notifier.managed, notifier.watchdog_s) == (given, None)


def test_a_manager_that_is_gone_harms_nobody_and_is_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    notifier = Notifier(f"{tmp_path}/nobody")
    for _ in range(3):
        notifier.alive()
    assert [record.message for record in caplog.records] == ["The service manager cannot be told"]


def test_a_manager_that_does_not_listen_never_makes_us_wait(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(f"{tmp_path}/deaf")
        notifier = Notifier(f"{tmp_path}/deaf")
        for _ in range(10_000):
            notifier.alive()
