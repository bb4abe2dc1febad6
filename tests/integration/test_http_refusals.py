"""What is refused, and how: one shape of error, the right status, no cost."""

from __future__ import annotations

import base64
import os
import signal
import socket
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psutil
import pytest
from PIL import Image

from support import KnownPicture, RunningServer, encoded, running_server, texts_of, wait_until

KEY = "let-me-in"
MAX_BYTES = 200_000


@pytest.fixture(scope="module")
def strict(remembering: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with keys, one engine and little room."""
    with running_server(
        tmp_path_factory.mktemp("strict"),
        remembering,
        auth__api_keys=f"other,{KEY}",
        engines__count="1",
        queue__max_size="2",
        limits__max_bytes=str(MAX_BYTES),
    ) as running:
        running.client.headers["Authorization"] = f"Bearer {KEY}"
        yield running


def check_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["code"] == code
    assert body["type"] == f"urn:steadyocr:error:{code}"
    assert body["status"] == status
    assert body["request_id"] == answer.headers["x-request-id"]
    assert body["title"]
    assert body["detail"]
    assert isinstance(body["retryable"], bool)
    return body


def bomb(width: int = 16_000, height: int = 11_000) -> bytes:
    """A black gray-scale PNG of which every row packs to next to nothing."""
    packer = zlib.compressobj(9)
    row = b"\0" * (1 + width)
    packed = b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()])
    small = encoded(Image.new("RGB", (1, 1)))

    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return small[:8] + chunk(b"IHDR", size + b"\x08\0\0\0\0") + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


BAD_PICTURES: dict[str, tuple[bytes, int, str]] = {
    "empty": (b"", 422, "empty_input"),
    "garbage": (b"\x07" * 5000, 415, "unsupported_media_type"),
    "a text": ("这不是图片".encode(), 415, "unsupported_media_type"),
    "a PDF": (b"%PDF-1.7\n", 415, "unsupported_media_type"),
    "only a signature": (b"\x89PNG\r\n\x1a\n", 422, "undecodable_image"),
    "too thin": (encoded(Image.new("1", (9000, 20))), 422, "side_ratio_exceeded"),
}


@pytest.mark.parametrize("name", BAD_PICTURES)
@pytest.mark.parametrize("route", ["/v1/ocr", "/v1/detect"])
def test_a_picture_that_cannot_be_read_is_refused_by_its_kind(server: RunningServer, route: str, name: str) -> None:
    data, status, code = BAD_PICTURES[name]
    body = check_problem(server.client.post(route, content=data), status, code)
    assert body["retryable"] is False


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
@pytest.mark.parametrize("kept", [0.25, 0.6])
def test_a_cut_off_picture_is_refused(server: RunningServer, english: KnownPicture, kind: str, kept: float) -> None:
    data = encoded(english.image, kind)
    check_problem(server.client.post("/v1/ocr", content=data[: int(len(data) * kept)]), 422, "undecodable_image")


def test_after_all_that_the_next_picture_is_read_by_the_same_engine(
    server: RunningServer, english: KnownPicture
) -> None:
    for data, _, _ in BAD_PICTURES.values():
        server.client.post("/v1/ocr", content=data)
    assert texts_of(server.ocr(english.data)) == english.texts
    assert server.info()["engines"][0]["restarts"] == 0


def test_a_bomb_is_refused_from_its_header_and_costs_nothing(server: RunningServer) -> None:
    data = bomb()
    assert len(data) < 250_000
    front, engine = psutil.Process(server.pid), psutil.Process(server.engine_pid())
    items = server.info()["engines"][0]["items"]
    before = engine.memory_info().rss, front.memory_info().rss
    cpu_before = sum(engine.cpu_times()[:2])
    body = check_problem(server.client.post("/v1/ocr", content=data), 413, "too_many_pixels")
    assert (body["width"], body["height"]) == (16_000, 11_000)
    assert engine.memory_info().rss <= before[0] + (4 << 20)
    assert front.memory_info().rss <= before[1] + (16 << 20)
    assert sum(engine.cpu_times()[:2]) - cpu_before < 0.2
    assert server.info()["engines"][0]["items"] == items, "no engine has seen it"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"bin_threshold": "2"}, "bin_threshold"),
        ({"bin_threshold": "nan"}, "bin_threshold"),
        ({"max_side": "1e3"}, "max_side"),
        ({"recognise": "perhaps"}, "recognise"),
        ({"format": "docx"}, "format"),
        ({"thresold": "0.2"}, "thresold"),
    ],
)
def test_a_bad_option_is_named(
    server: RunningServer, english: KnownPicture, options: dict[str, str], named: str
) -> None:
    by_query = server.client.post("/v1/ocr", params=options, content=english.data)
    by_form = server.client.post("/v1/ocr", data=options, files={"file": english.data})
    for answer in (by_query, by_form):
        assert check_problem(answer, 422, "invalid_option")["option"] == named


NOT_REQUESTS: dict[str, dict[str, Any]] = {
    "no JSON": {"content": b"{", "headers": {"Content-Type": "application/json"}},
    "deep JSON": {"content": b"[" * 100_000, "headers": {"Content-Type": "application/json"}},
    "a list": {"json": [1]},
    "a number": {"json": {"image": 5}},
    "no base64": {"json": {"image": "*not base64*"}},
    "half a prefix": {"json": {"image": "data:image/png;base64,@@"}},
    "a form without boundary": {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}},
    "a form that is none": {"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
    "another field": {"files": {"image": b"1234"}},
    "a form in a charset that is none": {
        "content": b'--b\r\nContent-Disposition: form-data; name="lang"\r\n\r\nx\r\n--b--\r\n',
        "headers": {"Content-Type": "multipart/form-data; boundary=b; charset=undefined"},
    },
    "two files": {"files": [("file", b"1234"), ("file", b"1234")]},
}


@pytest.mark.parametrize("name", NOT_REQUESTS)
def test_a_body_that_is_not_what_it_says_is_refused(server: RunningServer, name: str) -> None:
    answer = server.client.post("/v1/ocr", **NOT_REQUESTS[name])
    if name == "a form that is none" and answer.status_code == 422:
        check_problem(answer, 422, "empty_input")
    else:
        check_problem(answer, 400, "invalid_request")


@pytest.mark.parametrize(
    "body", [{"json": {}}, {"json": {"image": ""}}, {"files": {"file": b""}}, {"data": {"a": "b"}}]
)
def test_a_request_without_a_picture_says_where_to_put_it(server: RunningServer, body: dict[str, Any]) -> None:
    answer = server.client.post("/v1/ocr", **body)
    if body == {"data": {"a": "b"}}:  # a plain form is taken for the raw body of a picture
        check_problem(answer, 415, "unsupported_media_type")
    else:
        assert "'file'" in check_problem(answer, 422, "empty_input")["detail"]


def test_an_error_may_quote_half_a_character(server: RunningServer) -> None:
    raw = b'{"image": "AAAA", "\\ud800": 1}'
    answer = server.client.post("/v1/ocr", content=raw, headers={"Content-Type": "application/json"})
    assert check_problem(answer, 422, "invalid_option")["option"] == "\ud800"


def test_a_page_of_another_site_gets_nothing(server: RunningServer, english: KnownPicture) -> None:
    for path in ("/", "/v1/info", "/v1/history"):
        answer = server.client.get(path, headers={"Host": "evil.example"})
        assert "allowed_hosts" in check_problem(answer, 403, "forbidden")["detail"]
    assert server.client.get("/readyz", headers={"Host": "evil.example"}).status_code == 200
    foreign = {"Sec-Fetch-Site": "cross-site", "Content-Type": "text/plain"}
    check_problem(server.client.post("/v1/ocr", content=english.data, headers=foreign), 403, "forbidden")
    check_problem(server.client.delete("/v1/history", headers=foreign), 403, "forbidden")


def test_an_unknown_route_and_a_wrong_method_are_problems_too(server: RunningServer) -> None:
    check_problem(server.client.get("/v1/nothing"), 404, "not_found")
    answer = server.client.get("/v1/ocr")
    check_problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize("value", ["soon", "0", "-1", "nan", "inf", ""])
def test_a_timeout_that_is_no_time_is_refused(server: RunningServer, english: KnownPicture, value: str) -> None:
    answer = server.client.post("/v1/ocr", content=english.data, headers={"X-Request-Timeout": value})
    assert "X-Request-Timeout" in check_problem(answer, 400, "invalid_request")["detail"]


def test_a_timeout_that_is_too_short_runs_out(server: RunningServer, english: KnownPicture) -> None:
    answer = server.client.post("/v1/ocr", content=english.data, headers={"X-Request-Timeout": "0.001"})
    assert check_problem(answer, 504, "deadline_exceeded")["retryable"] is True
    assert texts_of(server.ocr(english.data)) == english.texts


def test_a_good_request_id_is_kept(server: RunningServer) -> None:
    answer = server.client.get("/livez", headers={"X-Request-Id": "trace-1.A_b"})
    assert answer.headers["x-request-id"] == "trace-1.A_b"


@pytest.mark.parametrize("hostile", ["a b", "x" * 65, 'a"b', "a;b", "<b>", "ü", "a/b", ""])
def test_a_hostile_request_id_is_replaced(server: RunningServer, hostile: str) -> None:
    answer = server.client.get("/nothing", headers=[(b"X-Request-Id", hostile.encode())])
    body = check_problem(answer, 404, "not_found")
    assert len(body["request_id"]) == 32
    assert body["request_id"].isalnum()


def test_every_request_is_logged_once_with_its_id_and_without_its_content(
    server: RunningServer, english: KnownPicture
) -> None:
    files = {"file": ("private-name.png", english.data)}
    server.client.post("/v1/ocr", files=files, headers={"X-Request-Id": "logged-once"}).raise_for_status()

    def lines() -> list[dict[str, Any]]:
        return [entry for entry in list(server.log) if entry.get("request_id") == "logged-once"]

    wait_until(lines)
    (entry,) = lines()
    assert (entry["method"], entry["route"], entry["status"]) == ("POST", "/v1/ocr", 200)
    assert entry["duration_ms"] > 0
    assert "private-name" not in str(server.log)


def test_without_a_key_nothing_but_the_probes_answers(strict: RunningServer, english: KnownPicture) -> None:
    with httpx.Client(base_url=strict.url, trust_env=False) as anonymous:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"X-API-Key": "ü"}, {"Authorization": f"Basic {KEY}"}):
            raw = [(name.encode(), value.encode()) for name, value in headers.items()]
            answer = anonymous.post("/v1/ocr", content=english.data, headers=raw)
            check_problem(answer, 401, "unauthorized")
            assert answer.headers["www-authenticate"].startswith("Bearer")
        for path in ("/v1/info", "/v1/options", "/openapi.json", "/nothing"):
            check_problem(anonymous.get(path), 401, "unauthorized")
        for path in ("/livez", "/readyz", "/healthz"):
            assert anonymous.get(path).status_code == 200


def test_each_key_opens_by_either_header(strict: RunningServer) -> None:
    with httpx.Client(base_url=strict.url, trust_env=False) as client:
        for headers in ({"Authorization": f"Bearer {KEY}"}, {"authorization": "bearer other"}, {"X-API-Key": KEY}):
            assert client.get("/v1/info", headers=headers).status_code == 200


def test_keys_show_nowhere(strict: RunningServer) -> None:
    assert KEY not in strict.client.get("/v1/info").text
    assert KEY not in str(strict.log)


def padded(picture: bytes, size: int) -> bytes:
    """The same picture with bytes behind its end, which decoders do not mind."""
    return picture + b"\0" * (size - len(picture))


def test_a_picture_of_just_the_limit_is_read_and_one_byte_more_is_not(
    strict: RunningServer, english: KnownPicture
) -> None:
    assert texts_of(strict.ocr(padded(english.data, MAX_BYTES))) == english.texts
    answer = strict.client.post("/v1/ocr", content=padded(english.data, MAX_BYTES + 1))
    assert check_problem(answer, 413, "payload_too_large")["max_bytes"] == MAX_BYTES


@pytest.mark.parametrize("way", ["announced", "chunked", "form", "json"])
def test_a_body_far_over_the_limit_is_refused(strict: RunningServer, english: KnownPicture, way: str) -> None:
    data = padded(english.data, 2 * MAX_BYTES)
    bodies: dict[str, dict[str, Any]] = {
        "announced": {"content": data},
        "chunked": {"content": (data[at : at + 4096] for at in range(0, len(data), 4096))},
        "form": {"files": {"file": data}},
        "json": {"json": {"image": base64.b64encode(data).decode()}},
    }
    check_problem(strict.client.post("/v1/ocr", **bodies[way]), 413, "payload_too_large")
    assert texts_of(strict.ocr(english.data)) == english.texts


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(strict: RunningServer, english: KnownPicture) -> None:
    def ask(_: int) -> httpx.Response:
        return httpx.post(
            f"{strict.url}/v1/ocr", content=english.data, headers={"X-API-Key": KEY}, timeout=60, trust_env=False
        )

    wait_until(lambda: strict.info()["engines"][0]["state"] == "ready")
    engine = strict.engine_pid()
    with ThreadPoolExecutor(3) as pool:
        # An engine that stands still, so that the queue fills whatever the speed of the machine.
        os.kill(engine, signal.SIGSTOP)
        try:
            accepted = [pool.submit(ask, 0)]
            wait_until(lambda: strict.info()["engines"][0]["state"] == "busy")
            accepted += [pool.submit(ask, index) for index in (1, 2)]
            wait_until(lambda: strict.info()["queue"]["waiting"] == 2)
            # The answer comes while the engine stands still.
            refusal = strict.client.post("/v1/ocr", content=english.data)
            assert strict.client.get("/readyz").status_code == 200, "busy is not dead"
            assert strict.client.get("/healthz").json()["source"] in ("busy", "traffic")
        finally:
            os.kill(engine, signal.SIGCONT)
        answers = [task.result() for task in accepted]
    assert check_problem(refusal, 503, "queue_full")["retryable"] is True
    assert int(refusal.headers["retry-after"]) >= 1
    assert [texts_of(answer.json()) for answer in answers] == [english.texts] * 3
    assert strict.engine_pid() == engine


def test_a_slow_sender_holds_nobody_up(server: RunningServer, english: KnownPicture) -> None:
    """A body that never ends is somebody's own problem."""
    address = httpx.URL(server.url)
    with socket.create_connection((address.host, address.port or 80), timeout=10) as stuck:
        stuck.sendall(b"POST /v1/ocr HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n")
        stuck.sendall(english.data[:1000])
        assert texts_of(server.ocr(english.data)) == english.texts
