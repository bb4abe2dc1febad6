"""A server as the command line sees it: requests that are repeated while it is away, uploads that are streamed."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from steadyocr import __version__
from steadyocr.cli.batch_files import Source
from steadyocr.errors import EmptyInput, InternalError, InvalidOption, SteadyOCRError, Unavailable, from_wire

_TIMEOUT_S: Final = 60.0
_CHUNK_BYTES: Final = 1 << 18
_FIRST_PAUSE_S: Final = 0.5
_MAX_PAUSE_S: Final = 15.0
# A server that is restarted is back by then; a batch at it goes on either way.
_PATIENCE_S: Final = 300.0
# Nobody has ever taken a connection there: the address may be wrong.
_FIRST_PATIENCE_S: Final = 15.0
_OK: Final = (200, 201, 202, 204)


@dataclass(frozen=True, slots=True)
class Form:
    """Files to send.

    Attributes:
        boundary: What stands between them.
    """

    files: Sequence[Source]
    boundary: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __iter__(self) -> Iterator[bytes]:
        """Go through the body, a piece at a time.

        Raises:
            EmptyInput: A file cannot be read any more.
        """
        for source in self.files:
            name = source.name.replace("\\", "\\\\").replace('"', '\\"').replace("\r", " ").replace("\n", " ")
            head = f'--{self.boundary}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n'
            yield f"{head}Content-Type: application/octet-stream\r\n\r\n".encode(errors="backslashreplace")
            try:
                with source.path.open("rb") as stream:
                    while chunk := stream.read(_CHUNK_BYTES):
                        yield chunk
            except OSError as error:
                raise EmptyInput(f"{source.path}: cannot be read: {error.strerror}") from error
            yield b"\r\n"
        yield f"--{self.boundary}--\r\n".encode()


class Remote:
    """Speaks to one server. Blocking; each request has a connection of its own.

    Args:
        url: Where the server is, a path prefix included.
        api_key: For a server that wants one.
        say: Told why it takes long, once for each request that has to wait for the server.
        sleep: For tests.

    Raises:
        InvalidOption: This is no URL of a server.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        say: Callable[[str], None] = lambda _: None,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        parts = urllib.parse.urlsplit(url)
        try:
            port = parts.port
        except ValueError as error:
            raise InvalidOption("this is not the URL of a server; write http://host:7860") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidOption("this is not the URL of a server; write http://host:7860")
        self._secure = parts.scheme == "https"
        self._host, self._port, self._prefix = parts.hostname, port, parts.path.rstrip("/")
        self._say = say
        self._over = threading.Event()
        self._sockets: set[socket.socket] = set()
        self._sleep = sleep or self._over.wait
        self._there_before = False
        self._headers = {"User-Agent": f"steadyocr/{__version__}", "Accept": "*/*"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"

    def close(self) -> None:
        """End what is sent and all waiting for the server, from any thread; those requests fail."""
        self._over.set()
        for sock in list(self._sockets):
            with contextlib.suppress(OSError):  # nobody is at the other end any more
                # Not TLS's own shutdown: it drops the cipher first, and another thread would send on without it.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def json(self, method: str, path: str, **query: object) -> Any:  # noqa: ANN401 - any JSON value
        """Send a request without a body and return the JSON of the answer.

        Raises:
            SteadyOCRError: What the server says is wrong; :class:`Unavailable` when it stays away.
        """
        body = self.content(method, path, **query)
        return json.loads(body) if body else None

    def content(self, method: str, path: str, **query: object) -> bytes:
        """Send a request without a body and return the answer as it is; see :meth:`json`."""
        return self._patiently(lambda: self._once(method, path, query))

    def upload(self, path: str, form: Form, headers: Mapping[str, str], **query: object) -> Any:  # noqa: ANN401
        """Send files and return the JSON of the answer. May send them again, so it must be given a key.

        Raises:
            SteadyOCRError: See :meth:`json`.
        """
        kind = {"Content-Type": f"multipart/form-data; boundary={form.boundary}"}
        return json.loads(self._patiently(lambda: self._once("POST", path, query, {**headers, **kind}, form)))

    def _patiently(self, attempt: Callable[[], bytes]) -> bytes:
        since: float | None = None
        pause_s, told = _FIRST_PAUSE_S, False
        while True:
            began = time.monotonic()
            try:
                return attempt()
            except Unavailable as error:
                now = time.monotonic()
                # Not before: an upload may have gone well for longer than a server is waited for, the next one too.
                if since is None or now - began > _PATIENCE_S:
                    since, pause_s, told = now, _FIRST_PAUSE_S, False
                wait_s = max(pause_s, error.retry_after_s or 0.0)
                patience_s = _PATIENCE_S if self._there_before else _FIRST_PATIENCE_S
                if self._over.is_set() or now + wait_s > since + patience_s:
                    raise
                if not told:
                    self._say(f"{error.message}; trying again")
                told = True
            self._sleep(wait_s)
            pause_s = min(pause_s * 2, _MAX_PAUSE_S)

    def _once(
        self,
        method: str,
        path: str,
        query: Mapping[str, object],
        headers: Mapping[str, str] | None = None,
        body: Form | None = None,
    ) -> bytes:
        connect = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = connect(self._host, self._port, timeout=_TIMEOUT_S)
        given = {name: _plain(value) for name, value in query.items() if value is not None}
        target = f"{self._prefix}{path}" + (f"?{urllib.parse.urlencode(given)}" if given else "")
        try:
            connection.connect()
            # An upload may be the first request of all, and be broken off long before there is an answer.
            self._there_before |= body is not None
            with self._until_closed(connection.sock):
                answer = _exchange(connection, method, target, {**self._headers, **(headers or {})}, body)
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"{self._host} does not answer: {_reason(error)}") from error
        finally:
            connection.close()
        self._there_before = True
        status, content = answer
        if status not in _OK:
            raise _problem(status, content)
        return content

    @contextlib.contextmanager
    def _until_closed(self, sock: socket.socket) -> Iterator[None]:
        # The socket, not its connection: that lets go of it while the answer is still read.
        self._sockets.add(sock)
        try:
            if self._over.is_set():  # closed while it was connecting: then nobody has seen the socket
                raise ConnectionAbortedError
            yield
        finally:
            self._sockets.discard(sock)


def _exchange(
    connection: http.client.HTTPConnection, method: str, target: str, headers: Mapping[str, str], body: Form | None
) -> tuple[int, bytes]:
    # Who breaks off before we are through has refused us; why is in the answer.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.request(method, target, iter(body) if body else None, dict(headers), encode_chunked=body is not None)
    answer = connection.getresponse()
    return answer.status, answer.read()


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return "its name is not known" if isinstance(error, socket.gaierror) else "the connection failed or broke off"


def _problem(status: int, content: bytes) -> SteadyOCRError:
    try:
        told = json.loads(content)
        error = from_wire({"code": told["code"], "message": told["detail"]})
    except (ValueError, KeyError, TypeError):
        error = InternalError(f"the server answered {status} and did not say why")
    if isinstance(error, InternalError) and status in (502, 503, 504):
        return Unavailable(f"the server answered {status}; it may be starting")
    return error
