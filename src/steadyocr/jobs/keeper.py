"""Holds on to the leases of the items in hand, and takes back what other runners let go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal

from steadyocr.errors import SteadyOCRError
from steadyocr.jobs.async_store import AsyncJobStore
from steadyocr.jobs.models import ItemOutcome, Lease, LeaseKey, NewItem
from steadyocr.telemetry.loops import Loops

_log = logging.getLogger("steadyocr.jobs")

_MAX_PAUSE_S: Final = 5.0

DropReason = Literal["lost", "unwanted", "stopping"]


@dataclass(slots=True, eq=False)
class Held:
    """An item in hand.

    Attributes:
        run: The work on it.
        dropped: Why the work was broken off; empty while it was not.
    """

    lease: Lease
    run: asyncio.Task[ItemOutcome | list[NewItem]]
    dropped: DropReason | Literal[""] = ""

    def drop(self, why: DropReason) -> None:
        """Break the work off; the first reason counts."""
        self.dropped = self.dropped or why
        self.run.cancel()


class LeaseKeeper:
    """Knows the items in hand, by item and token. Belongs to one event loop."""

    def __init__(self, jobs: AsyncJobStore, lease_s: float) -> None:
        self._jobs = jobs
        self._lease_s = lease_s
        self._held: dict[LeaseKey, Held] = {}

    def __len__(self) -> int:
        """How many items are in hand."""
        return len(self._held)

    def start(self, loops: Loops) -> None:
        """Start to extend leases and to look for lost ones."""
        loops.start("job-heartbeat", self._run_heartbeat())
        loops.start("job-reaper", self._run_reaper())

    @contextmanager
    def holding(self, held: Held) -> Iterator[None]:
        """Extend an item's lease for as long as this lasts; its work ends with it."""
        self._held[held.lease.key] = held
        try:
            yield
        finally:
            held.run.cancel()
            del self._held[held.lease.key]

    def wants(self, lease: Lease) -> bool:
        """Whether the work on an item is still worth while. May be asked from any thread."""
        held = self._held.get(lease.key)
        return held is not None and not held.dropped

    def drop_all(self, why: DropReason) -> None:
        """Break all work off."""
        self._drop(list(self._held), why)

    def drop_job(self, job_id: str) -> None:
        """Break off the work on a job that nobody wants any more, without waiting for the next heartbeat."""
        self._drop([key for key, held in self._held.items() if held.lease.job_id == job_id], "unwanted")

    def _drop(self, keys: Iterable[LeaseKey], why: DropReason) -> None:
        for key in keys:
            if (held := self._held.get(key)) is not None:
                held.drop(why)

    async def _run_heartbeat(self) -> None:
        while True:
            pause_s = self._lease_s / 3
            if leases := [held.lease for held in self._held.values()]:
                try:
                    beat = await self._jobs.run(self._jobs.store.heartbeat, leases, lease_s=self._lease_s)
                except SteadyOCRError as error:
                    _log.warning("Leases cannot be extended", extra={"items": len(leases), "code": error.code})
                    pause_s = min(self._lease_s / 10, _MAX_PAUSE_S)
                else:
                    self._drop(beat.lost, "lost")
                    self._drop(beat.unwanted, "unwanted")
            await asyncio.sleep(pause_s)

    async def _run_reaper(self) -> None:
        """Take back what others let go.

        After its own start and after every outage of the store it waits for one lease first: those who were cut off
        as well must have had the time to extend theirs.
        """
        wait_s = self._lease_s
        while True:
            await asyncio.sleep(wait_s)
            try:
                await self._jobs.run(self._jobs.store.expire_overdue)
                taken = await self._jobs.run(self._jobs.store.reap, lease_s=self._lease_s)
            except SteadyOCRError as error:
                _log.warning("Lost items cannot be looked for", extra={"code": error.code})
                wait_s = self._lease_s
                continue
            wait_s = min(self._lease_s / 3, _MAX_PAUSE_S)
            if taken:
                _log.warning("Took back items whose lease ran out", extra={"items": taken})
