"""What goes wrong around the engines, mixed with good pictures: memory, disk, clock, clients that do not behave."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from chaos_support import outcome, running, weak, weak_engines
from steadyocr.scheduling.quarantine import Quarantine
from support import (
    KnownPicture,
    RunningServer,
    encoded,
    in_real_time,
    known_picture,
    running_server,
    texts_of,
    wait_until,
)

ROUNDS = max(1, int(os.environ.get("STEADYOCR_CHAOS_ITEMS", "16")) // 16)

pytestmark = pytest.mark.chaos

__all__ = ["weak_engines"]


@in_real_time
async def test_memory_runs_out_and_the_clock_jumps_and_good_pictures_do_not_notice(
    tmp_path: Path, weak_engines: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    english, chinese = known_picture("english").first_line(), known_picture("chinese").first_line()
    chance = random.Random(2)
    honest_clock = time.time
    year_s = 365 * 86_400
    async with running(tmp_path) as service:
        # Deadlines, heartbeats and rates must not hang on the wall clock.
        monkeypatch.setattr(time, "time", lambda: honest_clock() + chance.choice((-year_s, 0, year_s)))
        good, hogs, short = [], [], []
        for _ in range(ROUNDS):
            good += [outcome(service, picture.data, picture) for picture in (english, chinese) * 3]
            hogs.append(outcome(service, weak(english, "hog")))
            short.append(outcome(service, weak(english, "device_memory"), english))
        of_good, of_hogs, of_short = await asyncio.gather(*(asyncio.gather(*work) for work in (good, hogs, short)))
        assert Counter(of_good) == {"right": 6 * ROUNDS}
        assert Counter(of_hogs) == {"memory_pressure": ROUNDS}
        # Each engine is short once; the second try fails where it meets a successor that has not been yet.
        assert set(of_short) <= {"right", "memory_pressure"}
        assert len(service.scheduler.quarantine) == 0
        # An engine that ran out of memory is not to be trusted; its successor took over without a gap.
        while sum(slot.retirements for slot in service.scheduler.slots) == 0:
            assert await outcome(service, english.data, english) == "right"
            await asyncio.sleep(0.05)
        assert service.unready_reason() == ""
        assert all(slot.restarts == 0 for slot in service.scheduler.slots), "nobody died of it"


@contextmanager
def tiny_disk(folder: Path, size_kib: int) -> Iterator[Path]:
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_kib}k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root can mount a disk to fill")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as stream:
        for size in (1 << 16, 1 << 12, 1 << 6, 1):
            try:
                while True:
                    stream.write(b"\1" * size)
            except OSError:
                continue
    return filler


@in_real_time
async def test_on_a_full_disk_pictures_are_read_and_poison_is_still_refused(tmp_path: Path, weak_engines: None) -> None:
    english = known_picture("english").first_line()
    with tiny_disk(tmp_path / "disk", 4096) as disk:
        async with running(disk) as service:
            filler = fill(disk)
            poison = weak(english, "exit")
            assert await outcome(service, poison) == "quarantined"
            for _ in range(2 * ROUNDS):
                assert await outcome(service, english.data, english) == "right"
            assert await outcome(service, poison) == "quarantined", "kept in memory, though it cannot be written"
            assert len(Quarantine(disk / "quarantine.json")) == 0
            assert service.unready_reason() == ""
            filler.unlink()
            assert await outcome(service, weak(english, "segfault")) == "quarantined"
            assert len(Quarantine(disk / "quarantine.json")) == 2, "with room again both are written"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(
        tmp_path_factory.mktemp("data"), engines__count="1", queue__max_size="200", server__write_stall_s="300"
    ) as running:
        yield running


def connect(
    server: RunningServer, data: bytes, *, announced: int | None = None, path: str = "/v1/ocr"
) -> socket.socket:
    host, _, port = server.url.removeprefix("http://").rstrip("/").rpartition(":")
    channel = socket.socket()
    # A tiny window, from the first moment on: little of an answer can be left with the kernel.
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    channel.settimeout(60)
    channel.connect((host, int(port)))
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {announced or len(data)}\r\n\r\n"
    channel.sendall(head.encode() + data)
    return channel


def test_clients_that_do_not_behave_hold_nobody_up(
    server: RunningServer, english: KnownPicture, chinese: KnownPicture
) -> None:
    english, chinese = english.first_line(), chinese.first_line()
    before = server.info()["queue"]["completed"]
    # Noise packs badly: an answer of several megabytes, more than a kernel buffers.
    noise = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), np.uint8)))
    lazy = [connect(server, noise, path="/v1/ocr?format=overlay.png&recognise=false&max_side=320") for _ in range(4)]
    half = [connect(server, english.data[:500], announced=len(english.data)) for _ in range(4)]
    gone = 0
    with ThreadPoolExecutor(4) as pool:
        pictures = list(itertools.islice(itertools.cycle((english, chinese)), 8 * ROUNDS))
        answers = []
        for picture in pictures:
            answers.append(pool.submit(server.ocr, picture.data))
            connect(server, chinese.data).close()
            gone += 1
        assert [texts_of(answer.result()) for answer in answers] == [picture.texts for picture in pictures]

    def settled() -> bool:
        info = server.info()
        return bool(info["queue"]["waiting"] == 0 and info["engines"][0]["state"] == "ready")

    wait_until(settled)
    assert server.info()["bodies"]["held_bytes"] > 4 << 20, "nobody has taken the large answers yet"
    # Every request was read or given up; those whose client had gone cost no more than one reading each.
    assert len(pictures) <= server.info()["queue"]["completed"] - before <= len(pictures) + len(lazy) + gone
    for channel in half:
        channel.close()
    for channel in lazy:
        # Who reads slowly still gets the whole answer.
        assert channel.recv(4096).startswith(b"HTTP/1.1 200")
        channel.close()
    info = server.info()["engines"][0]
    assert (info["restarts"], info["state"]) == (0, "ready")
    assert server.client.get("/readyz").status_code == 200
