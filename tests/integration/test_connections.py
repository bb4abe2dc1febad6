"""Connections that are too many, silent or stuck; on a server of few seconds' patience in this process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from steadyocr.api.connections import ConnectionLimits, guarded_protocol
from support import PATIENCE_S, in_real_time

SILENCE_S = 0.4
PROBE = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
QUIET = b"GET /quiet HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE = b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n"
HEAD = b"GET /livez HTTP/1.1\r\nHost: x\r\n"
MAX_HEAD = 64 << 10
# Little is enough for what is refused in pieces; the server reads up to 256 KiB at a time.
PIECES = 64
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers at once; ``/quiet`` long after anybody's patience; ``/large`` with more than any buffer takes."""
    if scope["path"] == "/quiet":
        await asyncio.sleep(3 * SILENCE_S)
    body = b"x" * (16 << 20) if scope["path"] == "/large" else b"ok"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def serving(max_connections: int = 100) -> AsyncIterator[tuple[int, ServerState]]:
    limits = ConnectionLimits(max_connections=max_connections, silence_s=SILENCE_S, write_stall_s=SILENCE_S)
    protocol = guarded_protocol(limits)
    config = uvicorn.Config(app, http=protocol, lifespan="off", log_config=None)
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: protocol(config=config, server_state=state, app_state={}),
        "127.0.0.1",
    )
    async with server:
        yield server.sockets[0].getsockname()[1], state
        for connection in list(state.connections):
            connection.transport.abort()


async def connect(port: int, said: bytes = b"") -> Streams:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 12)
    writer.write(said)
    return reader, writer


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - the server under test tells nobody
            await asyncio.sleep(0.01)


async def read_to_the_end(streams: Streams) -> bytes:
    reader, writer = streams
    received = b""
    async with asyncio.timeout(PATIENCE_S):
        with contextlib.suppress(ConnectionError):
            while part := await reader.read(1 << 16):
                received += part
    writer.close()
    return received


@in_real_time
async def test_who_says_nothing_or_never_ends_its_headers_loses_its_connection() -> None:
    async with serving() as (port, state):
        for said in (b"", b"POST /v1/ocr HTTP/1.1\r\nHost: x\r\n"):
            assert await read_to_the_end(await connect(port, said)) == b""
        assert not state.connections


