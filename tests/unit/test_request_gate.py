from __future__ import annotations

import asyncio
import errno
import tempfile
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from steadyocr.api.incoming_body import BodyRules, IncomingBody
from steadyocr.api.map_routes import lines
from steadyocr.api.middleware import RequestGate
from steadyocr.api.ocr_routes import client_of, unless_disconnected
from steadyocr.api.uploads import read_upload
from steadyocr.errors import Cancelled, QueueFull, UploadTimeout
from steadyocr.service.body_budget import BodyBudget
from steadyocr.settings import Settings
from support import without_waiting


def client_named_for(api_keys: list[str], headers: list[tuple[bytes, bytes]]) -> str:
    """The name that a request gets which the gate lets through."""
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(client_of(Request(scope)))

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(_: Message) -> None:
        return

    scope: dict[str, Any] = {
        "type": "http", "method": "POST", "path": "/v1/ocr", "headers": headers, "client": ("10.0.0.1", 1)
    }  # fmt: skip
    asyncio.run(
        RequestGate(app, api_keys=api_keys, bodies=BodyRules(max_image_bytes=1000), budget=BodyBudget(1000))(
            scope, receive, send
        )
    )
    return seen[0]


@pytest.mark.parametrize(("key", "name"), [(b"one", "key-0"), (b"two", "key-1")])
def test_clients_behind_one_address_are_told_apart_by_their_key(key: bytes, name: str) -> None:
    assert client_named_for(["one", "two"], [(b"x-api-key", key)]) == name
    assert client_named_for(["one", "two"], [(b"authorization", b"Bearer " + key)]) == name


def test_without_keys_a_client_is_its_address() -> None:
    assert client_named_for([], []) == "10.0.0.1"


def form(picture: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    return head + picture + b"\r\n--x--\r\n", [(b"content-type", b"multipart/form-data; boundary=x")]


@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8", " application/json"])
def test_base64_has_room_to_grow_however_its_type_is_written(kind: str) -> None:
    rules = BodyRules(max_image_bytes=3 << 20)
    limit, _ = rules.limit_of("/v1/ocr", Headers({"content-type": kind}))
    assert limit > 4 << 20
    assert rules.limit_of("/v1/ocr", Headers({"content-type": "image/png"}))[0] < 4 << 20


def test_a_form_of_any_size_is_read_without_a_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", full)
    picture = bytes(3 << 20)
    body, headers = form(picture)
    scope = {"type": "http", "method": "POST", "path": "/v1/ocr", "headers": headers, "query_string": b""}

    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    assert asyncio.run(read_upload(Request(scope, receive))).data == picture


def test_a_large_answer_goes_out_in_pieces_and_is_counted_while_it_waits() -> None:
    size = (1 << 20) + 1
    budget, sent = BodyBudget(1000), list[tuple[int, bool, int]]()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(size)})

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            sent.append((len(message["body"]), message["more_body"], budget.held_bytes))

    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/", "headers": []}
    asyncio.run(RequestGate(app, api_keys=[], bodies=BodyRules(max_image_bytes=9), budget=budget)(scope, receive, send))
    assert sent == [*[(256 << 10, True, size)] * 4, (1, False, size)]
    assert budget.held_bytes == 0


