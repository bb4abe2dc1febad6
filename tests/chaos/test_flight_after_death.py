"""Engines of a real server die with a picture in hand, and 'steadyocr flight show' says how it was."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
from pathlib import Path

import httpx
import pytest
from PIL import Image

from chaos_support import memory_group
from steadyocr.ops.flight.store import FlightStore
from support import PATIENCE_S, KnownPicture, RunningServer, call_cli, encoded, running_server, wait_until

WEAK_SERVER = (sys.executable, str(Path(__file__).with_name("weak_server.py")))
SIZE = (2000, 1500)
LIMIT_BYTES = 1200 << 20

pytestmark = pytest.mark.chaos


@pytest.fixture(scope="module")
def large(english: KnownPicture) -> bytes:
    """A picture that takes its time and is larger than any step of the ladder."""
    return encoded(english.image.convert("RGB").resize(SIZE, Image.Resampling.BICUBIC))


def flight(data_dir: Path, *arguments: str) -> str:
    done = call_cli("flight", *arguments, data_dir=data_dir)
    assert done.returncode == 0, done.stderr
    return done.stdout


def records(data_dir: Path) -> list[Path]:
    return FlightStore(data_dir / "flight").paths()


def wait_for_outcome(data_dir: Path, number: int, code: str) -> None:
    """Wait until so many records lie there and the last one tells what became of the picture."""

    def told() -> bool:
        paths = records(data_dir)
        return len(paths) >= number and (json.loads(paths[number - 1].read_text())["outcome"] or {}).get("code") == code

    wait_until(told)


def megabytes(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    assert found is not None, text
    return int(found[1])


def kill_at_work(server: RunningServer, data: bytes) -> httpx.Response:
    """Post a picture and kill the engine in the middle of it; the answer is that of its successor."""
    answers: list[httpx.Response] = []

    def post() -> None:
        answers.append(
            server.client.post("/v1/ocr?quality=tile", content=data, headers={"X-Request-Id": "the-picture"})
        )

    posting = threading.Thread(target=post, name="post")
    posting.start()
    try:
        with httpx.Client(base_url=server.url, trust_env=False) as watching:

            def at_work() -> bool:
                engine = watching.get("/v1/info").json()["engines"][0]
                return bool(engine["state"] == "busy" and engine["stage"] in ("detect", "recognise"))

            wait_until(at_work)
            os.kill(watching.get("/v1/info").json()["engines"][0]["pid"], signal.SIGKILL)
    finally:
        posting.join(PATIENCE_S)
    return answers[0]


def test_a_kill_from_outside_is_explained(tmp_path: Path, large: bytes) -> None:
    with running_server(tmp_path, engines__count="1") as server:
        assert kill_at_work(server, large).status_code == 200
        wait_for_outcome(tmp_path, 1, "ok")
        text = flight(tmp_path, "show", "--last")
        assert "Afterwards: the picture was read by another engine in " in text
        assert re.search(r"engine 0 \(process \d+\) was killed from outside \(SIGKILL\), .* after its start", text)
        assert "In hand: a picture of 2000 x 1500 pixels (request the-picture), on attempt 1." in text
        assert re.search(r"Step: (detect \(step 2|recognise \(step 4) of 5\), .* after it was handed over", text)
        assert "Ladder: full quality, nothing was taken away" in text
        assert "pressure level full" in text
        predicted = megabytes(r"Memory: (\d+) MiB predicted", text)
        real = megabytes(r"predicted, (?:at least )?(\d+) MiB in reality", text)
        assert 100 < real < 4000
        assert 100 < predicted < 8000
        name = flight(tmp_path, "dump").strip()
        assert name.endswith("-requested.json")
        assert FlightStore(tmp_path / "flight").load(name)[1]["reason"] == "somebody asked for it"
    stopped = FlightStore(tmp_path / "flight").load()[1]["reason"]
    assert stopped == "the service was stopped in trouble: an engine had died"
    assert "no service runs over this data folder" in call_cli("flight", "dump", data_dir=tmp_path).stderr


def die_of(server: RunningServer, data: bytes) -> httpx.Response:
    hog = data + b"#weakness:memory_hog"
    return server.client.post("/v1/ocr", content=hog, headers={"X-Request-Id": "the-hog"})


def assert_explained(data_dir: Path, how: str, floor_mb: int) -> None:
    """Two deaths: with the whole picture, and alone one step smaller; then quarantine."""
    first, second = (flight(data_dir, "show", path.name) for path in records(data_dir)[:2])
    for text in (first, second):
        assert how in text
        assert "2000 x 1500 pixels (request the-hog)" in text
        assert "Step: detect (step 2 of 5)" in text
        assert megabytes(r"predicted, (?:at least )?(\d+) MiB in reality", text) > floor_mb
        assert "Afterwards: the picture was quarantined" in text
    assert "Ladder: full quality" in first
    assert re.search(r"Ladder: side_\d+: the longer side was held to \d+ pixels", second)
    assert "on attempt 2" in second


def test_an_engine_killed_by_the_kernel_for_memory_is_explained(tmp_path: Path, large: bytes) -> None:
    with memory_group(LIMIT_BYTES) as group:
        enter = ("sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh", *WEAK_SERVER)
        with running_server(tmp_path, enter, engines__count="1") as server:
            answer = die_of(server, large)
            assert answer.json()["code"] == "quarantined"
            wait_for_outcome(tmp_path, 2, "quarantined")
            assert server.process.poll() is None, "the front lives"
            assert_explained(tmp_path, "was killed by the kernel because memory ran out (SIGKILL)", 700)


def test_an_engine_that_ends_at_its_own_limit_is_explained(
    tmp_path: Path, large: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEAK_ADDRESS_SPACE", str(2 << 30))
    with running_server(tmp_path, WEAK_SERVER, engines__count="1") as server:
        assert die_of(server, large).json()["code"] == "quarantined"
        wait_for_outcome(tmp_path, 2, "quarantined")
        assert_explained(tmp_path, "crashed (SIGABRT)", 500)
