from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steadyocr.scheduling.protocol import (
    MAX_HEADER_BYTES,
    MAX_PAYLOAD_BYTES,
    BrokenFrame,
    pack,
    receive,
    receive_blocking,
    send,
    send_blocking,
)
from support import PATIENCE_S, in_real_time, without_waiting

Pair = tuple[socket.socket, socket.socket]
PLAIN: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
MESSAGES = st.dictionaries(st.text(), PLAIN, max_size=4).map(lambda message: {**message, "kind": "test"})

NOT_FRAMES = {
    "cut off in the lengths": b"\0\0\0",
    "cut off in the header": struct.pack(">II", 10, 0) + b'{"kind"',
    "cut off in the payload": pack({"kind": "x"}, 100) + b"1234",
    "no JSON": struct.pack(">II", 4, 0) + b"\xff{[}",
    "deep JSON": struct.pack(">II", 200_000, 0) + b"[" * 200_000,
    "not an object": struct.pack(">II", 4, 0) + b"[12]",
    "no kind": struct.pack(">II", 2, 0) + b"{}",
    "huge header announced": struct.pack(">II", MAX_HEADER_BYTES + 1, 0),
    "huge payload announced": struct.pack(">II", 2, MAX_PAYLOAD_BYTES + 1),
}


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(5)
        theirs.settimeout(5)
        yield ours, theirs


def received_by_engine(channel: socket.socket) -> tuple[dict[str, Any], bytes] | None:
    frame = receive_blocking(channel)
    return None if frame is None else (frame[0], bytes(frame[1]))


def received_by_front(raw: bytes) -> tuple[dict[str, Any], bytes]:
    async def read() -> tuple[dict[str, Any], bytes]:
        reader = asyncio.StreamReader()
        reader.feed_data(raw)
        reader.feed_eof()
        return await receive(reader)

    return asyncio.run(read())


@given(MESSAGES, st.binary(max_size=1000))
def test_what_is_sent_is_what_arrives(message: dict[str, Any], payload: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send_blocking(ours, message, payload)
        assert received_by_engine(theirs) == (message, payload)
    assert received_by_front(pack(message, len(payload)) + payload) == (message, payload)


def test_frames_follow_each_other_without_a_gap(pair: Pair) -> None:
    ours, theirs = pair
    for number in range(3):
        send_blocking(ours, {"kind": "n", "n": number}, b"x" * number)
    assert [received_by_engine(theirs) for _ in range(3)] == [({"kind": "n", "n": n}, b"x" * n) for n in range(3)]


@in_real_time
async def test_a_large_picture_passes_from_the_front_to_the_engine() -> None:
    ours, theirs = socket.socketpair()
    payload = bytes(range(256)) * 40_000
    _, writer = await asyncio.open_connection(sock=ours)
    with theirs:
        theirs.setblocking(True)
        received, _ = await asyncio.gather(
            asyncio.to_thread(received_by_engine, theirs), send(writer, {"kind": "run"}, payload)
        )
        assert received == ({"kind": "run"}, payload)
    writer.close()
    await writer.wait_closed()


def test_a_closed_front_is_the_end_and_no_error(pair: Pair) -> None:
    ours, theirs = pair
    ours.close()
    assert receive_blocking(theirs) is None


@pytest.mark.parametrize("raw", NOT_FRAMES.values(), ids=NOT_FRAMES)
def test_the_engine_takes_nothing_for_a_frame_that_is_none(pair: Pair, raw: bytes) -> None:
    ours, theirs = pair
    ours.sendall(raw)
    ours.close()
    with pytest.raises(BrokenFrame):
        receive_blocking(theirs)


@pytest.mark.parametrize("raw", [b"", *NOT_FRAMES.values()], ids=["closed", *NOT_FRAMES])
def test_the_front_takes_nothing_for_a_frame_that_is_none(raw: bytes) -> None:
    with pytest.raises(BrokenFrame):
        received_by_front(raw)


HUGE = [raw for name, raw in NOT_FRAMES.items() if name.startswith("huge")]


@pytest.mark.parametrize("raw", HUGE)
def test_the_engine_makes_no_room_for_a_huge_frame(pair: Pair, raw: bytes) -> None:
    ours, theirs = pair
    ours.sendall(raw)
    with pytest.raises(BrokenFrame, match="too large"):
        receive_blocking(theirs)


@pytest.mark.parametrize("raw", HUGE)
def test_the_front_does_not_wait_for_a_huge_frame(raw: bytes) -> None:
    @without_waiting
    async def scenario() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(raw)
        async with asyncio.timeout(PATIENCE_S):
            await receive(reader)

    with pytest.raises(BrokenFrame, match="too large"):
        scenario()


def test_a_frame_too_large_is_not_packed() -> None:
    with pytest.raises(BrokenFrame):
        pack({"kind": "x"}, MAX_PAYLOAD_BYTES + 1)
