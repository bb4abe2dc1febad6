"""The one bounded queue in front of the engines."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from steadyocr.errors import DeadlineExceeded, QueueFull, RateLimited
from steadyocr.scheduling.items import Priority, WorkItem
from steadyocr.scheduling.service_time import ServiceTimes

# With both kinds waiting, one batch item is taken after this many interactive ones, so that neither starves.
_INTERACTIVE_PER_BATCH = 8
_MAX_RETRY_AFTER_S = 120.0


@dataclass(frozen=True, slots=True)
class Crew:
    """Who works on what waits.

    Attributes:
        servers: How many items can be worked on at once now.
        in_hand: How many pictures have been taken and are not done.
    """

    servers: int = 1
    in_hand: int = 0


class _Line:
    """Items of one priority: clients take turns, each client's own items stay in order."""

    def __init__(self) -> None:
        self._by_client: OrderedDict[str, deque[WorkItem]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def waiting_of(self, client: str) -> int:
        return len(self._by_client.get(client, ()))

    def pictures(self) -> int:
        """How many of them take a picture's time."""
        return sum(_pictures(items) for items in self._by_client.values())

    def pictures_before(self, client: str) -> int:
        """How many go before a new one of this client: its own, and of each other client as many and one turn more."""
        own = _pictures(self._by_client.get(client, ()))
        others = (items for other, items in self._by_client.items() if other != client)
        return own + sum(min(_pictures(items), own + 1) for items in others)

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

    def discard(self, item: WorkItem) -> None:
        items = self._by_client.get(item.client, deque())
        if item not in items:
            return
        items.remove(item)
        self._size -= 1
        if not items:
            del self._by_client[item.client]


def _pictures(items: Iterable[WorkItem]) -> int:
    return sum(not item.brief for item in items)


class AdmissionQueue:
    """Bounded, prioritised, fair between clients, aware of deadlines. Belongs to one event loop.

    Args:
        max_size: Items that may wait; one more is refused. Batch items keep nobody out who goes before them: those
            waiting already do not count against interactive ones, so that at most twice as many wait in all.
        max_per_client: Items of one client that may wait; one more is refused. 0 is no such bound.
        crew: Who works now; asked whenever a time is estimated, since engines come and go.
        held_back: Whether an item that was taken back is not to be tried again yet. Who makes that change says
            :meth:`wake`.
    """

    def __init__(
        self,
        max_size: int,
        max_per_client: int = 0,
        crew: Callable[[], Crew] = Crew,
        held_back: Callable[[WorkItem], bool] = lambda _: False,
    ) -> None:
        self.max_size = max_size
        self.max_per_client = max_per_client
        self._waiting = {priority: _Line() for priority in Priority}
        self._retries: deque[WorkItem] = deque()
        self._arrived = asyncio.Event()
        self._interactive_streak = 0
        self._times = ServiceTimes()
        self._crew = crew
        self._held_back = held_back
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
        self.refuse_when_full(item.client, item.priority)
        now = asyncio.get_running_loop().time()
        if item.deadline > now and not self._can_be_done(item, item.deadline - now):
            raise self._busy("more is waiting than can be read within the time allowed")
        self._waiting[item.priority].append(item)
        self._arrived.set()

    def refuse_when_full(self, client: str = "", priority: Priority = Priority.INTERACTIVE) -> None:
        """Raise what :meth:`put` would raise now for any item of a client of this priority.

        Raises:
            QueueFull: The queue is full.
            RateLimited: Too many items of this client wait.
        """
        before = len(self) if priority is Priority.BATCH else len(self) - len(self._waiting[Priority.BATCH])
        # What an idle engine is about to take does not wait: the loop has only not come round to it yet.
        if before >= self.max_size + self._takers:
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

    def wake(self) -> None:
        """Look again for what may be tried again."""
        self._arrived.set()

    def discard(self, item: WorkItem) -> None:
        """Let go of an item that nobody waits for any more, if it is here: a ghost takes no place and no memory."""
        self._waiting[item.priority].discard(item)
        if item in self._retries:
            self._retries.remove(item)

    async def get(self) -> WorkItem:
        """Wait for the next item that somebody still waits for; expired ones are failed on the way."""
        while True:
            while (item := self._take()) is not None:
                if item.abandoned:
                    continue
                if asyncio.get_running_loop().time() >= item.deadline:
                    began = item.course.started_at is not None
                    item.fail(DeadlineExceeded("the time allowed ran out while the picture waited", began=began))
                    continue
                return item
            self._arrived.clear()
            self._takers += 1
            try:
                await self._arrived.wait()
            finally:
                self._takers -= 1

    def _take(self) -> WorkItem | None:
        retry = next((item for item in self._retries if not self._held_back(item)), None)
        if retry is not None:
            self._retries.remove(retry)
            return retry
        interactive, batch = self._waiting[Priority.INTERACTIVE], self._waiting[Priority.BATCH]
        if interactive and (not batch or self._interactive_streak < _INTERACTIVE_PER_BATCH):
            self._interactive_streak += 1
            return interactive.popleft()
        self._interactive_streak = 0
        return batch.popleft() if batch else None

    def record_service(self, seconds: float) -> None:
        """Learn from a finished item how long one takes."""
        self._times.record(seconds)

    def expected_wait_s(self) -> float:
        """How long a new item would wait, from the measured service time and those who work, in seconds."""
        crew = self._crew()
        wait = self._times.expected_s * (len(self) + crew.in_hand + 1) / max(1, crew.servers)
        return min(max(wait, 1.0), _MAX_RETRY_AFTER_S)

    def _can_be_done(self, item: WorkItem, allowed_s: float) -> bool:
        """Whether a new item will almost surely be answered in time; what starts at once, or next, is tried."""
        crew = self._crew()
        own = 0 if item.brief else 1
        rounds = math.ceil((self._ahead_of(item) + crew.in_hand + own) / max(1, crew.servers))
        return rounds <= 1 or self._times.bound_s(rounds) < allowed_s

    def _ahead_of(self, item: WorkItem) -> int:
        """How many pictures go before a new item, by its priority and its client's turns."""
        interactive, batch = self._waiting[Priority.INTERACTIVE], self._waiting[Priority.BATCH]
        if item.priority is Priority.INTERACTIVE:
            before = interactive.pictures_before(item.client)
            since = min(self._interactive_streak, _INTERACTIVE_PER_BATCH)
            return len(self._retries) + before + min(batch.pictures(), (since + before) // _INTERACTIVE_PER_BATCH)
        return len(self._retries) + interactive.pictures() + batch.pictures_before(item.client)
