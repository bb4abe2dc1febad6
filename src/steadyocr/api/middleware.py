"""What every request passes: an id, the key check, the body limit, one log line. Plain ASGI, so streaming stays."""

from __future__ import annotations

import hmac
import logging
import re
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from steadyocr.api.errors import problem_of
from steadyocr.errors import InternalError, PayloadTooLarge, SteadyOCRError, Unauthorized
from steadyocr.telemetry.logging import request_id_var

_log = logging.getLogger("steadyocr.http")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Probes must work for those who watch the service and hold no key.
_OPEN_PATHS = frozenset({"/livez", "/readyz", "/healthz"})
_QUIET_PATHS = _OPEN_PATHS | {"/metrics"}
# Form fields and boundaries around a picture.
_FORM_ALLOWANCE_BYTES = 64 << 10
# Base64 turns three bytes into four.
_BASE64_GROWTH = 4 / 3


OnAnswer = Callable[[str, str, int | None, float], None]


class RequestGate:
    """The outermost layer of the application.

    Args:
        app: What comes next.
        api_keys: Accepted keys; none means open.
        max_image_bytes: Largest encoded picture.
        open_paths: Exact paths that need no key, besides the probes.
        open_prefixes: Paths of mounted applications that check keys themselves.
        body_limits: Bytes of a body by exact path, where it may be something else than one picture.
        on_answer: Told of each answer: method, route template, status, seconds.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        api_keys: Sequence[str],
        max_image_bytes: int,
        open_paths: Collection[str] = (),
        open_prefixes: Collection[str] = (),
        body_limits: Mapping[str, int] | None = None,
        on_answer: OnAnswer = lambda *_: None,
    ) -> None:
        self._app = app
        self._keys = [key.encode() for key in api_keys]
        self._max_image_bytes = max_image_bytes
        self._open_paths = _OPEN_PATHS.union(open_paths)
        self._open_prefixes = tuple(f"{prefix}/" for prefix in open_prefixes)
        self._body_limits = dict(body_limits or {})
        self._on_answer = on_answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        offered = headers.get("x-request-id", "")
        request_id = offered if _REQUEST_ID.fullmatch(offered) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        token = request_id_var.set(request_id)
        exchange = _Exchange(scope, send, request_id)
        try:
            await self._guarded(scope, headers, receive, exchange)
        finally:
            self._on_answer(*exchange.log())
            request_id_var.reset(token)

    async def _guarded(self, scope: Scope, headers: Headers, receive: Receive, exchange: _Exchange) -> None:
        try:
            self._check_key(scope, headers)
            limited = self._limited(scope["path"], headers, receive)
            await self._app(scope, limited, exchange.send)
        except SteadyOCRError as error:
            await exchange.refuse(problem_of(error), scope, receive)
        except Exception:  # noqa: BLE001 - the edge: a fault of ours becomes an opaque answer whose id is in the log
            _log.exception("Unexpected failure of a request")
            fault = InternalError("an unexpected fault; the log has the trace under this request id")
            await exchange.refuse(problem_of(fault), scope, receive)

    def _check_key(self, scope: Scope, headers: Headers) -> None:
        if not self._keys or scope["path"] in self._open_paths or f"{scope['path']}/".startswith(self._open_prefixes):
            return
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        offered = (bearer.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")).encode()
        # Every key is compared, each in constant time, so that timing tells nothing.
        matches = [hmac.compare_digest(offered, key) for key in self._keys]
        if not any(matches):
            raise Unauthorized("an API key is needed: send 'Authorization: Bearer KEY' or 'X-API-Key: KEY'")
        # Its place in the list names the client, for fairness; the key itself goes no further.
        scope["state"]["key_id"] = f"key-{matches.index(True)}"

    def _limited(self, path: str, headers: Headers, receive: Receive) -> Receive:
        """Refuse a body that says it is too large at once, and one that turns out to be as soon as it does."""
        limit, refusal = self._body_limit(path, headers)
        announced = headers.get("content-length", "")
        if announced.isdigit() and int(announced) > limit:
            raise refusal
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise refusal
            return message

        return counted

    def _body_limit(self, path: str, headers: Headers) -> tuple[int, PayloadTooLarge]:
        """Return the bytes that a body may have, and what to say to one that has more."""
        if (limit := self._body_limits.get(path)) is not None:
            return limit, PayloadTooLarge(f"a body may have at most {limit} bytes here", max_bytes=limit)
        json_body = headers.get("content-type", "").startswith("application/json")
        limit = int(self._max_image_bytes * (_BASE64_GROWTH if json_body else 1)) + _FORM_ALLOWANCE_BYTES
        refusal = PayloadTooLarge(
            f"a picture may have at most {self._max_image_bytes} bytes", max_bytes=self._max_image_bytes
        )
        return limit, refusal


class _Exchange:
    """One request's answer on its way out: headers added, outcome remembered for the log."""

    def __init__(self, scope: Scope, send: Send, request_id: str) -> None:
        self._scope = scope
        self._send = send
        self._request_id = request_id
        self._started = time.perf_counter()
        self._status: int | None = None

    async def send(self, message: Message) -> None:
        """Pass a message on."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self._request_id
            headers.setdefault("X-Content-Type-Options", "nosniff")
            headers.setdefault("Cache-Control", "no-store")
        await self._send(message)

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
