"""Server-sent events made by looking: a view is sent when it has changed, and a sign of life in between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from fastapi import Request
from fastapi.responses import StreamingResponse

from steadyocr.errors import QueueFull, SteadyOCRError

_LOOK_S: Final = 0.5
_PING_S: Final = 15.0
# Proxies would hold a stream back until it is full.
_HEADERS: Final = {"X-Accel-Buffering": "no"}


class Streams:
    """All open streams of one kind, counted.

    Args:
        max_open: One more is refused.
    """

    def __init__(self, max_open: int) -> None:
        self._max_open = max_open
        self.open = 0

    def respond(self, request: Request, look: Callable[[], tuple[dict[str, Any], bool]]) -> StreamingResponse:
        """Answer with a stream.

        Args:
            request: Whose answer it is; the stream ends with its client.
            look: Returns the present view, and whether it is the last one. Runs in a thread.

        Raises:
            QueueFull: Too many streams are open.
        """
        if self.open >= self._max_open:
            raise QueueFull("too many pages follow this already; ask for the plain view instead", retry_after_s=10.0)
        return StreamingResponse(self._events(request, look), media_type="text/event-stream", headers=_HEADERS)

    async def _events(self, request: Request, look: Callable[[], tuple[dict[str, Any], bool]]) -> AsyncIterator[str]:
        loop = asyncio.get_running_loop()
        # Counted here and not earlier: a stream whose client has gone before it began is never run.
        self.open += 1
        before, sent_at = "", loop.time()
        try:
            while not await request.is_disconnected():
                try:
                    view, last = await asyncio.to_thread(look)
                except SteadyOCRError:  # deleted meanwhile
                    return
                text = json.dumps(view, ensure_ascii=False)
                if text != before:
                    before, sent_at = text, loop.time()
                    yield f"event: state\ndata: {text}\n\n"
                if last:
                    yield "event: end\ndata: {}\n\n"
                    return
                if loop.time() - sent_at >= _PING_S:
                    sent_at = loop.time()
                    yield ": still here\n\n"
                await asyncio.sleep(_LOOK_S)
        finally:
            self.open -= 1
