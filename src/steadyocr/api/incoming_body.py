"""A request's body on its way in: bounded in size, in memory and in time, wherever it is read."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from starlette.datastructures import Headers
from starlette.types import Message, Receive

from steadyocr.errors import PayloadTooLarge, UploadTimeout
from steadyocr.service.body_budget import BodyBudget, BodyShare

# Form fields and boundaries around a picture.
_FORM_ALLOWANCE_BYTES: Final = 64 << 10
# Base64 turns three bytes into four.
_BASE64_GROWTH: Final = 4 / 3
# What counts as getting on: two kilobytes a second with the usual patience. A byte now and then does not.
_PROGRESS_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyRules:
    """What a body may be.

    Attributes:
        max_image_bytes: Largest encoded picture.
        limits: Bytes of a body by exact path, where it may be something else than one picture. Those bodies go to the
            disk while they arrive, so they hold no memory.
        streamed_prefixes: Paths of mounted applications that write what comes in to the disk as well.
        stall_s: Seconds in which a body must get on.
        longest_s: Seconds that a body that is held in memory may take in all.
    """

    max_image_bytes: int
    limits: Mapping[str, int] = field(default_factory=dict)
    streamed_prefixes: Collection[str] = ()
    stall_s: float = 30.0
    longest_s: float = 300.0

    def streamed(self, path: str) -> bool:
        """Whether a body goes to the disk while it arrives."""
        return path in self.limits or f"{path}/".startswith(tuple(self.streamed_prefixes))

    def limit_of(self, path: str, headers: Headers) -> tuple[int, PayloadTooLarge]:
        """Return the bytes that a body may have, and what to say to one that has more."""
        if (limit := self.limits.get(path)) is not None:
            return limit, PayloadTooLarge(f"a body may have at most {limit} bytes here", max_bytes=limit)
        json_body = media_type(headers) == "application/json"
        limit = int(self.max_image_bytes * (_BASE64_GROWTH if json_body else 1)) + _FORM_ALLOWANCE_BYTES
        refusal = PayloadTooLarge(
            f"a picture may have at most {self.max_image_bytes} bytes", max_bytes=self.max_image_bytes
        )
        return limit, refusal


def media_type(headers: Headers) -> str:
    """Return what the body is said to be, in small letters and without parameters."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


class IncomingBody:
    """One body; :meth:`receive` stands in for the server's own.

    Args:
        rules: What it may be.
        budget: Where its bytes are counted.
        path: Where it is sent to.
        headers: Of the request.
        receive: The server's.

    Raises:
        PayloadTooLarge: It says that it is too large.
        QueueFull: There is no room for it now.
    """

    def __init__(self, rules: BodyRules, budget: BodyBudget, path: str, headers: Headers, receive: Receive) -> None:
        self._receive = receive
        self._limit, self._refusal = rules.limit_of(path, headers)
        self._in_memory = not rules.streamed(path)
        self._stall_s = rules.stall_s
        self._left_s = rules.longest_s if self._in_memory else math.inf
        self._size = 0
        self._complete = False
        self._waited_s = 0.0
        self._recent = 0
        announced = headers.get("content-length", "")
        size = int(announced) if announced.isdigit() else 0
        if size > self._limit:
            raise self._refusal
        self._share: BodyShare = budget.share()
        if self._in_memory:
            self._share.grow_to(size)

    async def receive(self) -> Message:
        """Return the next message.

        Raises:
            PayloadTooLarge: The body turns out to be too large.
            QueueFull: It is longer than announced, and there is no room for the rest.
            UploadTimeout: It does not get on.
        """
        if self._complete:
            return await self._receive()
        message = await self._in_time()
        size = len(message.get("body", b""))
        self._size += size
        self._complete = not message.get("more_body", False)
        if self._size > self._limit:
            raise self._refusal
        if self._in_memory:
            self._share.grow_to(self._size)
        self._recent += size
        if self._recent >= _PROGRESS_BYTES:
            self._recent, self._waited_s = 0, 0.0
        return message

    async def _in_time(self) -> Message:
        """Wait for a message. Only waiting counts: a disk that is slow to take the body is no fault of its sender's."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(min(self._stall_s - self._waited_s, self._left_s)):
                return await self._receive()
        except TimeoutError as error:
            raise UploadTimeout("the body of the request comes in too slowly; try again on a better line") from error
        finally:
            waited_s = loop.time() - began
            self._waited_s += waited_s
            self._left_s -= waited_s

    def hold_answer(self, size: int) -> None:
        """Count an answer that waits for its client as well, until :meth:`close` or, below zero, less of it."""
        self._share.add(size)

    def close(self) -> None:
        """The request is over: what it held is free. Safe to call twice."""
        self._share.give_back()
