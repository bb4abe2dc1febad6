"""The one bounded queue in front of the engines."""

from __future__ import annotations

import asyncio
from collections import deque

from steadyocr.errors import DeadlineExceeded, QueueFull
from steadyocr.scheduling.items import Priority, WorkItem

# With both kinds waiting, one batch item is taken after this many interactive ones, so that neither starves.
_INTERACTIVE_PER_BATCH = 8
_RATE_SMOOTHING = 0.2
_FIRST_GUESS_S = 1.0
_MAX_RETRY_AFTER_S = 120.0


class AdmissionQueue:
    """Bounded, prioritised, aware of deadlines. Belongs to one event loop.

    Args:
        max_size: Items that may wait; one more is refused.
    """

    def __init__(self, max_size: int) -> None:
        self.max_size = max_size
        self._waiting: dict[Priority, deque[WorkItem]] = {priority: deque() for priority in Priority}
        self._retries: deque[WorkItem] = deque()
        self._arrived = asyncio.Event()
        self._interactive_streak = 0
        self._service_s = _FIRST_GUESS_S
        self.servers = 1

    def __len__(self) -> int:
        """How many items wait, retries included."""
        return len(self._retries) + sum(len(line) for line in self._waiting.values())

    def put(self, item: WorkItem) -> None:
        """Take an item in.

        Raises:
            QueueFull: The queue is full; the error says when a retry is worth while.
        """
        self.refuse_when_full()
        item.enqueued_at = asyncio.get_running_loop().time()
        self._waiting[item.priority].append(item)
        self._arrived.set()

    def refuse_when_full(self) -> None:
        """Raise what :meth:`put` would raise now.

        Raises:
            QueueFull: The queue is full.
        """
        self._drop_abandoned()
        if len(self) >= self.max_size:
            raise QueueFull(
                "the service is busy; try again later",
                retry_after_s=self.expected_wait_s(),
                queue_size=self.max_size,
            )

    def put_back(self, item: WorkItem) -> None:
        """Take an item back whose engine died: it goes first and is never refused, since it was accepted before."""
        self._retries.append(item)
        self._arrived.set()

    async def get(self) -> WorkItem:
        """Wait for the next item that somebody still waits for; expired ones are failed on the way."""
        while True:
            while (item := self._take()) is not None:
                if item.abandoned:
                    continue
                if asyncio.get_running_loop().time() >= item.deadline:
                    item.fail(DeadlineExceeded("the time allowed ran out while the picture waited"))
                    continue
                return item
            self._arrived.clear()
            await self._arrived.wait()

    def _take(self) -> WorkItem | None:
        if self._retries:
            return self._retries.popleft()
        interactive, batch = self._waiting[Priority.INTERACTIVE], self._waiting[Priority.BATCH]
        if interactive and (not batch or self._interactive_streak < _INTERACTIVE_PER_BATCH):
            self._interactive_streak += 1
            return interactive.popleft()
        self._interactive_streak = 0
        return batch.popleft() if batch else None

    def _drop_abandoned(self) -> None:
        """Forget items whose client has gone, so that ghosts never make the queue full."""
        if len(self) < self.max_size:
            return
        for priority, line in self._waiting.items():
            self._waiting[priority] = deque(item for item in line if not item.abandoned)

    def record_service(self, seconds: float) -> None:
        """Learn from a finished item how long one takes."""
        self._service_s += _RATE_SMOOTHING * (seconds - self._service_s)

    def expected_wait_s(self) -> float:
        """How long a new item would wait, from the measured service time, in seconds."""
        wait = self._service_s * (len(self) + 1) / max(1, self.servers)
        return min(max(wait, 1.0), _MAX_RETRY_AFTER_S)
