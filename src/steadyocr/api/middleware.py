"""What every request passes: an id, the key check, the body's bounds, one log line. Plain ASGI, so streaming stays."""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from http import HTTPStatus

# The router's own: what is let through here must be what is answered there, or a key could be talked round.
from starlette._utils import get_route_path
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from steadyocr.api.errors import problem_of
from steadyocr.api.incoming_body import BodyRules, IncomingBody
from steadyocr.api.strangers import StrangerRules
from steadyocr.errors import InternalError, SteadyOCRError, Unauthorized
from steadyocr.service.body_budget import BodyBudget
from steadyocr.telemetry.logging import request_id_var

_log = logging.getLogger("steadyocr.http")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Probes must work for those who watch the service and hold no key.
OPEN_PATHS = frozenset({"/livez", "/readyz", "/healthz"})
_QUIET_PATHS = OPEN_PATHS | {"/metrics"}
# An answer goes out in pieces of this size, each when the client has taken the one before: what it has not taken is
# held once, where it is counted, and not a second time in the connection's buffer.
_PIECE_BYTES = 256 << 10
_CLOSING = frozenset({HTTPStatus.REQUEST_TIMEOUT})


OnAnswer = Callable[[str, str, int | None, float], None]


class RequestGate:
    """The outermost layer of the application.

    Args:
        app: What comes next.
        api_keys: Accepted keys; none means open.
        bodies: What a body may be.
        budget: Where the bytes are counted that requests hold.
        open_paths: Exact paths that need no key, besides the probes.
        open_prefixes: What lies below these needs none either.
        strangers: What is asked of a request where there are no keys.
        on_answer: Told of each answer: method, route template, status, seconds.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        api_keys: Sequence[str],
        bodies: BodyRules,
        budget: BodyBudget,
        open_paths: Collection[str] = (),
        open_prefixes: Collection[str] = (),
        strangers: StrangerRules | None = None,
        on_answer: OnAnswer = lambda *_: None,
    ) -> None:
        self._app = app
        self._keys = [key.encode() for key in api_keys]
        self._bodies = bodies
        self._budget = budget
        self._open_paths = OPEN_PATHS.union(open_paths)
        self._open_prefixes = tuple(f"{prefix}/" for prefix in open_prefixes)
        self._strangers = strangers or StrangerRules(None)
        self._on_answer = on_answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        offered = headers.get("x-request-id", "")
        request_id = offered if _REQUEST_ID.fullmatch(offered) else uuid.uuid4().hex
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        # A client counts its time from here, not from the end of its upload.
        state["arrived"] = asyncio.get_running_loop().time()
        token = request_id_var.set(request_id)
        exchange = Exchange(scope, send, request_id)
        try:
            await self._guarded(scope, headers, receive, exchange)
        finally:
            self._on_answer(*exchange.log())
            request_id_var.reset(token)

    async def _guarded(self, scope: Scope, headers: Headers, receive: Receive, exchange: Exchange) -> None:
        body: IncomingBody | None = None
        try:
            # Less the prefix of a proxy that does not strip it.
            path = get_route_path(scope)
            self._check_access(scope, path, headers)
            body = IncomingBody(self._bodies, self._budget, path, headers, receive)
            exchange.hold_answer = body.hold_answer
            await self._app(scope, body.receive, exchange.send)
        except SteadyOCRError as error:
            await exchange.refuse(problem_of(error), scope, receive)
        except Exception:  # noqa: BLE001 - the edge: a fault of ours becomes an opaque answer whose id is in the log
            _log.exception("Unexpected failure of a request")
            fault = InternalError("an unexpected fault; the log has the trace under this request id")
            await exchange.refuse(problem_of(fault), scope, receive)
        finally:
            if body is not None:
                body.close()

    def _check_access(self, scope: Scope, path: str, headers: Headers) -> None:
        if path in OPEN_PATHS:
            return
        if not self._keys:
            self._strangers.check(scope["method"], headers)
            return
        if path in self._open_paths or f"{path}/".startswith(self._open_prefixes):
            return
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        offered = (bearer.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")).encode()
        # Every key is compared, each in constant time, so that timing tells nothing.
        matches = [hmac.compare_digest(offered, key) for key in self._keys]
        if not any(matches):
            raise Unauthorized("an API key is needed: send 'Authorization: Bearer KEY' or 'X-API-Key: KEY'")
        # Its place in the list names the client, for fairness; the key itself goes no further.
        scope["state"]["key_id"] = f"key-{matches.index(True)}"


class Exchange:
    """One request's answer on its way out: headers added, outcome remembered for the log.

    Attributes:
        hold_answer: Told of the bytes of an answer that does not fit into the connection's buffer; below zero, that
            so many have left.
    """

    def __init__(self, scope: Scope, send: Send, request_id: str) -> None:
        self._scope = scope
        self._send = send
        self._request_id = request_id
        self._started = time.perf_counter()
        self._status: int | None = None
        self.hold_answer: Callable[[int], None] = lambda _: None

    async def send(self, message: Message) -> None:
        """Pass a message on."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self._request_id
            headers.setdefault("X-Content-Type-Options", "nosniff")
            headers.setdefault("Cache-Control", "no-store")
            if self._status in _CLOSING:
                # The rest of the body may still come; it is not the beginning of another request.
                headers["Connection"] = "close"
        body = message.get("body", b"")
        if len(body) <= _PIECE_BYTES:
            await self._send(message)
            return
        self.hold_answer(len(body))
        for start in range(0, len(body), _PIECE_BYTES):
            more = message.get("more_body", False) or start + _PIECE_BYTES < len(body)
            await self._send({**message, "body": body[start : start + _PIECE_BYTES], "more_body": more})
        if message.get("more_body", False):
            # A part of a stream, and gone: a download of any length holds no more than one part at a time.
            self.hold_answer(-len(body))

    async def refuse(self, answer: ASGIApp, scope: Scope, receive: Receive) -> None:
        """Answer with an error, unless an answer has begun already: then only closing is left."""
        if self._status is None:
            await answer(scope, receive, self.send)

    def log(self) -> tuple[str, str, int | None, float]:
        """Write the one line of this request; returns method, route template, status and seconds."""
        path = self._scope["path"]
        level = logging.DEBUG if path in _QUIET_PATHS else logging.INFO
        route = getattr(self._scope.get("route"), "path", "unknown")
        duration_ms = round((time.perf_counter() - self._started) * 1000, 1)
        extra = {
            "method": self._scope["method"],
            "route": route,
            "status": self._status,
            "duration_ms": duration_ms,
        }
        _log.log(level, "Request answered", extra=extra)
        return self._scope["method"], route, self._status, duration_ms / 1000
