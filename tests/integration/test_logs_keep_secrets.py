"""Nothing of a client's gets into any log: no picture, no file name, no text that was read, no key."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import zipfile
from pathlib import Path
from typing import Any

import pytest

from support import KnownPicture, RunningServer, running_server, wait_until

KEY = "key-that-nobody-may-see-4711"
WRONG_KEY = "wrong-key-that-nobody-may-see-0815"
FILE_NAME = "payroll-of-mrs-meyer.png"
FOLDER_NAME = "lawsuit-confidential"


def in_all_ways(server: RunningServer, picture: KnownPicture) -> None:
    """Everything that a client can send, right and wrong, with names and keys that are easy to find."""
    client = server.client
    files = {"file": (FILE_NAME, picture.data, "image/png")}
    assert client.post("/v1/ocr", files=files).status_code == 200
    assert client.post(f"/v1/ocr?{FOLDER_NAME}=1", files=files).status_code == 422
    for damaged in (picture.data[:2000], b"", FILE_NAME.encode() * 10):
        client.post("/v1/ocr", files={"file": (FILE_NAME, damaged, "image/png")})
    encoded = base64.b64encode(picture.data).decode()
    assert client.post("/v1/ocr", json={"image": encoded}).status_code in (200, 400, 422)
    client.post("/v1/ocr", content=b"{" + FILE_NAME.encode(), headers={"Content-Type": "application/json"})
    client.get(f"/{FOLDER_NAME}/{FILE_NAME}")
    client.get("/v1/info", headers={"X-API-Key": WRONG_KEY})
    client.get("/v1/info", headers={"Authorization": f"Bearer {WRONG_KEY}"})
    client.get("/v1/info", headers={"X-Request-Id": f"{FILE_NAME}/../{FOLDER_NAME}"})


def in_a_job(server: RunningServer, picture: KnownPicture) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr(f"{FOLDER_NAME}/{FILE_NAME}", picture.data)
        zipped.writestr(f"{FOLDER_NAME}/broken-{FILE_NAME}", b"no picture")
    files = [("files", (FILE_NAME, picture.data)), ("files", (FILE_NAME + ".zip", archive.getvalue()))]
    answer = server.client.post("/v1/jobs", files=files)
    assert answer.status_code == 202, answer.text
    location = answer.headers["location"]
    wait_until(lambda: server.client.get(location).json().get("state") == "done")


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory, english: KnownPicture) -> list[dict[str, Any]]:
    """All log lines of a server that was treated so, from standard error and from the files."""
    folder = tmp_path_factory.mktemp("secrets")
    settings: dict[str, Any] = {"auth__api_keys": KEY, "logging__files": "true", "logging__level": "debug"}
    with running_server(folder, **settings) as server:
        server.client.headers["X-API-Key"] = KEY
        in_all_ways(server, english)
        in_a_job(server, english)
        # Everything that is written about a death as well.
        os.kill(server.engine_pid(), signal.SIGKILL)
        wait_until(lambda: server.find_log("An engine ended and is replaced"))
    files = [path for path in folder.rglob("*.log*") if path.is_file()]
    assert {path.name for path in files} >= {"out.log", "error.log"}
    lines = [line for path in files for line in path.read_text(encoding="utf-8").splitlines()]
    return server.log + [json.loads(line) for line in lines]


def test_there_is_something_to_look_at(logged: list[dict[str, Any]]) -> None:
    assert len(logged) > 20
    assert {"debug", "info", "error"} <= {entry["level"] for entry in logged}


@pytest.mark.parametrize("secret", [KEY, WRONG_KEY, FILE_NAME, FOLDER_NAME, "Meyer", "payroll"])
def test_no_name_and_no_key_is_in_any_line(logged: list[dict[str, Any]], secret: str) -> None:
    assert [entry for entry in logged if secret.lower() in json.dumps(entry, ensure_ascii=False).lower()] == []


def test_no_text_and_no_picture_is_in_any_line(logged: list[dict[str, Any]], english: KnownPicture) -> None:
    for entry in logged:
        line = json.dumps(entry, ensure_ascii=False)
        assert not any(text in line for text in english.texts if len(text) > 8), entry["message"]
        assert base64.b64encode(english.data[:60]).decode() not in line
        # A picture in any disguise is long; a trace may be.
        assert len(json.dumps({key: value for key, value in entry.items() if key != "trace"})) < 2000


def test_lines_of_a_request_and_of_a_job_can_be_found(logged: list[dict[str, Any]]) -> None:
    assert all(entry.get("request_id") for entry in logged if entry["message"] == "Request answered")
    assert any(entry.get("job_id") for entry in logged)


def test_the_files_are_for_their_owner_only(
    logged: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder: Path = next(tmp_path_factory.getbasetemp().glob("secrets*")) / "logs"
    assert [oct(path.stat().st_mode & 0o777) for path in sorted(folder.iterdir())] == ["0o600", "0o600"]
