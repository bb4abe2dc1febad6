"""A webhook on this machine that answers as told: with a status, or not at all."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FakeWebhook:
    """Where it is and what it got.

    Attributes:
        statuses: Answers to the next posts; 200 when there are none left.
        hanging: Posts are not answered until this is cleared.
        got: Bodies of the posts answered with 200.
        attempts: All posts.
    """

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.hanging = False
        self.got: list[dict[str, Any]] = []
        self.attempts = 0
        self._released = threading.Event()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                hook.attempts += 1
                if hook.hanging:
                    hook._released.wait(240)
                    return
                status = hook.statuses.pop(0) if hook.statuses else 200
                if status == 200:
                    hook.got.append(body)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True

    def url(self, secret: str) -> str:
        """Its address as apprise writes it."""
        return f"json://127.0.0.1:{self.server.server_port}/{secret}"

    @property
    def titles(self) -> list[str]:
        return [body["title"] for body in self.got]

    def release(self) -> None:
        self.hanging = False
        self._released.set()


@contextlib.contextmanager
def fake_webhook() -> Iterator[FakeWebhook]:
    hook = FakeWebhook()
    thread = threading.Thread(target=hook.server.serve_forever, kwargs={"poll_interval": 0.02}, name="fake-webhook")
    thread.start()
    try:
        yield hook
    finally:
        hook.release()
        hook.server.shutdown()
        hook.server.server_close()
        thread.join(10)
