"""Pictures as base64 in JSON: whatever else a body holds is refused before it is parsed."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import tracemalloc

import pytest
from starlette.requests import Request
from starlette.types import Message

from steadyocr.api.uploads import Upload, read_upload
from steadyocr.errors import InvalidRequest

PICTURE = bytes(range(256)) * 1000
TEXT = base64.b64encode(PICTURE).decode()
SIZE = 2_000_000


def upload(body: bytes) -> Upload:
    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "headers": headers, "query_string": b""}
    return asyncio.run(read_upload(Request(scope, receive)))


def filled(begin: str, part: str, end: str) -> bytes:
    return (begin + part * (SIZE // len(part.encode())) + end).encode()


@pytest.mark.parametrize(
    "body",
    [
        filled('{"image":"","x":[{}', ",{}", "]}"),
        filled('{"image":"","x":', "[", ""),
        filled('{"image":"","x":[1', ",1", "]}"),
        filled('{"image":"","x":["a"', ',"a"', "]}"),
        filled('{"image":"","x":[""', ',""', "]}"),
        filled(f'{{"image":"{"A" * SIZE}","x":[{{}}', ",{}", "]}"),
        filled('{"image":"', "\U0001d11e", '"}'),
        filled('{"image":"', "AA ", '*"}'),
    ],
    ids=["objects", "deep", "numbers", "texts", "empty texts", "beside a picture", "wide letters", "blanks"],
)
def test_many_small_values_are_refused_without_the_memory_for_them(body: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequest):
            upload(body)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * len(body)


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"image": TEXT, "max_side": 640}),
        json.dumps({"max_side": 640, "image": TEXT}, indent=4),
        json.dumps({"image": f"data:image/png;base64,{TEXT}", "max_side": 640}),
        json.dumps({"image": base64.encodebytes(PICTURE).decode().replace("\n", "\r\n"), "max_side": 640}),
        json.dumps({"image": TEXT, "max_side": 640}).replace("/", "\\/").replace("+", "\\u002B"),
        "\ufeff" + json.dumps({"image": TEXT, "max_side": 640}),
    ],
    ids=["plain", "pretty", "data URL", "lines", "escapes", "byte order mark"],
)
def test_a_picture_comes_in_however_its_text_is_written(body: str) -> None:
    assert upload(body.encode()) == Upload(PICTURE, {"max_side": 640})
    assert upload(body.removeprefix("\ufeff").encode("utf-16")) == Upload(PICTURE, {"max_side": 640})


def test_options_may_take_some_room_and_no_more() -> None:
    def body(count: int) -> bytes:
        return json.dumps({"image": TEXT, "x": "y" * count}).encode()

    beside = len(body(0)) - len(TEXT)
    assert upload(body(65_536 - beside)).data == PICTURE
    with pytest.raises(InvalidRequest):
        upload(body(65_537 - beside))


def test_noise_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        upload(os.urandom(SIZE))
