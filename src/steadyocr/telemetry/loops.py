"""Every long-lived task of the front is started here, so that none of them dies unseen."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from steadyocr.telemetry.events import Events

_log = logging.getLogger("steadyocr.loops")


class Loops:
    """Owner of the long-lived tasks of one service.

    Args:
        events: Where a death is told.

    Attributes:
        dead: Loops that ended although nobody stopped them, with the reason. Not empty means: not ready.
    """

    def __init__(self, events: Events | None = None) -> None:
        self.dead: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._events = events or Events()

    def start(self, name: str, body: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a loop under a name."""
        task = asyncio.create_task(body, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._note_end)
        return task

    def _note_end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if self._stopping:
            return
        self.dead[task.get_name()] = "cancelled" if task.cancelled() else repr(error) if error else "ended"
        _log.critical("A loop died; the service is not ready any more", extra={"loop": task.get_name()}, exc_info=error)
        self._events.emit("loop_died", loop=task.get_name(), error=self.dead[task.get_name()])

    def branch(self) -> Loops:
        """Return loops that are stopped on their own, and whose death counts here as well."""
        branch = Loops(self._events)
        branch.dead = self.dead
        return branch

    async def stop(self) -> None:
        """Cancel all loops and wait for their end. Safe to call twice."""
        self._stopping = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