@in_real_time
async def test_a_body_that_nobody_wants_does_not_keep_its_connection_for_ever() -> None:
    async with serving() as (port, _):
        streams = await connect(port, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nx")
        assert (await read_to_the_end(streams)).startswith(b"HTTP/1.1 200 ")


@in_real_time
async def test_who_waits_for_a_long_answer_keeps_its_connection() -> None:
    async with serving() as (port, _):
        assert (await read_to_the_end(await connect(port, QUIET))).startswith(b"HTTP/1.1 200 ")


@in_real_time
async def test_who_takes_nothing_of_an_answer_loses_its_connection() -> None:
    async with serving() as (port, state):
        streams = await connect(port, LARGE)
        await until(lambda: len(state.connections) == 1)
        await until(lambda: not state.connections)
        assert len(await read_to_the_end(streams)) < 16 << 20


@in_real_time
async def test_who_takes_an_answer_slowly_but_steadily_gets_all_of_it() -> None:
    async with serving() as (port, _):
        reader, writer = await connect(port, LARGE)
        await reader.readuntil(b"\r\n\r\n")
        taken = 0
        while taken < 16 << 20:
            taken += len(await reader.readexactly(1 << 20))
            # Longer in all than a client that takes nothing is given.
            await asyncio.sleep(SILENCE_S / 8)
        writer.close()


@in_real_time
async def test_one_connection_too_many_is_told_so_and_probes_get_through() -> None:
    async with serving(max_connections=2) as (port, state):
        waiting = [await connect(port, QUIET) for _ in range(2)]
        await until(lambda: len(state.connections) == 2)
        refused = await read_to_the_end(await connect(port, QUIET))
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b'"code":"queue_full"' in refused
        assert b"retry-after: " in refused
        probe = await connect(port, PROBE)
        assert (await probe[0].readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        probe[1].close()
        for one in waiting:
            assert (await read_to_the_end(one)).startswith(b"HTTP/1.1 200 ")
        assert (await read_to_the_end(await connect(port, PROBE))).startswith(b"HTTP/1.1 200 ")


@in_real_time
async def test_far_too_many_connections_are_not_even_told() -> None:
    async with serving(max_connections=2) as (port, state):
        crowd = [await connect(port) for _ in range(2 + 64)]
        await until(lambda: len(state.connections) == 2 + 64)
        assert await read_to_the_end(await connect(port, PROBE)) == b""
        for one in crowd:
            assert await read_to_the_end(one) == b""


def of_size(name: bytes, size: int) -> bytes:
    """A request whose address and headers have this many bytes."""
    head = HEAD + name + b": "
    counted = len(b"/livez") + len(b"Host") + len(b"x") + len(name)
    return head + b"v" * (size - counted) + b"\r\n\r\n"


@in_real_time
async def test_a_head_may_be_as_large_as_is_said_and_no_larger() -> None:
    async with serving() as (port, _):
        reader, writer = await connect(port, of_size(b"cookie", MAX_HEAD))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        writer.close()
        refused = await read_to_the_end(await connect(port, of_size(b"cookie", MAX_HEAD + 1)))
        assert refused.startswith(b"HTTP/1.1 431 ")
        assert b'"code":"head_too_large"' in refused


async def flood(streams: Streams, piece: bytes, state: ServerState) -> None:
    """Send a piece again and again, for as long as it is taken, to a bound."""
    _, writer = streams
    await until(lambda: bool(state.connections))
    with contextlib.suppress(ConnectionError):
        for _ in range(PIECES):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
            if not state.connections:
                return


@in_real_time
@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (b"GET /", b"a" * 4096),
        (HEAD + b"x: ", b"v" * 4096),
        (HEAD, b"x: y\r\n" * 683),
    ],
    ids=["address", "one header", "many headers"],
)
async def test_a_head_that_does_not_end_is_refused_in_time(begin: bytes, piece: bytes) -> None:
    async with serving() as (port, state):
        streams = await connect(port, begin)
        await flood(streams, piece, state)
        refused = await read_to_the_end(streams)
        assert refused.startswith(b"HTTP/1.1 431 ")
        assert b'"code":"head_too_large"' in refused
        assert not state.connections


@in_real_time
@pytest.mark.parametrize("endless", [b"x: y\r\n" * 683, b"x" * 4096], ids=["trailers", "one trailer"])
async def test_trailers_that_do_not_end_cost_the_connection(endless: bytes) -> None:
    chunked = b"POST /quiet HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
    async with serving() as (port, state):
        streams = await connect(port, chunked)
        await flood(streams, endless, state)
        await until(lambda: not state.connections)
        assert await read_to_the_end(streams) == b""


@in_real_time
async def test_the_answer_to_the_request_before_is_not_broken_into() -> None:
    """What does not end is cut off without a word while an answer is under way on the same connection."""
    async with serving() as (port, state):
        streams = await connect(port, QUIET + HEAD + b"x: ")
        await flood(streams, b"v" * 4096, state)
        assert await read_to_the_end(streams) == b""


@in_real_time
async def test_many_requests_on_one_connection_and_a_long_body_in_pieces_are_no_head() -> None:
    async with serving() as (port, _):
        reader, writer = await connect(port)
        for _ in range(40):
            writer.write(of_size(b"cookie", 4096))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            assert await reader.readexactly(2) == b"ok"
        writer.close()
        reader, writer = await connect(port, b"POST /quiet HTTP/1.1\r\nHost: x\r\nContent-Length: 400000\r\n\r\n")
        for _ in range(100):
            writer.write(b"x" * 4000)
            await writer.drain()
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        writer.close()
