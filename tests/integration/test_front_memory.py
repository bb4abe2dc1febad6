"""The front's memory is bounded in bytes and in time, whatever clients do."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image

from support import KnownPicture, RunningServer, encoded, running_server, texts_of, wait_until

MIB = 1 << 20
BUDGET = 64 * MIB
LARGE = 30_000_000
CROWD = 20
STALL_S = 2.0


@pytest.fixture(scope="module")
def tight(remembering: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with little room."""
    folder = tmp_path_factory.mktemp("tight")
    # It is made to stand still for as long as a crowd needs; nobody is to take it for hanging.
    with running_server(
        folder,
        remembering,
        engines__count="1",
        engines__heartbeat_s="100",
        engines__item_limit_s="100",
        limits__body_budget_bytes=str(BUDGET),
    ) as running:
        yield running


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with little patience."""
    with running_server(
        tmp_path_factory.mktemp("hasty"),
        engines__count="1",
        server__upload_stall_s=str(STALL_S),
        server__write_stall_s=str(STALL_S),
    ) as running:
        yield running


def held(server: RunningServer) -> int:
    bytes_: int = server.info()["bodies"]["held_bytes"]
    return bytes_


@contextmanager
def standing_still(server: RunningServer) -> Iterator[None]:
    """The engine takes nothing, so that what is accepted stays in the front, whatever the speed of the machine."""
    wait_until(lambda: server.info()["engines"][0]["state"] == "ready")
    engine = server.engine_pid()
    os.kill(engine, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(engine, signal.SIGCONT)


def body_of(picture: bytes, way: str) -> tuple[bytes, str]:
    padded = picture + b"\0" * (LARGE - len(picture))
    if way == "raw":
        return padded, "image/png"
    return json.dumps({"image": base64.b64encode(padded).decode()}).encode(), "application/json"


@pytest.mark.parametrize("way", ["raw", "json"])
def test_a_crowd_with_large_pictures_is_bounded_and_small_ones_are_read_afterwards(
    tight: RunningServer, english: KnownPicture, way: str
) -> None:
    front = psutil.Process(tight.pid)
    body, kind = body_of(english.data, way)
    before, peak = front.memory_info().rss, 0

    def ask() -> httpx.Response:
        headers = {"Content-Type": kind}
        return httpx.post(f"{tight.url}/v1/ocr", content=body, headers=headers, timeout=60, trust_env=False)

    def nearly_all_refused(asked: list[Future[httpx.Response]]) -> bool:
        nonlocal peak
        peak = max(peak, front.memory_info().rss)
        fitting = BUDGET // len(body)
        return sum(one.done() for one in asked) >= CROWD - fitting and held(tight) == fitting * len(body)

    with ThreadPoolExecutor(CROWD) as pool:
        with standing_still(tight):
            asked = [pool.submit(ask) for _ in range(CROWD)]
            wait_until(lambda: nearly_all_refused(asked))
        answers = [one.result() for one in asked]
    accepted = [answer for answer in answers if answer.status_code == 200]
    refused = [answer.json() for answer in answers if answer.status_code != 200]
    assert len(accepted) == BUDGET // len(body)
    assert {(one["status"], one["code"], one["retryable"]) for one in refused} == {(503, "queue_full", True)}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers if answer.status_code == 503)
    # What is held, the copy of one body that is being taken apart, and what the allocator keeps of it.
    assert peak - before < 4 * BUDGET < CROWD * LARGE / 2
    assert all(texts_of(answer.json()) == english.texts for answer in accepted)
    wait_until(lambda: held(tight) == 0)
    assert texts_of(tight.ocr(english.data)) == english.texts
    assert front.memory_info().rss - before < LARGE, "what large pictures took is given back"


@contextmanager
def connection(server: RunningServer) -> Iterator[socket.socket]:
    address = httpx.URL(server.url)
    with socket.socket() as client:
        # Small, so that the kernel takes little of an answer that nobody reads.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(30)
        client.connect((address.host, address.port or 80))
        yield client


def head(size: int, path: str = "/v1/ocr", *more: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {size}", *more]
    return "\r\n".join([*lines, "", ""]).encode()


def read_to_the_end(client: socket.socket) -> bytes:
    received = b""
    try:
        while part := client.recv(1 << 16):
            received += part
    except ConnectionResetError:
        pass
    return received


@pytest.mark.parametrize(
    ("path", "trickles"),
    [("/v1/ocr", False), ("/v1/ocr", True), ("/v1/jobs", True)],
    ids=["stops", "trickles", "trickles into a job"],
)
def test_a_slow_sender_is_told_so_and_its_connection_ends(
    hasty: RunningServer, english: KnownPicture, path: str, trickles: bool
) -> None:
    with connection(hasty) as client:
        kind = "Content-Type: application/zip" if path == "/v1/jobs" else "Content-Type: image/png"
        client.sendall(head(100_000, path, kind) + b"PK\3\4" + english.data[:1000])
        if trickles:
            client.settimeout(0.1)
            wait_until(lambda: _answers_after_another_byte(client))
            client.settimeout(30)
        answer = read_to_the_end(client)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"upload_timeout"' in answer
    wait_until(lambda: held(hasty) == 0)
    assert hasty.info()["jobs"]["uploads"] == 0


def _answers_after_another_byte(client: socket.socket) -> bool:
    client.sendall(b"x")
    try:
        return bool(client.recv(1, socket.MSG_PEEK))
    except TimeoutError:
        return False


def test_a_client_that_does_not_take_its_answer_is_cut_off(hasty: RunningServer) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (1800, 1800, 3), np.uint8)
    picture = encoded(Image.fromarray(noise), "JPEG", quality=60)
    with connection(hasty) as client:
        client.sendall(head(len(picture), "/v1/ocr?format=overlay.png&recognise=false&max_side=320") + picture)
        # The answer is several times the picture, and counts for as long as it waits.
        wait_until(lambda: held(hasty) > 4 * MIB)
        wait_until(lambda: held(hasty) == 0)
        answer = read_to_the_end(client)
    head_, _, taken = answer.partition(b"\r\n\r\n")
    (announced,) = (int(line.split(b":")[1]) for line in head_.split(b"\r\n") if line.startswith(b"content-length"))
    assert len(taken) < announced


def test_the_clients_time_begins_when_its_request_arrives(hasty: RunningServer, english: KnownPicture) -> None:
    hasty.ocr(english.data)
    done = items_read(hasty)
    with connection(hasty) as client:
        client.sendall(head(len(english.data), "/v1/ocr", "X-Request-Timeout: 0.3") + english.data[:1000])
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 504 ")
    # The whole picture is there at once, and the time has passed all the same.
    answer = hasty.client.post("/v1/ocr", content=english.data, headers={"X-Request-Timeout": "0.0000001"})
    assert (answer.status_code, answer.json()["code"]) == (504, "deadline_exceeded")
    assert items_read(hasty) == done, "no engine was touched"


def items_read(server: RunningServer) -> int:
    wait_until(lambda: server.info()["engines"][0]["state"] == "ready")
    items: int = server.info()["engines"][0]["items"]
    return items