def test_a_long_download_is_counted_by_the_part_that_is_on_its_way() -> None:
    budget, held = BodyBudget(1000), list[int]()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(10):
            await send({"type": "http.response.body", "body": bytes(1 << 20), "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        held.append(budget.held_bytes)

    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/", "headers": []}
    asyncio.run(RequestGate(app, api_keys=[], bodies=BodyRules(max_image_bytes=9), budget=budget)(scope, receive, send))
    assert max(held) == 1 << 20
    assert held[-1] == 0


def test_what_is_larger_than_the_whole_budget_gets_it_when_nobody_else_has_any() -> None:
    budget = BodyBudget(1000)
    large, small = budget.share(), budget.share()
    large.grow_to(1500)
    large.grow_to(1200)
    with pytest.raises(QueueFull):
        small.grow_to(1)
    small.grow_to(0)
    large.give_back()
    large.give_back()
    small.grow_to(400)
    with pytest.raises(QueueFull):
        large.grow_to(601)
    large.grow_to(600)
    assert budget.held_bytes == 1000


@pytest.mark.parametrize(("memory_mib", "budget_mib"), [(256, 64), (1024, 128), (4096, 512), (65_536, 1024)], ids=str)
def test_bodies_get_an_eighth_of_the_memory_within_bounds(memory_mib: int, budget_mib: int) -> None:
    settings = Settings.model_validate({"memory": {"budget_bytes": memory_mib << 20}})
    assert settings.body_budget_bytes() == budget_mib << 20
    settings = Settings.model_validate({"limits": {"body_budget_bytes": 12345}})
    assert settings.body_budget_bytes() == 12345


def test_only_waiting_for_the_sender_counts_as_standing_still() -> None:
    @without_waiting
    async def scenario() -> None:
        pieces = iter([bytes(100), bytes(100), b"", b""])

        async def receive() -> Message:
            await asyncio.sleep(4)
            return {"type": "http.request", "body": next(pieces), "more_body": True}

        body = IncomingBody(BodyRules(max_image_bytes=1000, stall_s=10), BodyBudget(10), "/", Headers(), receive)
        for _ in range(2):
            await body.receive()
            # Whoever reads it takes its time.
            await asyncio.sleep(60)
        with pytest.raises(UploadTimeout):
            await body.receive()

    scenario()


def test_a_body_held_in_memory_may_not_take_for_ever_even_if_it_gets_on() -> None:
    @without_waiting
    async def scenario() -> None:
        async def receive() -> Message:
            await asyncio.sleep(9)
            return {"type": "http.request", "body": bytes(64 << 10), "more_body": True}

        rules = BodyRules(max_image_bytes=1 << 30, limits={"/v1/jobs": 1 << 40}, stall_s=10, longest_s=50)
        body = IncomingBody(rules, BodyBudget(1 << 30), "/v1/ocr", Headers(), receive)
        for _ in range(5):
            await body.receive()
        with pytest.raises(UploadTimeout):
            await body.receive()
        budget = BodyBudget(1000)
        to_the_disk = IncomingBody(rules, budget, "/v1/jobs", Headers({"content-length": "99999"}), receive)
        for _ in range(20):
            await to_the_disk.receive()
        assert budget.held_bytes == 0

    scenario()


def test_work_for_a_client_that_has_left_has_ended_when_its_request_has() -> None:
    ended = False

    @without_waiting
    async def scenario() -> None:
        async def work() -> None:
            nonlocal ended
            try:
                await asyncio.sleep(1000)
            finally:
                await asyncio.sleep(1)
                ended = True

        async def receive() -> Message:
            await asyncio.sleep(5)
            return {"type": "http.disconnect"}

        scope = {"type": "http", "method": "POST", "path": "/v1/ocr", "headers": []}
        with pytest.raises(Cancelled):
            await unless_disconnected(Request(scope, receive), work())
        assert ended
        assert asyncio.all_tasks() == {asyncio.current_task()}

    scenario()


def test_lines_of_a_map_are_not_read_for_a_client_that_has_left() -> None:
    called_off = False

    @without_waiting
    async def scenario() -> None:
        async def reading(map_id: str, options: object, **_: object) -> None:
            nonlocal called_off
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                called_off = True
                raise

        messages: list[Message] = [
            {"type": "http.request", "body": b'{"recognise": true}'},
            {"type": "http.disconnect"},
        ]

        async def receive() -> Message:
            return messages.pop(0)

        service = SimpleNamespace(
            refuse_early=lambda _: None, page=SimpleNamespace(maps=SimpleNamespace(lines=reading))
        )
        scope = {
            "type": "http", "method": "POST", "path": "/v1/maps/one/lines", "headers": [], "client": ("10.0.0.1", 1),
            "app": SimpleNamespace(state=SimpleNamespace(service=service)), "state": {"request_id": "1"},
        }  # fmt: skip
        with pytest.raises(Cancelled):
            await lines(Request(scope, receive), "one")
        assert called_off

    scenario()
