"""Streams of events made by looking."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from fastapi import Request

from steadyocr.api.event_stream import Streams
from steadyocr.errors import NotFoundError, QueueFull
from support import in_real_time


class Client:
    """Stays for so many looks."""

    def __init__(self, looks: int) -> None:
        self._looks = looks

    async def is_disconnected(self) -> bool:
        self._looks -= 1
        return self._looks < 0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steadyocr.api.event_stream._LOOK_S", 0.0)


def stream(streams: Streams, views: list[Any], looks: int = 100) -> AsyncIterator[str]:
    """What a client gets; each view is a pair, or an error."""
    rest = iter(views)

    def look() -> tuple[dict[str, Any], bool]:
        view = next(rest)
        if isinstance(view, Exception):
            raise view
        found: tuple[dict[str, Any], bool] = view
        return found

    answer = streams.respond(cast(Request, Client(looks)), look)
    assert answer.headers["x-accel-buffering"] == "no"
    return cast("AsyncIterator[str]", answer.body_iterator)


@in_real_time
async def test_a_view_is_sent_when_it_has_changed_and_the_last_one_ends_it() -> None:
    streams = Streams(1)
    views = [({"n": 1}, False), ({"n": 1}, False), ({"n": 2}, False), ({"n": 2}, True)]
    events = [event async for event in stream(streams, views)]
    assert events == [
        'event: state\ndata: {"n": 1}\n\n',
        'event: state\ndata: {"n": 2}\n\n',
        "event: end\ndata: {}\n\n",
    ]
    assert streams.open == 0


@in_real_time
async def test_it_ends_with_its_client_and_with_its_subject() -> None:
    streams = Streams(1)
    same = [({"n": 1}, False)] * 10
    assert len([event async for event in stream(streams, same, looks=3)]) == 1
    assert [event async for event in stream(streams, [NotFoundError("gone")])] == []
    assert streams.open == 0


@in_real_time
async def test_a_quiet_stream_shows_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steadyocr.api.event_stream._PING_S", 0.0)
    views = [({"n": 1}, False), ({"n": 1}, False), ({"n": 1}, True)]
    events = [event async for event in stream(Streams(1), views)]
    assert ": still here\n\n" in events


@in_real_time
async def test_one_too_many_is_refused_until_another_ends() -> None:
    streams = Streams(1)
    first = stream(streams, [({"n": 1}, False), ({"n": 1}, True)])
    await anext(first)
    with pytest.raises(QueueFull):
        stream(streams, [])
    assert [event async for event in first] == ["event: end\ndata: {}\n\n"]
    stream(streams, [])
