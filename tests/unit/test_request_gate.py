from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from steadyocr.api.incoming_body import BodyRules
from steadyocr.api.middleware import RequestGate
from steadyocr.api.ocr_routes import client_of
from steadyocr.service.body_budget import BodyBudget


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
