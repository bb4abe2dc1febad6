"""The real process: how it starts, stops, and survives what is done to it."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from support import (
    PATIENCE_S,
    KnownPicture,
    RunningServer,
    encoded,
    is_running,
    run_cli,
    running_server,
    texts_of,
    wait_until,
)

HEARTBEAT_S = 2.5
ERROR_LINES = "steadyocr: "


@pytest.fixture
def battered(tmp_path: Path) -> Iterator[RunningServer]:
    """A server of one's own, to be hurt."""
    with running_server(tmp_path, engines__count="1", server__drain_timeout_s="30") as running:
        yield running


@pytest.fixture
def caller() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


def ask(server: RunningServer, caller: ThreadPoolExecutor, data: bytes) -> Future[httpx.Response]:
    url = f"{server.url}/v1/ocr?max_side=4096"
    return caller.submit(httpx.post, url, content=data, timeout=60, trust_env=False)


def ask_a_stopped_engine(
    server: RunningServer, caller: ThreadPoolExecutor, data: bytes
) -> tuple[int, Future[httpx.Response]]:
    """Have a request in an engine's hand for sure: stop the engine first. Returns its pid and the request."""
    wait_until(lambda: server.info()["engines"][0]["state"] == "ready")
    engine = server.engine_pid()
    os.kill(engine, signal.SIGSTOP)
    pending = ask(server, caller, data)
    wait_until(lambda: server.info()["engines"][0]["state"] == "busy")
    return engine, pending


def error_lines(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if line.startswith(ERROR_LINES)]


def refusal_to_serve(data_dir: Path, *arguments: str, **settings: str) -> tuple[int, str]:
    """Exit code and the one line of explanation of a server that does not start."""
    done = run_cli("serve", *arguments, data_dir=data_dir, **settings)
    assert "Traceback" not in done.stderr
    (line,) = error_lines(done.stderr)
    return done.returncode, line


def test_a_taken_port_is_explained(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, line = refusal_to_serve(tmp_path, "--port", str(port))
    assert code == 4
    assert f"127.0.0.1 port {port}" in line
    assert "[invalid_configuration]" in line


def test_a_second_service_in_the_same_folder_is_refused(
    battered: RunningServer, tmp_path: Path, chinese: KnownPicture
) -> None:
    for command in ("serve", "work"):
        done = run_cli(command, "--port", "0", data_dir=tmp_path)
        assert done.returncode == 9
        assert f"another service (process {battered.pid})" in done.stderr
    assert texts_of(battered.ocr(chinese.data)) == chinese.texts


def test_a_public_address_without_a_key_is_refused(tmp_path: Path) -> None:
    code, line = refusal_to_serve(tmp_path, "--host", "0.0.0.0", "--port", "0")
    assert code == 4
    assert "API key" in line


def test_an_unknown_setting_is_refused(tmp_path: Path) -> None:
    code, line = refusal_to_serve(tmp_path, "--port", "0", queue__max_sise="3")
    assert code == 4
    assert "queue.max_sise" in line


def test_an_unknown_model_is_refused_and_those_known_are_listed(tmp_path: Path) -> None:
    code, line = refusal_to_serve(tmp_path, "--port", "0", models__detector="resnet-9000")
    assert code == 5
    assert "no model named resnet-9000" in line
    assert "pp-ocrv6-small-det" in line


def test_a_damaged_model_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "mine"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"not what it was")
    (folder / "manifest.toml").write_text(
        'name = "mine"\ntask = "detection"\nlicence = "none"\nsource = "here"\n'
        f'[file]\npath = "model.onnx"\nsha256 = "{"0" * 64}"\n'
        '[input]\nchannel_order = "RGB"\nmean = [0, 0, 0]\nstd = [1, 1, 1]\n'
    )
    code, line = refusal_to_serve(tmp_path, "--port", "0", models__detector="mine")
    assert code == 5
    assert "model mine: model.onnx has sha256" in line
    assert "[model_corrupt]" in line


def crash(engine: int) -> None:
    """End a process as a fault of its own code would."""
    os.kill(engine, signal.SIGSEGV)
    os.kill(engine, signal.SIGCONT)


@pytest.mark.chaos
def test_a_killed_engine_costs_no_request(
    battered: RunningServer, caller: ThreadPoolExecutor, english: KnownPicture
) -> None:
    engine, pending = ask_a_stopped_engine(battered, caller, english.data)
    os.kill(engine, signal.SIGKILL)
    assert battered.client.get("/livez").status_code == 200
    answer = pending.result()
    assert answer.status_code == 200, answer.text
    assert texts_of(answer.json()) == english.texts
    assert texts_of(battered.ocr(english.data)) == english.texts

    # And one that dies with nothing to do.
    os.kill(battered.engine_pid(), signal.SIGKILL)
    assert texts_of(battered.ocr(english.data)) == english.texts

    (described,) = battered.info()["engines"]
    assert (described["restarts"], described["starts"], described["model_loads"]) == (2, 3, 1)
    assert described["pid"] != engine
    assert described["last_death"]


