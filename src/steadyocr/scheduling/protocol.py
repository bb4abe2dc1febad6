"""The wire between the front and an engine: length-prefixed frames of JSON plus raw bytes.

Plain values only, so neither side can be made to run the other's code, and a damaged frame is an error and not a
surprise. Layout: two big-endian 32-bit lengths, the JSON header, the payload.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import Any, Final

_LENGTHS: Final = struct.Struct(">II")
MAX_HEADER_BYTES: Final = 64 << 20
MAX_PAYLOAD_BYTES: Final = 1 << 30

Message = dict[str, Any]


class BrokenFrame(Exception):
    """The other side closed in mid-frame, announced an impossible length or sent no message."""


def pack(message: Message, payload_bytes: int = 0) -> bytes:
    """Return lengths and JSON header of a frame; the payload follows on the wire as it is."""
    header = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
    if len(header) > MAX_HEADER_BYTES or payload_bytes > MAX_PAYLOAD_BYTES:
        raise BrokenFrame("frame too large")
    return _LENGTHS.pack(len(header), payload_bytes) + header


def _lengths(raw: bytes) -> tuple[int, int]:
    if len(raw) < _LENGTHS.size:
        raise BrokenFrame("closed in mid-frame")
    header_bytes, payload_bytes = _LENGTHS.unpack(raw)
    if header_bytes > MAX_HEADER_BYTES or payload_bytes > MAX_PAYLOAD_BYTES:
        raise BrokenFrame("frame too large")
    return header_bytes, payload_bytes


def _parse(header: bytes) -> Message:
    try:
        message = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise BrokenFrame("the header is not JSON") from error
    if not isinstance(message, dict) or "kind" not in message:
        raise BrokenFrame("the header is not a message")
    return message


def send_blocking(channel: socket.socket, message: Message, payload: bytes = b"") -> None:
    """Send one frame from the engine's side."""
    channel.sendall(pack(message, len(payload)))
    if payload:
        channel.sendall(payload)


def receive_blocking(channel: socket.socket) -> tuple[Message, bytearray] | None:
    """Wait for one frame on the engine's side; ``None`` when the front has closed.

    Raises:
        BrokenFrame: The front closed in mid-frame, or what it sent is no message.
    """
    raw = _receive_exactly(channel, _LENGTHS.size)
    if not raw:
        return None
    header_bytes, payload_bytes = _lengths(bytes(raw))
    header = _receive_exactly(channel, header_bytes)
    payload = _receive_exactly(channel, payload_bytes)
    if len(header) < header_bytes or len(payload) < payload_bytes:
        raise BrokenFrame("closed in mid-frame")
    return _parse(bytes(header)), payload


def _receive_exactly(channel: socket.socket, count: int) -> bytearray:
    """Receive this many bytes; fewer only when the other side closed."""
    buffer = bytearray(count)
    view = memoryview(buffer)
    received = 0
    while received < count:
        step = channel.recv_into(view[received:])
        if step == 0:
            view.release()
            return buffer[:received]
        received += step
    return buffer


async def send(writer: asyncio.StreamWriter, message: Message, payload: bytes = b"") -> None:
    """Send one frame from the front's side."""
    writer.write(pack(message, len(payload)))
    if payload:
        writer.write(payload)
    await writer.drain()


async def receive(reader: asyncio.StreamReader) -> tuple[Message, bytes]:
    """Wait for one frame on the front's side.

    Raises:
        BrokenFrame: The engine has closed, or what it sent is no message.
    """
    try:
        header_bytes, payload_bytes = _lengths(await reader.readexactly(_LENGTHS.size))
        header = await reader.readexactly(header_bytes)
        payload = await reader.readexactly(payload_bytes) if payload_bytes else b""
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise BrokenFrame("the engine closed the channel") from error
    return _parse(header), payload
