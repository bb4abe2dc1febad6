"""A reverse proxy that puts a prefix in front of a server, as many set-ups do, in the plainest way."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

_HOP = {"connection", "transfer-encoding", "content-length", "host"}


@contextlib.contextmanager
def prefix_proxy(target: str, prefix: str) -> Iterator[str]:
    """Serve ``target`` under a prefix on a port of our own; gives the address with the prefix."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._pass_on()

        def do_POST(self) -> None:
            self._pass_on()

        def _pass_on(self) -> None:
            if not self.path.startswith(f"{prefix}/"):
                self.send_error(404)
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
            url = target + self.path.removeprefix(prefix)
            with client.stream(self.command, url, content=body, headers=headers) as answer:
                self.send_response(answer.status_code)
                for name, value in answer.headers.items():
                    if name.lower() not in _HOP:
                        self.send_header(name, value)
                self.end_headers()
                # As it comes, or there would be no event streams; the end is where the connection ends.
                with contextlib.suppress(ConnectionError):
                    for part in answer.iter_raw():
                        self.wfile.write(part)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with httpx.Client(trust_env=False, timeout=60) as client, ThreadingHTTPServer(("127.0.0.1", 0), Handler) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, name="prefix-proxy", daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{proxy.server_port}{prefix}"
        proxy.shutdown()
        thread.join(5)