@pytest.mark.chaos
def test_a_picture_that_crashes_engines_is_quarantined_until_it_is_released(
    battered: RunningServer, caller: ThreadPoolExecutor, english: KnownPicture, chinese: KnownPicture
) -> None:
    # Large enough to be in the engine's hand for a while.
    poison = encoded(english.image.resize((2880, 1680)))
    first, pending = ask_a_stopped_engine(battered, caller, poison)
    crash(first)

    def crash_the_next() -> bool:
        (engine,) = battered.info()["engines"]
        in_hand: bool = engine["pid"] != first and engine["state"] == "busy"
        if in_hand:
            crash(engine["pid"])
        return in_hand

    wait_until(crash_the_next)
    answer = pending.result()
    assert (answer.status_code, answer.json()["code"]) == (422, "quarantined")
    assert answer.json()["retryable"] is False

    assert texts_of(battered.ocr(chinese.data)) == chinese.texts
    again = battered.client.post("/v1/ocr", content=poison)
    assert again.json()["code"] == "quarantined"
    (listed,) = battered.client.get("/v1/quarantine").json()["items"]
    assert (listed["cause"], listed["deaths"], listed["width"], listed["height"]) == ("crash", 2, 2880, 1680)

    assert battered.client.delete(f"/v1/quarantine/{listed['sha256']}").status_code == 204
    assert battered.client.delete(f"/v1/quarantine/{listed['sha256']}").status_code == 404
    assert battered.client.post("/v1/ocr", content=poison).status_code == 200


@pytest.mark.chaos
def test_a_hanging_engine_is_killed_and_its_picture_read_by_another(
    tmp_path: Path, caller: ThreadPoolExecutor, english: KnownPicture
) -> None:
    with running_server(tmp_path, engines__count="1", engines__heartbeat_s=str(HEARTBEAT_S)) as server:
        engine, pending = ask_a_stopped_engine(server, caller, english.data)
        answer = pending.result()
        assert answer.status_code == 200, answer.text
        assert texts_of(answer.json()) == english.texts
        assert not is_running(engine)
        assert server.engine_pid() != engine
        assert server.client.get("/v1/quarantine").json() == {"items": []}


@pytest.mark.chaos
def test_a_stop_signal_lets_running_requests_finish(
    battered: RunningServer, caller: ThreadPoolExecutor, english: KnownPicture
) -> None:
    engine, pending = ask_a_stopped_engine(battered, caller, english.data)
    battered.process.send_signal(signal.SIGTERM)
    wait_until(lambda: battered.client.get("/readyz").status_code == 503)
    refused = battered.client.post("/v1/ocr", content=english.data)
    assert (refused.status_code, refused.json()["code"]) == (503, "draining")
    os.kill(engine, signal.SIGCONT)
    answer = pending.result()
    assert answer.status_code == 200, answer.text
    assert texts_of(answer.json()) == english.texts
    assert battered.process.wait(PATIENCE_S) == 0
    assert not is_running(engine)
    assert battered.find_log("Stopped") is not None
    assert not [entry for entry in battered.log if entry["level"] in ("error", "critical")]


@pytest.mark.chaos
def test_a_stop_signal_ends_a_server_whose_engine_hangs(
    tmp_path: Path, caller: ThreadPoolExecutor, english: KnownPicture
) -> None:
    with running_server(tmp_path, engines__count="1", server__drain_timeout_s="0.5") as server:
        engine, pending = ask_a_stopped_engine(server, caller, english.data)
        server.process.send_signal(signal.SIGTERM)
        answer = pending.result()
        assert (answer.status_code, answer.json()["code"]) == (503, "cancelled")
        assert server.process.wait(PATIENCE_S) == 0
        assert not is_running(engine)


@pytest.mark.chaos
@pytest.mark.parametrize("stopped", [False, True], ids=["idle", "hanging"])
def test_a_killed_front_takes_its_engine_along(
    battered: RunningServer, caller: ThreadPoolExecutor, english: KnownPicture, stopped: bool
) -> None:
    if stopped:
        engine, pending = ask_a_stopped_engine(battered, caller, english.data)
        pending.add_done_callback(lambda done: done.exception())
    else:
        engine = battered.engine_pid()
    battered.process.kill()
    battered.process.wait(PATIENCE_S)
    wait_until(lambda: not is_running(engine))


@pytest.mark.chaos
@pytest.mark.parametrize(("number", "times"), [(signal.SIGTERM, 2), (signal.SIGINT, 1)])
def test_a_server_told_to_stop_while_it_starts_stops(tmp_path: Path, times: int, number: signal.Signals) -> None:
    server = RunningServer(tmp_path, {})
    try:
        wait_until(lambda: server.find_log("Listening; loading models"))
        wait_until(lambda: psutil.Process(server.pid).children())
        engines = [child.pid for child in psutil.Process(server.pid).children()]
        for _ in range(times):
            server.process.send_signal(number)
            wait_until(lambda: server.find_log("Stopping: finishing what was accepted"))
        assert server.process.wait(PATIENCE_S) == 0
        assert server.find_log("Stopped") is not None
        assert not any(is_running(engine) for engine in engines)
        assert not [entry for entry in server.log if entry["level"] in ("error", "critical")]
    finally:
        server.close()


@pytest.mark.chaos
def test_a_second_stop_signal_breaks_nothing_off(
    battered: RunningServer, caller: ThreadPoolExecutor, english: KnownPicture
) -> None:
    engine, pending = ask_a_stopped_engine(battered, caller, english.data)
    for _ in range(2):
        battered.process.send_signal(signal.SIGTERM)
        wait_until(lambda: battered.client.get("/readyz").status_code == 503)
    os.kill(engine, signal.SIGCONT)
    assert texts_of(pending.result().json()) == english.texts
    assert battered.process.wait(PATIENCE_S) == 0


def test_engines_that_never_get_ready_end_the_start_with_the_reason(tmp_path: Path) -> None:
    code, line = refusal_to_serve(tmp_path, "--port", "0", engines__start_timeout_s="0.01")
    assert code == 6
    assert "an engine was not ready after" in line
    assert "[engine_died]" in line
