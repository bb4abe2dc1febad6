"""The body of an answer must not wait for the acknowledgement of its head."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from steadyocr.api import listeners
from steadyocr.settings import load_settings


@pytest.mark.parametrize("handed_over", [False, True])
def test_accepted_connections_send_small_pieces_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handed_over: bool
) -> None:
    settings, _ = load_settings({"data_dir": str(tmp_path), "server": {"port": 0}}, environ={})
    environ = {}
    given = socket.create_server(("127.0.0.1", 0))
    if handed_over:
        monkeypatch.setattr(listeners, "_FIRST_FD", os.dup(given.fileno()))
        environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
    opened = listeners.open_listeners(settings, environ)
    assert opened.inherited is handed_over
    try:
        opened.sockets[0].setblocking(True)
        with socket.create_connection(opened.sockets[0].getsockname()[:2], timeout=10):
            accepted, _ = opened.sockets[0].accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    finally:
        opened.close()
        given.close()
