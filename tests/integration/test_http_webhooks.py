"""A client that asked for it is told, signed, when its job has ended; through the whole program."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from support import LIGHT, RunningServer, encoded, running_server, wait_until

SECRET = "whsec_" + base64.b64encode(b"known to both sides of it").decode()
PICTURE = encoded(Image.new("RGB", (64, 32), "white")) + b"#item:told"


class Receiver(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.got: list[tuple[dict[str, str], bytes]] = []


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        thread = threading.Thread(target=running.serve_forever, name="receiver")
        thread.start()
        yield running
        running.shutdown()
        thread.join(5)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(
        tmp_path_factory.mktemp("webhooks"),
        LIGHT,
        engines__count="1",
        jobs__min_free_bytes="0",
        jobs__webhook_secret=SECRET,
        jobs__webhook_networks="127.0.0.0/8",
    ) as running:
        yield running


def test_the_end_of_a_job_is_told_with_a_signature(server: RunningServer, receiver: Receiver) -> None:
    url = f"http://127.0.0.1:{receiver.server_port}/done?key=of-the-client"
    answer = server.client.post(
        "/v1/jobs", files=[("files", ("a.png", PICTURE))], data={"callback_url": url, "meta": '{"order": 7}'}
    )
    assert answer.status_code == 202, answer.text
    wait_until(lambda: receiver.got)
    ((headers, body),) = receiver.got
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = hmac.new(b"known to both sides of it", signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"
    told = json.loads(body)["data"]
    assert (told["id"], told["state"], told["done"], told["meta"]) == (answer.json()["id"], "done", 1, {"order": 7})
    wait_until(lambda: server.find_log("Tried a webhook"))
    assert "of-the-client" not in json.dumps(server.log), "an address may hold a key"
    assert SECRET not in json.dumps(server.info())


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a.example/",
        "https://user:pass@a.example/",
        "not a url",
        "http://10.0.0.7/hook",
        "http://169.254.169.254/latest",
        "http://[fec0::7]/",
        "http://167772167/",
    ],
)
def test_what_can_be_no_webhook_is_refused_with_the_job(server: RunningServer, url: str) -> None:
    answer = server.client.post("/v1/jobs", files=[("files", ("a.png", PICTURE))], data={"callback_url": url})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_option")
