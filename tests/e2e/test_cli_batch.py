"""``steadyocr batch`` and ``steadyocr jobs`` as commands, with engines that need no models."""

from __future__ import annotations

import io
import os
import re
import signal
import socket
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

import forked
from steadyocr.cli.exit_codes import ExitCode
from steadyocr.jobs.models import ItemState
from steadyocr.jobs.sql_store import open_job_store
from support import LIGHT, PATIENCE_S, call_cli, clean_environment, encoded, free_port, running_server, wait_until

BLANK = encoded(Image.new("RGB", (64, 32), "white"))


def picture(text: str) -> bytes:
    return BLANK + f"#item:{text}".encode()


class Shell:
    """Somebody at a terminal that is none, with a data folder."""

    def __init__(self, data_dir: Path, **settings: str) -> None:
        self.data_dir = data_dir
        self._settings = {"engines__count": "1", "jobs__min_free_bytes": "0", "jobs__lease_s": "1", **settings}
        self._environment = clean_environment(data_dir, **self._settings)

    def start(self, *arguments: object, **more: str) -> subprocess.Popen[str]:
        return forked.start(
            [*LIGHT, *map(str, arguments)],
            env=self._environment | more,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: object, **more: str) -> tuple[int, str, str]:
        process = self.start(*arguments, **more)
        out, said = process.communicate(timeout=PATIENCE_S)
        return process.returncode, out, said

    def call(self, *arguments: object) -> tuple[int, str]:
        """A command that needs no engine, in this process: starting one takes longer than all it does."""
        done = call_cli(*map(str, arguments), data_dir=self.data_dir, **self._settings)
        refused = re.search(r"\[(\w+)\]$", done.stderr.rstrip())
        return done.returncode, refused[1] if refused else done.stdout


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "sub").mkdir(parents=True)
    for n in range(8):
        (folder / f"{n}.png").write_bytes(picture(f"p{n}"))
    (folder / "sub" / "deep.png").write_bytes(picture("deep"))
    return folder


def texts(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text().strip() for path in folder.rglob("*.txt")}


EXPECTED = {**{f"{n}.png.txt": f"p{n}" for n in range(8)}, "sub/deep.png.txt": "deep"}


def test_a_batch_here_is_one_job_however_often_it_is_asked_for(tmp_path: Path, pictures: Path) -> None:
    shell, out = Shell(tmp_path / "data"), tmp_path / "out"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("../in.png", picture("tricky"))
        archive.writestr("in.png", picture("packed"))
    (tmp_path / "some.zip").write_bytes(packed.getvalue())
    for _ in range(2):
        code, printed, said = shell.run("batch", pictures, tmp_path / "some.zip", "-o", out)
        assert code == ExitCode.SOME_FAILED, said
        assert printed == ""
        assert texts(out) == {**EXPECTED, "in.png.txt": "packed"}
        assert said.splitlines()[-2:] == ["10 read, 1 failed", "  1 x invalid_request"]
    assert "Going on with job" in said
    _, printed = shell.call("jobs", "list")
    (line,) = printed.splitlines()[1:]
    job_id, state, *_, total, done, failed, dead, waiting = line.split()
    assert (state, total, done, failed, dead, waiting) == ("done", "12", "11", "1", "0", "0")
    assert "[invalid_request]" in shell.call("jobs", "show", job_id)[1]
    assert shell.call("jobs", "retry", job_id)[1] == f"{job_id}: 0 items run again\n", "there is nothing to run"
    assert shell.call("jobs", "cancel", job_id)[1] == f"{job_id}: done\n"
    assert shell.call("jobs", "prune")[1] == "0 jobs deleted\n"
    assert shell.call("jobs", "prune", "--all")[1] == "1 jobs deleted\n"
    assert shell.call("jobs", "show", job_id) == (ExitCode.NOT_FOUND, "job_not_found")
    code, _, said = shell.run("batch", pictures, "-o", out)
    assert (code, said.splitlines()[-1]) == (ExitCode.OK, "9 read, 0 failed")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_batch_that_is_broken_off_goes_on_where_it_was(tmp_path: Path, pictures: Path, how: signal.Signals) -> None:
    shell, out = Shell(tmp_path / "data"), tmp_path / "out"
    process = shell.start("batch", pictures, "-o", out, LIGHT_ENGINE_WORK_S="1")
    wait_until(lambda: len(texts(out)) >= 2 if out.exists() else False)
    if how is signal.SIGKILL:
        os.killpg(process.pid, how)
    else:
        process.send_signal(how)
    _, said = process.communicate(timeout=PATIENCE_S)
    if how is not signal.SIGKILL:
        assert process.returncode == ExitCode.INTERRUPTED, said
        assert "The same command goes on" in said
    store = open_job_store(f"sqlite:///{shell.data_dir}/jobs/jobs.db")
    (before,) = store.jobs()
    ended = {item.position: item.finished_at for item in store.items(before.id, states=[ItemState.DONE])}
    assert 0 < len(ended) < 9
    code, _, said = shell.run("batch", pictures, "-o", out)
    assert code == ExitCode.OK, said
    assert f"Going on with job {before.id}" in said
    assert texts(out) == EXPECTED
    (job,) = store.jobs()
    after = {item.position: item.finished_at for item in store.items(job.id)}
    assert {position: after[position] for position in ended} == ended, "what was read was not read again"
    store.close()


