"""Something beside a real server takes all memory, and the kernel ends engines that have taken hardly any."""

from __future__ import annotations

import functools
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from chaos_support import memory_group
from steadyocr.ops.flight.store import FlightStore
from support import PATIENCE_S, KnownPicture, call_cli, running_server, wait_until

WEAK_SERVER = (sys.executable, str(Path(__file__).with_name("weak_server.py")))
LIMIT_BYTES = 1200 << 20
# Takes memory in a group until it is ended. Of several each is small, and the engine the kernel's first choice.
NEIGHBOUR = """
import os, pathlib, sys
pathlib.Path(sys.argv[1], "cgroup.procs").write_text(str(os.getpid()))
held = []
while True:
    held.append(b"x" * (8 << 20))
"""
NEIGHBOURS = 4

pytestmark = pytest.mark.chaos


@contextmanager
def hungry_neighbours(group: Path) -> Iterator[None]:
    command = [sys.executable, "-c", NEIGHBOUR, str(group)]
    neighbours = [subprocess.Popen(command) for _ in range(NEIGHBOURS)]
    try:
        yield
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def records(data_dir: Path) -> list[Path]:
    return FlightStore(data_dir / "flight").paths()


def test_a_picture_whose_engines_die_for_a_neighbours_hunger_is_read_in_the_end(
    tmp_path: Path, english: KnownPicture
) -> None:
    answers: list[httpx.Response] = []
    with memory_group(LIMIT_BYTES) as group:
        enter = ("sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh", *WEAK_SERVER)
        with running_server(tmp_path, enter, engines__count="1") as server:

            def post() -> None:
                headers = {"X-Request-Timeout": "100"}
                content = english.data + b"#weakness:doze"
                answers.append(server.client.post("/v1/ocr", content=content, headers=headers, timeout=120))

            posting = threading.Thread(target=post, name="post")
            posting.start()
            dead: set[int] = set()
            with httpx.Client(base_url=server.url, trust_env=False, timeout=30) as watching:
                for _ in range(2):

                    def at_work() -> bool:
                        engine = watching.get("/v1/info").json()["engines"][0]
                        return engine["state"] == "busy" and engine["pid"] not in dead

                    wait_until(at_work)
                    pid = watching.get("/v1/info").json()["engines"][0]["pid"]
                    dead.add(pid)
                    with hungry_neighbours(group):
                        wait_until(functools.partial(is_gone, pid))
                posting.join(PATIENCE_S)
                assert watching.get("/v1/quarantine").json() == {"items": []}
        (answer,) = answers
        assert answer.status_code == 200, answer.text
        assert [line["text"] for line in answer.json()["lines"]] == english.texts
        told = [call_cli("flight", "show", path.name, data_dir=tmp_path).stdout for path in records(tmp_path)]
        assert sum("was killed by the kernel because memory ran out (SIGKILL)" in text for text in told) == 2
