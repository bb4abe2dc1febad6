"""Each check of the machine, well and with a planted fault."""

from __future__ import annotations

import http.server
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from steadyocr.ops.doctor import machine
from steadyocr.ops.doctor.findings import Finding, Status, fail, ok, warn, worst
from steadyocr.settings import Settings, load_settings

GIB = 1 << 30


def settings_with(tmp_path: Path, **sections: dict[str, Any]) -> Settings:
    return load_settings(sections, environ={"STEADYOCR_DATA_DIR": str(tmp_path)})[0]


def test_a_bad_finding_always_says_what_to_do() -> None:
    assert worst([ok("a", "x"), warn("b", "y", "do"), ok("c", "z")]) is Status.WARN
    assert worst([fail("a", "x", "do"), warn("b", "y", "do")]) is Status.FAIL
    assert worst([]) is Status.OK


@pytest.mark.parametrize(
    ("version", "bits", "status"),
    [
        ((3, 11, 7), 64, Status.OK),
        ((3, 13, 0), 64, Status.OK),
        ((3, 10, 9), 64, Status.FAIL),
        ((3, 12, 1), 32, Status.FAIL),
    ],
)
def test_python(version: tuple[int, ...], bits: int, status: Status) -> None:
    assert machine.python(version, bits).status is status


@pytest.mark.parametrize(
    ("flags", "status", "said"),
    [
        ("flags\t: fpu avx avx2 avx512f avx512_vnni amx_bf16 amx_int8", Status.OK, "AMX, VNNI, AVX-512, AVX2"),
        ("flags : sse4_2 avx", Status.WARN, "without AVX2"),
        ("flags\t: fpu sse2", Status.WARN, "without AVX2"),
    ],
)
def test_the_processors_instructions(tmp_path: Path, flags: str, status: Status, said: str) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\n{flags}\n")
    finding = machine.processor(tmp_path / "cpuinfo", "x86_64")
    assert (finding.status, said in finding.message) == (status, True), finding


def test_another_architecture_and_an_unreadable_file(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("Features : fp asimddp bf16\n")
    assert "asimddp, bf16" in machine.processor(tmp_path / "cpuinfo", "aarch64").message
    assert machine.processor(tmp_path / "missing", "x86_64").status is Status.WARN


@pytest.mark.parametrize(
    ("engines", "cores", "quota", "status"),
    [
        ({"count": 1, "threads": 2}, 2, None, Status.OK),
        ({"count": 2, "threads": 2}, 2, None, Status.OK),
        ({"count": 3, "threads": 2}, 2, None, Status.WARN),
        ({"count": 1, "threads": 3}, 2, None, Status.WARN),
        ({"count": 2, "threads": 1}, 1, 1.0, Status.OK),
        ({"count": 1, "threads": 1}, 1, 0.5, Status.WARN),
        ({"count": 1, "threads": 1}, 1, 1.0, Status.OK),
    ],
)
def test_cores_and_quota(
    tmp_path: Path, engines: dict[str, int], cores: int, quota: float | None, status: Status
) -> None:
    settings = settings_with(tmp_path, engines=engines)
    assert machine.cores(settings, lambda: cores, lambda: quota).status is status


@pytest.mark.parametrize(
    ("budget", "limit", "setting", "status"),
    [
        (8 * GIB, None, 0, Status.OK),
        (1 * GIB, 1 * GIB, 0, Status.WARN),
        (400 << 20, 400 << 20, 0, Status.FAIL),
        (8 * GIB, 2 * GIB, 4 * GIB, Status.FAIL),
        (8 * GIB, None, 4 * GIB, Status.OK),
        (8 * GIB, None, 16 * GIB, Status.FAIL),
        (8 * GIB, 16 * GIB, 12 * GIB, Status.FAIL),
    ],
)
def test_memory(tmp_path: Path, budget: int, limit: int | None, setting: int, status: Status) -> None:
    settings = settings_with(tmp_path, memory={"budget_bytes": setting}, engines={"count": 3})
    finding = machine.memory(settings, lambda: budget, lambda: limit)
    assert finding.status is status, finding


def mounted(folder: Path, kind: str) -> str:
    return f"1 0 0:1 / / rw - ext4 /dev/sda rw\n2 1 0:2 / {folder} rw - {kind} server:/x rw\n"


@pytest.mark.parametrize(
    ("kind", "status"),
    [("ext4", Status.OK), ("nfs4", Status.FAIL), ("fuse.sshfs", Status.FAIL), ("tmpfs", Status.WARN)],
)
def test_the_kind_of_disk(tmp_path: Path, kind: str, status: Status, monkeypatch: pytest.MonkeyPatch) -> None:
    with_free(monkeypatch, 100 * GIB)
    finding = machine.disk(settings_with(tmp_path), mounted(tmp_path.resolve(), kind))
    assert (finding.status, kind in finding.message) == (status, True), finding


def with_free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    usage = type("Usage", (), {"free": free})()
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)


@pytest.mark.parametrize(("free", "status"), [(6 * GIB, Status.OK), (4 * GIB, Status.WARN), (100 << 20, Status.FAIL)])
def test_room_on_the_disk(tmp_path: Path, free: int, status: Status, monkeypatch: pytest.MonkeyPatch) -> None:
    with_free(monkeypatch, free)
    assert machine.disk(settings_with(tmp_path), mounted(tmp_path.resolve(), "ext4")).status is status


