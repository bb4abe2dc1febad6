"""Connections of clients that do not behave: too many, silent, or slow to take their answer.

The HTTP server underneath has no such bounds: a connection that never says anything, or that never reads what it
asked for, would keep its place and its buffers for ever.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import ClassVar, Final

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from steadyocr.api.errors import problem, problem_of
from steadyocr.api.middleware import OPEN_PATHS
from steadyocr.errors import QueueFull

# Those over the bound are told so; from here on there is nothing to tell it with.
_POLITE_EXTRA: Final = 64
# Looks at a connection within the shortest of its times.
_LOOKS: Final = 4
# What counts as taking an answer.
_PROGRESS_BYTES: Final = 64 << 10
_RETRY_AFTER_S: Final = 5.0
# Address and headers of a request; also what may come in a row that is neither: trailers, extensions of chunks.
# Browsers and proxies send a few KiB. The parser beneath keeps it all, in quadratic time for a value without an end.
_MAX_HEAD_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """What a client may take.

    Attributes:
        max_connections: Of all clients together; probes answer even beyond.
        silence_s: Seconds without a request that has begun.
        write_stall_s: Seconds in which an answer must get on.
    """

    max_connections: int
    silence_s: float = 30.0
    write_stall_s: float = 30.0

    @property
    def look_every_s(self) -> float:
        """Seconds between two looks at a connection."""
        return min(self.silence_s, self.write_stall_s) / _LOOKS


def guarded_protocol(limits: ConnectionLimits) -> type[HttpToolsProtocol]:
    """Return the protocol of a server under these limits."""
    return type("BoundGuardedProtocol", (GuardedProtocol,), {"limits": limits})


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with an eye on each connection."""

    limits: ClassVar[ConnectionLimits]
    _timer: asyncio.TimerHandle | None = None
    _idle_since: float | None = None
    _unsent = 0
    _unsent_since = 0.0
    _in_head = False
    # Bytes in a row that were neither the end of a head nor of a body's.
    _unparsed = 0
    _got_on = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or turn it away."""
        super().connection_made(transport)
        over = len(self.connections) - self.limits.max_connections
        if over > _POLITE_EXTRA:
            transport.abort()
            return
        if over > 0:
            self.app = _only_probes(self.app)
        self._idle_since = self.loop.time()
        self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what has come; a head that does not end is refused, whatever else does not end is cut off."""
        self._got_on = False
        super().data_received(data)
        self._unparsed = 0 if self._got_on else self._unparsed + len(data)
        if self._unparsed <= _MAX_HEAD_BYTES or self.transport.is_closing():
            return
        cycle: RequestResponseCycle | None = self.cycle
        if not self._in_head or (cycle is not None and not cycle.response_complete):
            # An answer may have begun, to this request or to the one before it: ours would lie in the midst of it.
            self.transport.abort()
            return
        refusal = _head_refused()
        lines = [b"HTTP/1.1 %d %s" % (refusal.status_code, HTTPStatus(refusal.status_code).phrase.encode())]
        lines += [name + b": " + value for name, value in refusal.raw_headers]
        self.transport.write(b"\r\n".join([*lines, b"", bytes(refusal.body)]))
        self.transport.close()

    def on_message_begin(self) -> None:
        """A request has begun."""
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Have a request answered; one whose head is too large with that only, in however many pieces it came."""
        self._in_head, self._got_on = False, True
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size <= _MAX_HEAD_BYTES:
            super().on_headers_complete()
            return
        self.url = b"/"
        self.headers.clear()
        app, self.app = self.app, _head_refused()
        try:
            super().on_headers_complete()
        finally:
            self.app = app

    def on_body(self, body: bytes) -> None:
        """Take some of a body."""
        self._got_on = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is here whole."""
        self._got_on = True
        super().on_message_complete()

    def _look_later(self) -> None:
        self._timer = self.loop.call_later(self.limits.look_every_s, self._look)

    def _look(self) -> None:
        """End the connection when its client has done nothing for too long."""
        now = self.loop.time()
        if self._reads_too_slowly(now) or self._is_silent(now):
            # Not closed: that would wait for what is not taken.
            self.transport.abort()
            return
        self._look_later()

    def _reads_too_slowly(self, now: float) -> bool:
        unsent = self.transport.get_write_buffer_size()
        if not unsent or not self._unsent or unsent > self._unsent or self._unsent - unsent >= _PROGRESS_BYTES:
            self._unsent, self._unsent_since = unsent, now
        return bool(unsent) and now - self._unsent_since >= self.limits.write_stall_s

    def _is_silent(self, now: float) -> bool:
        """Whether no request is being answered and none has begun: headers that do not end, a body nobody wants."""
        cycle: RequestResponseCycle | None = self.cycle
        # An answer is complete for the server when the last of it is in the buffer, not when it is taken.
        if self.transport.get_write_buffer_size() or (cycle is not None and not cycle.response_complete):
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now
        return self._idle_since is not None and now - self._idle_since >= self.limits.silence_s


def _head_refused() -> Response:
    text = f"address and headers of a request may have {_MAX_HEAD_BYTES} bytes"
    refusal = problem(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large", text)
    refusal.headers["Connection"] = "close"
    return refusal


def _only_probes(app: ASGIApp) -> ASGIApp:
    """Answer for a connection too many. Who watches the service must still learn that it lives."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in OPEN_PATHS:
            await app(scope, receive, send)
            return
        refusal = problem_of(QueueFull("too many connections are open; try again later", retry_after_s=_RETRY_AFTER_S))
        refusal.headers["Connection"] = "close"
        await refusal(scope, receive, send)

    return answer
