"""The one bounded queue in front of the engines."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque

from steadyocr.errors import DeadlineExceeded, QueueFull, RateLimited
from steadyocr.scheduling.items import Priority, WorkItem

# With both kinds waiting, one batch item is taken after this many interactive ones, so that neither starves.
_INTERACTIVE_PER_BATCH = 8
_RATE_SMOOTHING = 0.2
_FIRST_GUESS_S = 1.0
_MAX_RETRY_AFTER_S = 120.0


class _Line:
    """Items of one priority: clients take turns, each client's own items stay in order."""

    def __init__(self) -> None:
        self._by_client: OrderedDict[str, deque[WorkItem]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def waiting_of(self, client: str) -> int:
        return len(self._by_client.get(client, ()))

    def append(self, item: WorkItem) -> None:
        self._by_client.setdefault(item.client, deque()).append(item)
        self._size += 1

    def popleft(self) -> WorkItem:
        client, items = next(iter(self._by_client.items()))
        item = items.popleft()
        self._size -= 1
        if items:
            self._by_client.move_to_end(client)
        else:
            del self._by_client[client]
        return item

    def drop_abandoned(self) -> None:
        for client in list(self._by_client):
            kept = deque(item for item in self._by_client[client] if not item.abandoned)
            if kept:
                self._by_client[client] = kept
            else:
                del self._by_client[client]
        self._size = sum(len(items) for items in self._by_client.values())


class AdmissionQueue:
    """Bounded, prioritised, fair between clients, aware of deadlines. Belongs to one event loop.

    Args:
        max_size: Items that may wait; one more is refused.
        max_per_client: Items of one client that may wait; one more is refused. 0 is no such bound.
    """

    def __init__(self, max_size: int, max_per_client: int = 0) -> None:
        self.max_size = max_size
        self.max_per_client = max_per_client
        self._waiting = {priority: _Line() for priority in Priority}
        self._retries: deque[WorkItem] = deque()
        self._arrived = asyncio.Event()
        self._interactive_streak = 0
        self._service_s = _FIRST_GUESS_S
        self._measured = False
        self.servers = 1
        self._takers = 0

    def __len__(self) -> int:
        """How many items wait, retries included."""
        return len(self._retries) + sum(len(line) for line in self._waiting.values())

    def put(self, item: WorkItem) -> None:
        """Take an item in.

        Raises:
            QueueFull: The queue is full, or so long that the item would expire in it; the error says when a retry is
                worth while.
            RateLimited: Too many items of this client wait.
        """
        self.refuse_when_full(item.client)
        now = asyncio.get_running_loop().time()
        if now + self._wait_ahead_s(item.priority) >= item.deadline > now:
            raise self._busy("more is waiting than can be read within the time allowed")
        self._waiting[item.priority].append(item)
        self._arrived.set()

    def refuse_when_full(self, client: str = "") -> None:
        """Raise what :meth:`put` would raise now for any item of a client.

        Raises:
            QueueFull: The queue is full.
            RateLimited: Too many items of this client wait.
        """
        self._drop_abandoned()
        # What an idle engine is about to take does not wait: the loop has only not come round to it yet.
        if len(self) >= self.max_size + self._takers:
            raise self._busy("the service is busy")
        waiting = sum(line.waiting_of(client) for line in self._waiting.values())
        if self.max_per_client and waiting >= self.max_per_client:
            raise RateLimited(
                "too many of your pictures wait already; let some be answered first",
                retry_after_s=self.expected_wait_s(),
                max_per_client=self.max_per_client,
            )

    def _busy(self, what: str) -> QueueFull:
        return QueueFull(f"{what}; try again later", retry_after_s=self.expected_wait_s(), queue_size=self.max_size)

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
            self._takers += 1
            try:
                await self._arrived.wait()
            finally:
                self._takers -= 1

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
        if len(self) < self.max_size + self._takers:
            return
        for line in self._waiting.values():
            line.drop_abandoned()

    def record_service(self, seconds: float) -> None:
        """Learn from a finished item how long one takes."""
        self._service_s += _RATE_SMOOTHING * (seconds - self._service_s)
        self._measured = True

    def expected_wait_s(self) -> float:
        """How long a new item would wait, from the measured service time, in seconds."""
        wait = self._service_s * (len(self) + 1) / max(1, self.servers)
        return min(max(wait, 1.0), _MAX_RETRY_AFTER_S)

    def _wait_ahead_s(self, priority: Priority) -> float:
        """How long what goes before a new item of this priority will take, in seconds; 0 while that is a guess."""
        if not self._measured:
            return 0.0
        ahead = len(self._retries) + sum(len(line) for kind, line in self._waiting.items() if kind <= priority)
        return self._service_s * ahead / max(1, self.servers)