@pytest.mark.parametrize(("free", "status"), [(21 * GIB, Status.OK), (19 * GIB, Status.FAIL)])
def test_less_room_than_jobs_are_taken_with(
    tmp_path: Path, free: int, status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_free(monkeypatch, free)
    settings = settings_with(tmp_path, jobs={"min_free_bytes": 20 * GIB})
    finding = machine.disk(settings, mounted(tmp_path.resolve(), "ext4"))
    assert (finding.status, "20480 MiB" in finding.advice) == (status, status is Status.FAIL), finding


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    finding = machine.disk(settings_with(tmp_path / "file" / "below"))
    assert (finding.status, bool(finding.advice)) == (Status.FAIL, True)


def test_the_check_of_the_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    machine.disk(settings_with(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_yet_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_free(monkeypatch, 100 * GIB)
    finding = machine.disk(settings_with(tmp_path / "state" / "steadyocr"), mounted(tmp_path.resolve(), "ext4"))
    assert (finding.status, "made at the first start" in finding.message) == (Status.OK, True), finding
    assert list(tmp_path.iterdir()) == []


def pictures_at(tmp_path: Path, where: str) -> Finding:
    return machine.job_pictures(settings_with(tmp_path / "state", jobs={"blobs": where}))


@pytest.mark.parametrize(("free", "status"), [(6 * GIB, Status.OK), (4 * GIB, Status.WARN), (100 << 20, Status.FAIL)])
def test_room_for_pictures_kept_elsewhere(
    tmp_path: Path, free: int, status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_free(monkeypatch, free)
    finding = pictures_at(tmp_path, str(tmp_path / "pictures"))
    assert (finding.status, "made at the first start" in finding.message) == (status, True), finding
    assert list(tmp_path.iterdir()) == []


def test_a_folder_elsewhere_that_takes_no_pictures(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    finding = pictures_at(tmp_path, str(tmp_path / "file" / "below"))
    assert (finding.status, "jobs.blobs" in finding.advice) == (Status.FAIL, True), finding


@pytest.mark.parametrize("where", ["", "{state}/pictures", "s3://somebody:secret@bucket/prefix"])
def test_pictures_in_the_data_folder_or_a_bucket_are_not_looked_at(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_free(monkeypatch, 0)
    finding = pictures_at(tmp_path, where.format(state=tmp_path / "state"))
    assert (finding.status, "secret" in finding.message) == (Status.OK, False), finding


class Answer(http.server.BaseHTTPRequestHandler):
    body = b"ok\n"

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        return


class Stranger(Answer):
    body = b"<html>"


@pytest.fixture
def listening() -> Iterator[Callable[[type[Answer]], int]]:
    servers: list[http.server.HTTPServer] = []

    def start(kind: type[Answer]) -> int:
        server = http.server.HTTPServer(("127.0.0.1", 0), kind)
        servers.append(server)
        threading.Thread(target=server.serve_forever, name="stand-in", daemon=True).start()
        return server.server_port

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_free_port(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = probe.getsockname()[1]
    assert machine.port(settings_with(tmp_path, server={"port": number})).status is Status.OK
    assert machine.port(settings_with(tmp_path, server={"port": 0})).status is Status.OK


@pytest.mark.parametrize(("kind", "status"), [(Answer, Status.OK), (Stranger, Status.FAIL)])
def test_a_port_that_is_taken_by_us_or_by_a_stranger(
    tmp_path: Path, listening: Callable[[type[Answer]], int], kind: type[Answer], status: Status
) -> None:
    finding = machine.port(settings_with(tmp_path, server={"port": listening(kind)}))
    assert finding.status is status, finding


def test_a_port_that_is_taken_by_something_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_PORT_PATIENCE_S", 0.1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        assert machine.port(settings_with(tmp_path, server={"port": silent.getsockname()[1]})).status is Status.FAIL


def test_an_address_of_another_machine(tmp_path: Path) -> None:
    finding = machine.port(settings_with(tmp_path, server={"host": "192.0.2.1", "insecure": True}))
    assert (finding.status, "server.host" in finding.advice) == (Status.FAIL, True)


def test_a_privileged_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuses)
    assert "privilege" in machine.port(settings_with(tmp_path, server={"port": 80})).message


@pytest.mark.parametrize(("families", "status"), [("Noto Sans CJK SC", Status.OK), ("", Status.WARN)])
def test_fonts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, families: str, status: Status) -> None:
    program = tmp_path / "fc-list"
    program.write_text(f"#!/bin/sh\nprintf '%s' '{families}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert machine.fonts().status is status
    assert machine.fonts("no-such-program").status is Status.WARN


def clocks(*readings: float) -> Callable[[], float]:
    left = list(readings)
    return lambda: left.pop(0)


@pytest.mark.parametrize(
    ("wall", "monotonic", "status"),
    [
        ((2e9, 2e9 + 0.2), (5.0, 5.2), Status.OK),
        ((2e9, 2e9 + 3.2), (5.0, 5.2), Status.WARN),
        ((2e9, 2e9 - 60), (5.0, 5.2), Status.WARN),
        ((1000.0, 1000.2), (5.0, 5.2), Status.FAIL),
    ],
)
def test_the_clock(wall: tuple[float, ...], monotonic: tuple[float, ...], status: Status) -> None:
    finding: Finding = machine.clock(clocks(*wall), clocks(*monotonic), lambda _: None, not_before=1.7e9)
    assert finding.status is status


@pytest.mark.parametrize(("limit", "status"), [(256, Status.WARN), (1024, Status.OK), (-1, Status.OK)])
def test_descriptors(limit: int, status: Status) -> None:
    assert machine.descriptors(limit).status is status
