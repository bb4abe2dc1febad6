"""Handed-over sockets. They come as descriptor 3 of a process, so each case is a process of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from steadyocr.api.listeners import open_listeners
from steadyocr.errors import ConfigError
from steadyocr.settings import load_settings
from support import clean_environment

PROGRAM = """
import json, os, sys
from steadyocr.api.listeners import open_listeners
from steadyocr.errors import ConfigError
from steadyocr.settings import load_settings
if os.environ["LISTEN_PID"] == "self":
    os.environ["LISTEN_PID"] = str(os.getpid())
try:
    listeners = open_listeners(load_settings({"server": {"port": 0}})[0])
except ConfigError as error:
    print(json.dumps({"error": error.message}))
else:
    print(json.dumps({
        "url": listeners.url,
        "inherited": listeners.inherited,
        "leaves": [stream.get_inheritable() for stream in listeners.sockets],
        "left": sorted(name for name in os.environ if name.startswith("LISTEN")),
    }))
"""


def handed_over(stream: socket.socket, tmp_path: Path, pid: str = "self", **settings: str) -> dict[str, Any]:
    environment = clean_environment(tmp_path, **settings)
    environment |= {"LISTEN_PID": pid, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "http"}
    done = subprocess.run(
        ["bash", "-c", f'exec 3<&{stream.fileno()}; exec "$@"', "-", sys.executable, "-c", PROGRAM],
        env=environment,
        pass_fds=[stream.fileno()],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_handed_over_socket_is_used_and_nothing_of_it_reaches_children(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stream:
        found = handed_over(stream, tmp_path)
        port = stream.getsockname()[1]
    assert found == {"url": f"http://127.0.0.1:{port}", "inherited": True, "leaves": [False], "left": []}


def test_a_socket_meant_for_another_process_is_left_alone(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stream:
        found = handed_over(stream, tmp_path, pid="1")
        port = stream.getsockname()[1]
    assert found["inherited"] is False
    assert found["url"] != f"http://127.0.0.1:{port}"


def test_a_handed_over_public_address_needs_a_key_too(tmp_path: Path) -> None:
    with socket.create_server(("0.0.0.0", 0)) as stream:
        assert "API key" in handed_over(stream, tmp_path)["error"]
        assert handed_over(stream, tmp_path, auth__api_keys="secret")["inherited"] is True


def test_a_unix_socket_is_guarded_by_its_folder(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stream:
        stream.bind(f"{tmp_path}/http")
        stream.listen()
        assert handed_over(stream, tmp_path)["url"] == f"unix:{tmp_path}/http"


def test_what_accepts_no_connections_is_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("127.0.0.1", 0))
        assert "accepts no connections" in handed_over(datagrams, tmp_path)["error"]


def test_a_missing_descriptor_is_explained(tmp_path: Path) -> None:
    settings = load_settings({"server": {"port": 0}}, environ={"STEADYOCR_DATA_DIR": str(tmp_path)})[0]
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "900"}
    # Whatever this test process has open, it has not 900 listening sockets.
    with pytest.raises(ConfigError, match="handed over descriptor"):
        open_listeners(settings, environ)
