"""What a batch costs everybody else: memory of the front while it comes in, a single picture's wait while it runs."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from support import LIGHT, PATIENCE_S, RunningServer, encoded, running_server, wait_until

BLANK = encoded(Image.new("RGB", (64, 32), "white"))
LARGE_BYTES = 15_000_000
SMALL_BYTES = 750_000


def form(*sizes: int) -> Iterator[bytes]:
    """A form of files of these sizes, made while it is sent."""
    noise = os.urandom(1 << 18)
    for number, size in enumerate(sizes):
        head = f'--b\r\nContent-Disposition: form-data; name="files"; filename="{number}.png"\r\n\r\n'
        yield head.encode() + BLANK + str(number).encode()
        for start in range(0, size, len(noise)):
            yield noise[: size - start]
        yield b"\r\n"
    yield b"--b--\r\n"


def peak_bytes(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) << 10


def test_a_large_upload_costs_the_front_little_memory(tmp_path: Path) -> None:
    with running_server(tmp_path, LIGHT, engines__count="1", jobs__min_free_bytes="0") as server:
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        # The first one loads what is loaded once.
        server.client.post("/v1/jobs", content=form(1000, LARGE_BYTES), headers=headers).raise_for_status()
        # From here on the kernel notes the peak anew.
        Path(f"/proc/{server.pid}/clear_refs").write_text("5")
        before = peak_bytes(server.pid)
        sizes = [*[LARGE_BYTES] * 10, *[SMALL_BYTES] * 200]
        answer = server.client.post("/v1/jobs", content=form(*sizes), headers=headers)
        assert answer.status_code == 202, answer.text
        assert answer.json()["total"] == 210
        assert peak_bytes(server.pid) - before < 50_000_000


class Turns:
    """Says when an engine may go on, item by item."""

    def __init__(self, folder: Path) -> None:
        self._seen = folder / "seen"
        os.mkfifo(folder / "turns")
        self._pipe = os.open(folder / "turns", os.O_RDWR)

    @property
    def seen(self) -> list[str]:
        """What the engine has begun with, in its order."""
        return self._seen.read_text().split() if self._seen.exists() else []

    def give(self, count: int = 1) -> None:
        os.write(self._pipe, b"." * count)

    def close(self) -> None:
        os.close(self._pipe)


@pytest.fixture
def turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Turns]:
    monkeypatch.setenv("LIGHT_ENGINE_TURNS", str(tmp_path))
    made = Turns(tmp_path)
    yield made
    made.close()


def test_a_single_picture_waits_for_the_item_in_hand_and_no_other(tmp_path: Path, turns: Turns) -> None:
    settings = {"jobs__slots": "3", "jobs__min_free_bytes": "0"}
    with running_server(tmp_path / "data", LIGHT, engines__count="1", **settings) as server:  # type: ignore[arg-type]
        files = [("files", (f"{n}.png", BLANK + f"#item:batch-{n}".encode())) for n in range(8)]
        job = server.client.post("/v1/jobs", files=files).raise_for_status().json()
        order: list[str] = []
        for done in range(3):
            single = f"single-{done}"
            asking = threading.Thread(target=server.ocr, args=(BLANK + f"#item:{single}".encode(),))
            # An item is in the engine's hand, and all others that this node may hold wait in the queue.
            order.append(f"batch-{done}")
            wait_until(partial(is_so, turns, order, server, 2))
            asking.start()
            wait_until(partial(is_so, turns, order, server, 3))
            turns.give()
            order.append(single)
            wait_until(partial(is_so, turns, order, server, 3))
            turns.give()
            asking.join(PATIENCE_S)
        turns.give(20)
        wait_until(lambda: server.client.get(f"/v1/jobs/{job['id']}").json()["done"] == 8)


def is_so(turns: Turns, order: list[str], server: RunningServer, waiting: int) -> bool:
    """Whether the engine has begun with just these, and so many wait."""
    queue: dict[str, Any] = server.info()["queue"]
    return turns.seen == order and queue["waiting"] == waiting
