"""Jobs over HTTP, at a real server whose engines need no models."""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import signal
import socket
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from PIL import Image

from jobs_support import postgres_server
from steadyocr.cli.exit_codes import ExitCode
from support import LIGHT, RunningServer, encoded, run_cli, running_server, wait_until

BLANK = encoded(Image.new("RGB", (64, 32), "white"))
MAX_PICTURE = 100_000
MAX_UPLOAD = 3_000_000
SLOW_S = "0.15"
FORM = {"Content-Type": "multipart/form-data; boundary=b"}
# What a browser sends for a file field that nobody filled in.
UNUSED_FIELD = b'--b\r\nContent-Disposition: form-data; name="files"; filename=""\r\n\r\n\r\n--b--\r\n'

Files = list[tuple[str, tuple[str, bytes]]]


def picture(text: str) -> bytes:
    """What a light engine reads as this text."""
    return BLANK + f"#item:{text}".encode()


def pictures(*texts: str) -> Files:
    return [("files", (f"{text}.png", picture(text))) for text in texts]


def zipped(entries: dict[str, bytes], packing: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", packing) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return stream.getvalue()


class Client:
    """What a user does with jobs."""

    def __init__(self, server: RunningServer) -> None:
        self.http = server.client
        self.server = server

    def post(self, files: Files, path: str = "/v1/jobs", **how: Any) -> httpx.Response:
        return self.http.post(path, files=files, **how)

    def submit(self, files: Files, **how: Any) -> str:
        answer = self.post(files, **how)
        assert answer.status_code == 202, answer.text
        assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
        return str(answer.json()["id"])

    def get(self, job_id: str, what: str = "", **query: Any) -> Any:
        return self.http.get(f"/v1/jobs/{job_id}{what}", params=query).raise_for_status().json()

    def ended(self, job_id: str) -> dict[str, Any]:
        wait_until(lambda: self.get(job_id)["finished_at"] is not None)
        job: dict[str, Any] = self.get(job_id)
        return job

    def results(self, job_id: str, **query: Any) -> list[dict[str, Any]]:
        answer = self.http.get(f"/v1/jobs/{job_id}/results", params=query).raise_for_status()
        return [json.loads(line) for line in answer.text.splitlines()]

    def texts(self, job_id: str) -> list[str | None]:
        return [line["page"] and line["page"]["text"] for line in self.results(job_id)]

    def events(self, job_id: str, after: int | None = None) -> list[dict[str, Any]]:
        headers = {} if after is None else {"Last-Event-ID": str(after)}
        with self.http.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            return list(parsed(answer.iter_lines()))


def parsed(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    fields: dict[str, Any] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        if name == "data":
            fields["data"] = json.loads(value)
        elif name in ("id", "event"):
            fields[name] = value
        elif not line and "data" in fields:
            yield fields
            fields = {}


def refused(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    body: dict[str, Any] = answer.json()
    assert body["code"] == code
    return body


@contextlib.contextmanager
def light_server(folder: Path, *, work_s: str = "0.02", **settings: str) -> Iterator[Client]:
    usual: dict[str, Any] = {"engines__count": "1", "jobs__min_free_bytes": "0"}
    with contextlib.ExitStack() as running:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("LIGHT_ENGINE_WORK_S", work_s)
            server = running.enter_context(running_server(folder, LIGHT, **{**usual, **settings}))
        yield Client(server)


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with light_server(
        tmp_path_factory.mktemp("jobs"),
        limits__max_bytes=str(MAX_PICTURE),
        limits__max_pixels="1000000",
        jobs__max_files="20",
        jobs__max_upload_bytes=str(MAX_UPLOAD),
        jobs__max_unpacked_bytes=str(MAX_UPLOAD),
    ) as client:
        yield client


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Takes so long for a picture that much can be done meanwhile."""
    with light_server(tmp_path_factory.mktemp("slow"), work_s=SLOW_S, jobs__max_listeners="2") as client:
        yield client


def test_pictures_become_a_job_and_their_texts_its_results_in_order(jobs: Client) -> None:
    texts = [f"t{n}" for n in range(12)]
    job_id = jobs.submit(pictures(*texts), data={"meta": '{"of": "mine"}', "max_side": "640", "priority": "-3"})
    job = jobs.ended(job_id)
    assert jobs.texts(job_id) == texts
    assert (job["state"], job["total"], job["done"], job["running"], job["eta_s"]) == ("done", 12, 12, 0, 0.0)
    assert job["meta"] == {"of": "mine"}
    assert job["priority"] == -3
    assert job["options"]["max_side"] == 640
    line = jobs.results(job_id)[3]
    assert (line["position"], line["name"], line["state"], line["error"]) == (3, "t3.png", "done", None)


def test_what_is_wrong_with_one_picture_stays_with_it(jobs: Client) -> None:
    wide = encoded(Image.new("1", (5000, 1000)))
    files: Files = [
        *pictures("good"),
        ("files", ("notes.txt", b"no picture at all")),
        ("files", ("wide.png", wide)),
        ("files", ("heavy.png", picture("x") + b"\0" * MAX_PICTURE)),
        ("files", ("empty.png", b"")),
        *pictures("fine"),
    ]
    job_id = jobs.submit(files)
    job = jobs.ended(job_id)
    assert (job["done"], job["failed"]) == (2, 4)
    codes = [line["error"] and line["error"]["code"] for line in jobs.results(job_id)]
    expected = [None, "unsupported_media_type", "too_many_pixels", "payload_too_large", "empty_input", None]
    assert codes == expected
    failed = jobs.get(job_id, "/items", state="failed")["items"]
    assert [item["error"]["code"] for item in failed] == expected[1:-1]
    assert [item["name"] for item in failed] == ["notes.txt", "wide.png", "heavy.png", "empty.png"]


def test_a_large_picture_that_is_refused_on_the_way_is_not_kept(jobs: Client) -> None:
    # Larger than what is buffered, so that it is refused before its end.
    heavy = ("files", ("heavy.png", picture("x") + os.urandom(2_000_000)))
    job_id = jobs.submit([heavy, *pictures("after")])
    assert jobs.ended(job_id)["stored_bytes"] < MAX_PICTURE
    assert [line["state"] for line in jobs.results(job_id)] == ["failed", "done"]


def test_an_archive_is_unpacked_and_its_tricks_are_refused(jobs: Client) -> None:
    entries = {
        "scans/one.png": picture("one"),
        "../../evil.png": picture("evil"),
        "inner.zip": zipped({"deep.png": picture("deep")}),
        "scans/Thumbs.db": b"clutter",
        "note.txt": b"hello",
        "scans/two.png": picture("two"),
    }
    answer = jobs.http.post("/v1/jobs", content=zipped(entries), headers={"Content-Type": "application/zip"})
    job_id = answer.json()["id"]
    jobs.ended(job_id)
    archive, *lines = jobs.results(job_id)
    found = {line["name"]: (line["page"] or {}).get("text") or line["error"]["code"] for line in lines}
    assert found == {
        "scans/one.png": "one",
        "../../evil.png": "invalid_request",
        "inner.zip": "unsupported_media_type",
        "note.txt": "unsupported_media_type",
        "scans/two.png": "two",
    }
    assert (archive["kind"], archive["state"], archive["page"]) == ("expand", "done", None)


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (zipped({f"{n}.png": b"x" for n in range(21)}), 413, "payload_too_large"),
        (zipped({f"{n}.png": b"\0" * 900_000 for n in range(4)}, zipfile.ZIP_DEFLATED), 413, "payload_too_large"),
        (zipped({"a.png": picture("a")})[:-30], 400, "invalid_request"),
        (zipped({}), 422, "empty_input"),
    ],
    ids=["too many files", "bomb", "cut off", "empty"],
)
def test_a_dangerous_or_broken_archive_is_refused_at_once(jobs: Client, content: bytes, status: int, code: str) -> None:
    before = len(jobs.http.get("/v1/jobs").json()["jobs"])
    refused(jobs.post([*pictures("bystander"), ("files", ("all.zip", content))]), status, code)
    assert len(jobs.http.get("/v1/jobs").json()["jobs"]) == before


def test_a_full_archive_fits_although_it_is_an_item_itself(jobs: Client) -> None:
    job_id = jobs.submit([("files", ("all.zip", zipped({f"{n}.png": picture(f"n{n}") for n in range(20)})))])
    wait_until(lambda: jobs.get(job_id)["total"] == 21)
    assert jobs.ended(job_id)["done"] == 21


def test_too_many_files_and_too_many_bytes_are_refused_while_they_come(jobs: Client) -> None:
    refused(jobs.post(pictures(*(str(n) for n in range(21)))), 413, "payload_too_large")
    many = [("files", (f"{n}.png", b"\xff\xd8" + bytes(400_000))) for n in range(8)]
    refused(jobs.post(many), 413, "payload_too_large")

    sent = 0
    head = (
        "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    part = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    address = (jobs.http.base_url.host, jobs.http.base_url.port or 0)
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(head.encode() + b"%x\r\n%b\r\n" % (len(part), part))
        while not select.select([connection], [], [], 0)[0]:
            connection.sendall(b"10000\r\n" + bytes(65_536) + b"\r\n")
            sent += 65_536
            assert sent < 20 * MAX_UPLOAD, "it was not refused while it came"
        assert connection.recv(100).startswith(b"HTTP/1.1 413")
    assert sent > MAX_UPLOAD / 2
    assert leftovers(jobs) == []


def leftovers(jobs: Client) -> Sequence[Path]:
    data_dir = Path(jobs.server.info()["settings"]["data_dir"])
    return list((data_dir / "jobs" / "blobs" / "unfinished").iterdir())


def test_a_client_that_leaves_in_the_middle_leaves_nothing_behind(jobs: Client) -> None:
    def cut_off() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n\xff\xd8'
        yield bytes(1_200_000)
        raise ConnectionError("the user closed the lid")

    with pytest.raises(ConnectionError):
        jobs.http.post("/v1/jobs", content=cut_off(), headers=FORM)
    wait_until(lambda: jobs.server.info()["jobs"]["uploads"] == 0)
    wait_until(lambda: not leftovers(jobs))
    assert jobs.server.find_log("Unexpected failure of a request") is None


@pytest.mark.parametrize(
    ("how", "status", "code"),
    [
        ({"files": [("picture", ("a.png", BLANK))]}, 400, "invalid_request"),
        ({"content": UNUSED_FIELD, "headers": FORM}, 422, "empty_input"),
        ({"content": b"abc", "headers": {"Content-Type": "image/png"}}, 400, "invalid_request"),
        ({"content": b"", "headers": {"Content-Type": "application/zip"}}, 422, "empty_input"),
        ({"content": BLANK, "headers": {"Content-Type": "application/zip"}}, 400, "invalid_request"),
        (
            {"content": b"--b\r\nfoo", "headers": FORM},
            400,
            "invalid_request",
        ),
        ({"content": b"abc", "headers": {"Content-Type": "multipart/form-data"}}, 400, "invalid_request"),
        ({"files": pictures("a"), "data": {"colour": "red"}}, 422, "invalid_option"),
        ({"files": pictures("a"), "data": {"priority": "1000"}}, 422, "invalid_option"),
        ({"files": pictures("a"), "data": {"priority": "1.7"}}, 422, "invalid_option"),
        ({"files": pictures("a"), "data": {"deadline_s": "nan"}}, 422, "invalid_option"),
        ({"files": pictures("a"), "data": {"meta": "[1]"}}, 422, "invalid_option"),
        ({"files": pictures("a"), "data": {"meta": json.dumps({"a": "x" * 9000})}}, 422, "invalid_option"),
        ({"files": pictures("a"), "data": {"meta": '{"a": NaN}'}}, 422, "invalid_option"),
        ({"files": pictures("a"), "data": {"meta": '{"a": "\\ud800"}'}}, 422, "invalid_option"),
        ({"files": pictures("a"), "data": {"meta": '{"a": -Infinity}'}}, 422, "invalid_option"),
        ({"files": pictures("a"), "data": {"meta": '{"a": [1e999]}'}}, 422, "invalid_option"),
        ({"files": pictures("a"), "data": {"meta": '{"a":' + "[" * 900 + "]" * 900 + "}"}}, 422, "invalid_option"),
        ({"files": pictures("a"), "data": {"overlay": ["true"] * 33}}, 400, "invalid_request"),
        ({"content": UNUSED_FIELD[:-7] * 33 + b"\r\n--b--\r\n", "headers": FORM}, 400, "invalid_request"),
        ({"files": pictures("a"), "data": {"overlay": "perhaps"}}, 422, "invalid_option"),
        ({"files": pictures("a"), "data": {"callback_url": "https://example.com/x"}}, 422, "invalid_option"),
        ({"files": pictures("a"), "data": {"meta": "x" * 20_000}}, 400, "invalid_request"),
        ({"files": pictures("a"), "headers": {"Idempotency-Key": ""}}, 400, "invalid_request"),
        ({"files": pictures("a"), "headers": {"Idempotency-Key": "k" * 256}}, 400, "invalid_request"),
    ],
)
def test_what_cannot_be_a_job_is_refused(jobs: Client, how: dict[str, Any], status: int, code: str) -> None:
    refused(jobs.http.post("/v1/jobs", **how), status, code)


def test_names_sent_in_the_extended_notation_arrive(jobs: Client) -> None:
    names = ("filename*=utf-8''%E4%BD%A0.png", "filename=\"=?utf-8?B?5aW9?=\"; filename*=utf-8''%E5%A5%BD.png")
    parts = [
        f"--b\r\nContent-Disposition: form-data; name=files; {name}\r\n\r\n".encode() + picture(f"text-{number}")
        for number, name in enumerate(names)
    ]
    answer = jobs.http.post("/v1/jobs", content=b"\r\n".join(parts) + b"\r\n--b--\r\n", headers=FORM)
    job_id = answer.raise_for_status().json()["id"]
    jobs.ended(job_id)
    found = {line["name"]: line["page"]["text"] for line in jobs.results(job_id)}
    assert found == {"你.png": "text-0", "好.png": "text-1"}


def test_a_damaged_archive_is_named(jobs: Client) -> None:
    """All that came with it is refused, so its sender must know which one it is."""
    answer = jobs.post([*pictures("a"), ("files", ("scans of May.zip", b"PK\x03\x04junk"))])
    refused(answer, 400, "invalid_request")
    assert answer.json()["detail"].startswith("scans of May.zip: ")


def test_the_same_request_with_the_same_key_is_the_same_job(jobs: Client) -> None:
    key = {"Idempotency-Key": "monday"}
    first = jobs.submit(pictures("a", "b"), headers=key)
    assert jobs.submit(pictures("a", "b"), headers=key) == first
    refused(jobs.post(pictures("a", "c"), headers=key), 409, "idempotency_conflict")
    refused(jobs.post(pictures("a", "b"), headers=key, data={"max_side": "640"}), 409, "idempotency_conflict")
    assert jobs.submit(pictures("a", "b")) != first


def test_a_full_store_refuses_new_jobs_and_keeps_the_results_of_those_before(tmp_path: Path) -> None:
    def large(text: str) -> Files:
        return [("files", (f"{text}.png", BLANK + b" " * 600_000 + f"#item:{text}".encode()))]

    with light_server(tmp_path, jobs__max_stored_bytes=str(1 << 20), jobs__clean_interval_s="0.05") as jobs:
        key = {"Idempotency-Key": "first"}
        first = jobs.submit(large("first"), headers=key)
        jobs.ended(first)
        answer = jobs.post(large("second"))
        refused(answer, 507, "insufficient_storage")
        assert 3000 < int(answer.headers["retry-after"]) <= 3600
        assert jobs.submit(large("first"), headers=key) == first
        assert len(jobs.results(first)) == 1
        jobs.http.delete(f"/v1/jobs/{first}").raise_for_status()
        assert jobs.ended(jobs.submit(large("second")))["done"] == 1


def test_what_will_not_fit_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    def head(more: str) -> bytes:
        lines = ["POST /v1/jobs HTTP/1.1", "Host: localhost", "Content-Type: application/zip", more]
        return "\r\n".join([*lines, f"Content-Length: {MAX_UPLOAD}", "", ""]).encode()

    def stored(content: bytes) -> bytes:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("a.png", content)
        return stream.getvalue()

    with light_server(tmp_path, jobs__max_stored_bytes=str(1 << 20), jobs__max_files="20") as jobs:
        jobs.ended(jobs.submit(pictures("a"), headers={"Idempotency-Key": "known"}))
        address = (jobs.http.base_url.host, jobs.http.base_url.port or 0)
        with socket.create_connection(address, timeout=20) as connection:
            connection.sendall(head("Accept: */*"))
            assert connection.recv(100).startswith(b"HTTP/1.1 507")
        with socket.create_connection(address, timeout=20) as connection:
            around = len(stored(b""))
            connection.sendall(head("Idempotency-Key: known") + stored(bytes(MAX_UPLOAD - around)))
            assert connection.recv(100).startswith(b"HTTP/1.1 409"), "it is read, and is another job"


def test_jobs_and_items_come_in_pages(jobs: Client) -> None:
    made = [jobs.submit(pictures(f"p{n}")) for n in range(3)]
    page = jobs.http.get("/v1/jobs", params={"limit": 2}).json()
    assert [job["id"] for job in page["jobs"]] == [made[2], made[1]]
    following = jobs.http.get("/v1/jobs", params={"limit": 1, "before": page["next"]}).json()
    assert [job["id"] for job in following["jobs"]] == [made[0]]
    jobs.ended(made[1])
    jobs.http.delete(f"/v1/jobs/{made[1]}").raise_for_status()
    again = jobs.http.get("/v1/jobs", params={"limit": 1, "before": page["next"]}).json()
    assert [job["id"] for job in again["jobs"]] == [made[0]], "it goes on"
    assert jobs.http.get("/v1/jobs", params={"state": "cancelled,expired", "limit": 1}).json()["jobs"] == []
    job_id = jobs.submit(pictures(*"abcde"))
    jobs.ended(job_id)
    first = jobs.get(job_id, "/items", limit=2)
    assert ([item["position"] for item in first["items"]], first["next"]) == ([0, 1], 1)
    assert [item["position"] for item in jobs.get(job_id, "/items", after=1)["items"]] == [2, 3, 4]
    assert [item["position"] for item in jobs.get(job_id, "/items", offset=3, state="done")["items"]] == [3, 4]
    assert jobs.get(job_id, "/items", offset=3)["next"] is None
    for query in ({"limit": "0"}, {"limit": "many"}, {"state": "sleeping"}, {"after": "-2"}):
        refused(jobs.http.get(f"/v1/jobs/{job_id}/items", params=query), 422, "invalid_option")


def test_an_item_has_its_result_and_its_picture(jobs: Client) -> None:
    job_id = jobs.submit([*pictures("x"), ("files", ("page.html", b"<script>alert(1)</script>"))])
    jobs.ended(job_id)
    assert jobs.get(job_id, "/items/0/result")["text"] == "x"
    counts = [item["lines"] for item in jobs.get(job_id, "/items")["items"]]
    assert counts == [len(jobs.get(job_id, "/items/0/result")["lines"]), None]
    image = jobs.http.get(f"/v1/jobs/{job_id}/items/0/image")
    assert (image.content, image.headers["content-type"]) == (picture("x"), "image/png")
    assert "sandbox" in image.headers["content-security-policy"]
    # With so much about it in front that its size is out of sight.
    wordy = b"\xff\xd8" + (b"\xff\xe1\xea\x62" + bytes(60_000)) + b"\xff\xe1\x75\x32" + bytes(30_000)
    wordy_id = jobs.submit([("files", ("wordy.jpg", wordy))])
    jobs.ended(wordy_id)
    assert jobs.http.get(f"/v1/jobs/{wordy_id}/items/0/image").headers["content-type"] == "image/jpeg"
    refused(jobs.http.get(f"/v1/jobs/{job_id}/items/1/result"), 409, "conflict")
    refused(jobs.http.get(f"/v1/jobs/{job_id}/items/1/image"), 404, "not_found")
    refused(jobs.http.get(f"/v1/jobs/{job_id}/items/0/overlay.png"), 404, "not_found")
    for position in ("2", "-1", "x", "9" * 30):
        refused(jobs.http.get(f"/v1/jobs/{job_id}/items/{position}/result"), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ""),
        ("GET", "/items"),
        ("GET", "/events"),
        ("GET", "/results"),
        ("GET", "/archive.zip"),
        ("GET", "/items/0/result"),
        ("POST", "/cancel"),
        ("POST", "/retry"),
        ("DELETE", ""),
    ],
)
def test_a_job_that_is_not_there_is_not_found(jobs: Client, method: str, path: str) -> None:
    refused(jobs.http.request(method, f"/v1/jobs/nothing{path}"), 404, "job_not_found")


def test_events_tell_all_once_and_go_on_after_the_last_one_seen(jobs: Client) -> None:
    job_id = jobs.submit(pictures(*"abcdef"))
    events = jobs.events(job_id)
    numbers = [int(event["id"]) for event in events]
    assert numbers == list(range(1, len(events) + 1))
    items = [event["data"]["item"] for event in events if event["event"] == "item"]
    assert sorted(item["position"] for item in items) == list(range(6))
    assert events[-1]["data"]["finished"] is True
    assert jobs.events(job_id, after=4) == events[4:]
    last = {"Last-Event-ID": str(len(events))}
    assert jobs.http.get(f"/v1/jobs/{job_id}/events", headers=last).status_code == 204
    refused(jobs.http.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": "x"}), 422, "invalid_option")


def test_a_listener_who_claims_to_have_seen_what_is_to_come_sees_the_end_all_the_same(slow: Client) -> None:
    job_id = slow.submit(pictures(*(f"f{n}" for n in range(8))))
    events = slow.events(job_id, after=10**12)
    assert events[-1]["data"]["finished"] is True
    wait_until(lambda: slow.server.info()["jobs"]["listeners"] == 0)


def test_only_so_many_may_listen_and_who_leaves_makes_room(slow: Client) -> None:
    job_id = slow.submit(pictures(*(str(n) for n in range(100))))
    with contextlib.ExitStack() as listening:
        lines = [
            listening.enter_context(
                httpx.stream("GET", f"{slow.server.url}/v1/jobs/{job_id}/events", timeout=20)
            ).iter_lines()
            for _ in range(2)
        ]
        assert [next(stream) for stream in lines] == ["retry: 2000"] * 2
        refused(slow.http.get(f"/v1/jobs/{job_id}/events"), 503, "queue_full")
    wait_until(lambda: slow.server.info()["jobs"]["listeners"] == 0)
    assert slow.http.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert slow.server.find_log("Unexpected failure of a request") is None


def test_results_come_in_order_while_the_job_runs(slow: Client) -> None:
    texts = [f"r{n}" for n in range(12)]
    job_id = slow.submit(pictures(*texts))
    seen: list[dict[str, Any]] = []
    looks = 0
    while slow.get(job_id)["finished_at"] is None or len(seen) < len(texts):
        fresh = slow.results(job_id, after=seen[-1]["position"] if seen else -1, limit=5)
        looks += bool(fresh)
        seen += fresh
    assert [line["page"]["text"] for line in seen] == texts
    assert looks > 2


def test_a_running_job_tells_its_place_and_its_time_and_a_cancelled_one_stops(slow: Client) -> None:
    first = slow.submit(pictures(*(f"a{n}" for n in range(300))))
    second = slow.submit(pictures("b0", "b1"), data={"priority": "-1"})
    wait_until(lambda: slow.get(first)["running"])
    wait_until(lambda: slow.get(first)["eta_s"])
    assert slow.get(second)["position"] > 2
    answer = slow.http.post(f"/v1/jobs/{first}/cancel").json()
    assert answer["state"] == "cancelled"
    # What was in hand is broken off here at once, not at the next heartbeat (10 s).
    wait_until(lambda: slow.get(first)["finished_at"] is not None, 8)
    job = slow.get(first)
    assert job["done"] + job["cancelled"] == 300
    assert job["cancelled"] > 2
    assert slow.ended(second)["done"] == 2
    again = slow.http.post(f"/v1/jobs/{first}/retry", json={"positions": [298, 299]}).json()
    assert again["finished_at"] is None
    assert slow.ended(first)["cancelled"] == job["cancelled"] - 2
    assert slow.get(first, "/items/299/result")["text"] == "a299"


def test_failed_items_are_run_again_on_demand(jobs: Client) -> None:
    job_id = jobs.submit([*pictures("ok"), ("files", ("broken.jpg", b"\xff\xd8 and nothing more"))])
    assert jobs.ended(job_id)["failed"] == 1
    attempt = jobs.http.post(f"/v1/jobs/{job_id}/retry").json()
    assert (attempt["failed"], attempt["finished_at"]) == (0, None)
    assert jobs.ended(job_id)["failed"] == 1
    nonsense: list[dict[str, Any]] = [
        {"states": ["done"]},
        {"states": [[]]},
        {"positions": "all"},
        {"states": "failed"},
    ]
    for body in (*nonsense, {"what": 1}):
        refused(jobs.http.post(f"/v1/jobs/{job_id}/retry", json=body), 422, "invalid_option")
    for position in (10**30, 2**31, -1, True, 1.0, None):
        answer = jobs.http.post(f"/v1/jobs/{job_id}/retry", json={"positions": [position]})
        refused(answer, 422, "invalid_option")
    assert jobs.http.post(f"/v1/jobs/{job_id}/retry", json={"positions": [2**31 - 1]}).json()["failed"] == 1


def test_a_deleted_job_is_forgotten_while_it_runs(slow: Client) -> None:
    job_id = slow.submit(pictures(*(f"d{n}" for n in range(30))))
    wait_until(lambda: slow.get(job_id)["running"])
    assert slow.http.delete(f"/v1/jobs/{job_id}").status_code == 204
    refused(slow.http.get(f"/v1/jobs/{job_id}"), 404, "job_not_found")
    wait_until(lambda: slow.server.info()["jobs"]["in_hand"] == 0, 8)


def test_the_archive_of_a_job_is_whole(jobs: Client) -> None:
    job_id = jobs.submit([*pictures("one", "two"), ("files", ("C:\\x/../..\\con.png", picture("three")))])
    jobs.ended(job_id)
    answer = jobs.http.get(f"/v1/jobs/{job_id}/archive.zip").raise_for_status()
    assert answer.headers["content-disposition"].startswith('attachment; filename="job-')
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        lines = [json.loads(line) for line in archive.read("results.jsonl").splitlines()]
        texts = [name for name in archive.namelist() if name.startswith("text/")]
        assert [archive.read(name).decode() for name in texts] == ["one\n", "two\n", "three\n"]
    assert [line["page"]["text"] for line in lines] == ["one", "two", "three"]
    assert all(".." not in name and "\\" not in name and name.count("/") == 1 for name in texts)
    refused(jobs.http.get(f"/v1/jobs/{job_id}/archive.zip", params={"overlays": "true"}), 409, "conflict")


def test_the_original_batch_route_accepts_or_waits(jobs: Client) -> None:
    accepted = jobs.post(pictures("a", "b"), "/batch", data={"threshold": "0.35"})
    assert accepted.status_code == 202
    body = accepted.json()
    assert (body["status"], body["total"]) == ("accepted", 2)
    assert jobs.ended(body["job_id"])["options"]["bin_threshold"] == 0.35
    waited = jobs.post([*pictures("a"), ("files", ("x.txt", b"text"))], "/batch?wait=true")
    assert waited.status_code == 200
    answer = waited.json()
    assert answer["status"] == "partial"
    good, bad = answer["results"]
    assert {"boxes", "texts", "scores", "inference_time"} <= good.keys()
    assert (good["success"], bad["success"], bad["error"]["code"]) == (True, False, "unsupported_media_type")
    assert jobs.post(pictures("a"), "/batch?wait=true").json()["status"] == "success"
    assert jobs.post(pictures("a"), "/batch", data={"wait": "true"}).json()["status"] == "success"
    assert jobs.post(pictures("a"), "/batch?wait=true", data={"wait": "false"}).json()["status"] == "accepted"
    known = jobs.http.get("/v1/jobs", params={"limit": 1}).json()["jobs"][0]["id"]
    refused(jobs.post(pictures("a"), "/batch?wait=perhaps"), 422, "invalid_option")
    refused(jobs.post(pictures("a"), "/batch", data={"wait": "perhaps"}), 422, "invalid_option")
    assert jobs.http.get("/v1/jobs", params={"limit": 1}).json()["jobs"][0]["id"] == known


def test_who_waits_for_a_batch_and_leaves_has_it_cancelled(slow: Client) -> None:
    with pytest.raises(httpx.ReadTimeout):
        slow.post(pictures(*(f"w{n}" for n in range(40))), "/batch?wait=true", timeout=1)
    wait_until(lambda: slow.http.get("/v1/jobs", params={"limit": 1}).json()["jobs"][0]["state"] == "cancelled", 8)


def test_a_batch_with_a_key_goes_on_without_who_waited_and_is_found_again(slow: Client) -> None:
    texts = [f"v{n}" for n in range(12)]
    key = {"Idempotency-Key": "batch-of-monday"}

    def answered() -> int:
        return sum(entry.get("route") == "/batch" for entry in list(slow.server.log))

    before = answered()
    with pytest.raises(httpx.ReadTimeout):
        slow.post(pictures(*texts), "/batch?wait=true", headers=key, timeout=0.5)
    wait_until(lambda: answered() > before)
    again = slow.post(pictures(*texts), "/batch?wait=true", headers=key).raise_for_status().json()
    assert again["status"] == "success"
    assert [result["file"] for result in again["results"]] == [f"{text}.png" for text in texts]
    assert slow.get(again["job_id"])["state"] == "done"


def test_what_cannot_be_the_id_of_a_job_is_that_of_none(jobs: Client) -> None:
    for job_id in ("%00", "x", "A" * 32, "0" * 32):
        refused(jobs.http.get(f"/v1/jobs/{job_id}"), 404, "job_not_found")
    for place in ("%00", "x", "0" * 32, "1e999:" + "0" * 32, "-1:" + "0" * 32):
        refused(jobs.http.get(f"/v1/jobs?before={place}"), 422, "invalid_option")


def test_a_job_is_seen_with_its_own_key_only(tmp_path: Path) -> None:
    with light_server(tmp_path, auth__api_keys="mine,yours") as client:
        client.http.headers["X-API-Key"] = "mine"
        job_id = client.submit(pictures("secret"), headers={"Idempotency-Key": "k"})
        client.ended(job_id)
        client.http.headers["X-API-Key"] = "yours"
        for path in ("", "/items", "/results", "/events", "/archive.zip", "/items/0/image"):
            refused(client.http.get(f"/v1/jobs/{job_id}{path}"), 404, "job_not_found")
        refused(client.http.delete(f"/v1/jobs/{job_id}"), 404, "job_not_found")
        assert client.http.get("/v1/jobs").json()["jobs"] == []
        assert client.submit(pictures("other"), headers={"Idempotency-Key": "k"}) != job_id


def test_a_job_survives_a_kill_and_a_stop_in_the_middle(tmp_path: Path) -> None:
    texts = [f"k{n}" for n in range(40)]
    with light_server(tmp_path, work_s="0.05", jobs__lease_s="1") as client:
        job_id = client.submit(pictures(*texts))
        wait_until(lambda: client.get(job_id)["done"] >= 3)
        front = psutil.Process(client.server.pid)
        for process in [front, *front.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        front.wait(10)
    with light_server(tmp_path, work_s="0.05", jobs__lease_s="1") as client:
        before = client.get(job_id)["done"]
        wait_until(lambda: client.get(job_id)["done"] > before + 3)
        losses_before = sum(item["attempts"] for item in client.get(job_id, "/items")["items"])
        # Leaving stops the server in the middle: what it has in hand goes back and nobody is to blame.
    with light_server(tmp_path, work_s="0.01", jobs__lease_s="1") as client:
        job = client.ended(job_id)
        assert (job["state"], job["done"], job["total"]) == ("done", 40, 40)
        assert client.texts(job_id) == texts
        assert sum(item["attempts"] for item in client.get(job_id, "/items")["items"]) == losses_before


def test_pictures_are_served_while_the_job_store_is_away_and_jobs_when_it_comes_back(tmp_path: Path) -> None:
    with postgres_server("fsync=off") as database:
        database.stop()
        url = database.url()
        with light_server(tmp_path, jobs__url=url) as client:
            assert client.http.get("/readyz").status_code == 200
            assert client.server.ocr(picture("single"))["text"] == "single"
            refused(client.post(pictures("a")), 503, "unavailable")
            refused(client.http.get("/v1/jobs"), 503, "unavailable")
            assert client.server.info()["jobs"]["state"] == "unavailable"
            database.start()
            wait_until(lambda: client.server.info()["jobs"]["state"] == "ok")
            job_id = client.submit(pictures("a", "b"))
            assert client.ended(job_id)["done"] == 2
            assert [event["data"]["finished"] for event in client.events(job_id)][-1] is True
            # PostgreSQL takes no such text at all, and no such number as a position.
            refused(client.http.get("/v1/jobs/%00"), 404, "job_not_found")
            client.http.post(f"/v1/jobs/{job_id}/retry", json={"positions": [2**31 - 1]}).raise_for_status()
            assert client.get(job_id, "/items", after=2**31 - 1)["items"] == []


def test_a_store_that_can_never_work_ends_the_start(tmp_path: Path) -> None:
    ended = run_cli("serve", "--port", "0", data_dir=tmp_path, jobs__url="oracle://x/y")
    assert ended.returncode == ExitCode.BAD_CONFIGURATION
    assert "jobs.url" in ended.stderr