def test_a_server_works_a_batch_off_and_may_die_meanwhile(tmp_path: Path, pictures: Path) -> None:
    shell, out, port = Shell(tmp_path / "client"), tmp_path / "out", free_port()
    settings = {"engines__count": "1", "jobs__min_free_bytes": "0", "jobs__lease_s": "1", "auth__api_keys": "open"}
    to = ("--to", f"http://127.0.0.1:{port}", "--api-key", "open")
    os.environ["LIGHT_ENGINE_WORK_S"] = "0.3"
    try:
        with running_server(tmp_path / "server", LIGHT, port=port, **settings) as server:
            process = shell.start("batch", pictures, "-o", out, *to)
            wait_until(lambda: len(texts(out)) >= 2 if out.exists() else False)
            server.process.kill()
            server.process.wait(PATIENCE_S)
        with running_server(tmp_path / "server", LIGHT, port=port, **settings):
            _, said = process.communicate(timeout=PATIENCE_S)
            assert process.returncode == ExitCode.OK, said
            assert said.splitlines()[-1] == "9 read, 0 failed"
            assert texts(out) == EXPECTED
            (line,) = shell.call("jobs", "list", *to)[1].splitlines()[1:]
            assert line.split()[-5:] == ["9", "9", "0", "0", "0"]
            assert shell.call("jobs", "prune", "--all", *to)[1] == "1 jobs deleted\n"
            assert shell.call("jobs", "list", *to[:2]) == (ExitCode.ACCESS, "unauthorized")
    finally:
        del os.environ["LIGHT_ENGINE_WORK_S"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_upload_that_is_broken_off_ends_with_its_process(tmp_path: Path, how: signal.Signals) -> None:
    """A thread that went on sending would keep the process from ending, for as long as the server takes it."""
    with (tmp_path / "large.png").open("wb") as stream:
        stream.truncate(64 << 20)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE_S)
        to = f"http://127.0.0.1:{server.getsockname()[1]}"
        process = Shell(tmp_path / "data").start("batch", tmp_path / "large.png", "--to", to)
        connection, _ = server.accept()
        with connection:
            assert connection.recv(1000)
            process.send_signal(how)
            # Less than what makes the client give up by itself.
            _, said = process.communicate(timeout=20)
    assert process.returncode == ExitCode.INTERRUPTED, said
    assert said == "Broken off. The same command goes on where this one stopped.\n"


def test_what_cannot_be_a_batch_is_refused_before_anything_starts(tmp_path: Path, pictures: Path) -> None:
    shell = Shell(tmp_path / "data")
    for arguments, code in (
        ((tmp_path / "missing",), ExitCode.BAD_INPUT),
        ((pictures, "-f", "pdf"), ExitCode.USAGE),
        ((pictures, "-f", "overlay.png"), ExitCode.USAGE),
        ((pictures, "--to", "localhost"), ExitCode.USAGE),
    ):
        assert shell.call("batch", *arguments)[0] == code
    assert not (tmp_path / "data" / "jobs").exists()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[tuple[Shell, str]]:
    shell, port = Shell(tmp_path / "data"), free_port()
    process = shell.start("work", "--port", port)
    yield shell, f"http://127.0.0.1:{port}"
    process.terminate()
    assert process.wait(PATIENCE_S) == 0
    process.communicate()


def test_a_node_shows_how_it_is_and_nothing_else(node: tuple[Shell, str], tmp_path: Path) -> None:
    import httpx

    _, url = node

    def status(path: str) -> int:
        try:
            return httpx.get(f"{url}{path}", trust_env=False).status_code
        except httpx.TransportError:
            return 0

    wait_until(lambda: status("/readyz") == 200)
    assert status("/livez") == 200
    assert "steadyocr_" in httpx.get(f"{url}/metrics", trust_env=False).text
    for path in ("/", "/v1/jobs", "/v1/info", "/healthz", "/openapi.json", "/docs"):
        assert status(path) == 404
    assert httpx.post(f"{url}/v1/ocr", content=BLANK, trust_env=False).status_code == 404
