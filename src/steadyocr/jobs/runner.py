"""Works jobs off: takes one item per free slot and hands it in where everybody's pictures go in, at batch priority.

What the engines do is admission's business: a picture that somebody waits for always goes first. Here is decided
what becomes of an item, and that a lease is held exactly as long as its item is in hand.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Concatenate, Final, Literal, ParamSpec

from steadyocr.errors import InsufficientStorage, InternalError, NotFoundError, SteadyOCRError, Unavailable
from steadyocr.jobs.async_store import AsyncJobStore
from steadyocr.jobs.blobs import BlobStore
from steadyocr.jobs.config import RunnerConfig
from steadyocr.jobs.gate import Gate
from steadyocr.jobs.keeper import Held, LeaseKeeper
from steadyocr.jobs.models import ItemOutcome, ItemState, Lease, NewItem
from steadyocr.jobs.quota import NoRoom
from steadyocr.jobs.reading import ItemReader, Submit
from steadyocr.jobs.verdicts import Verdict, as_typed, judge
from steadyocr.telemetry.loops import Loops

_log = logging.getLogger("steadyocr.jobs")

P = ParamSpec("P")
Settlement = Literal["done", "failed", "retried", "released", "lost"]

_FIRST_PAUSE_S: Final = 0.1
_MAX_PAUSE_S: Final = 5.0
# What is stored and referred to by nobody is swept after an hour or more. So much is seen to at each try, and the
# thousands of an archive, each of which may be a request, now and then.
_FEW_BLOBS: Final = 8
_RENEW_S: Final = 300.0
_FULL_PAUSE_S: Final = 60.0
_STOP_S: Final = 10.0
_LAST_RELEASE_S: Final = 2.0


class Runner:
    """Works jobs off until it is stopped. Belongs to one event loop.

    Args:
        jobs: Where items come from and outcomes go.
        blobs: Where pictures lie.
        submit: Where pictures go in.
        config: How it works.
        owner: A name for the logs; leases are told apart by their tokens.

    Attributes:
        settled: How many items went which way.
    """

    def __init__(
        self,
        jobs: AsyncJobStore,
        blobs: BlobStore,
        submit: Submit,
        config: RunnerConfig | None = None,
        owner: str | None = None,
    ) -> None:
        self.config = config or RunnerConfig()
        self.owner = owner or f"{socket.gethostname()}:{os.getpid()}"
        self.settled: Counter[Settlement] = Counter()
        self._jobs = jobs
        self._reader = ItemReader(blobs, submit, self.config, jobs.store.lack_of_room)
        self._keeper = LeaseKeeper(jobs, self.config.lease_s)
        self._gate = Gate()
        self._unanswered: list[str] = []
        self._busy = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._stopping = asyncio.Event()

    @property
    def in_hand(self) -> int:
        """How many items are in hand."""
        return len(self._keeper)

    def start(self, loops: Loops) -> None:
        """Start to work."""
        for index in range(self.config.slots):
            loops.start(f"job-slot-{index}", self._run_slot())
        self._keeper.start(loops)

    def drop_job(self, job_id: str) -> None:
        """Break off what is in hand of a job that was cancelled or deleted."""
        self._keeper.drop_job(job_id)

    async def stop(self) -> None:
        """Break off what is in hand and put it back at once. The loops themselves are stopped by their owner."""
        self._stopping.set()
        self._keeper.drop_all("stopping")
        try:
            async with asyncio.timeout(_STOP_S):
                await self._quiet.wait()
        except TimeoutError:
            _log.warning("Stopped with items in hand; their leases will run out", extra={"items": self._busy})

    async def _run_slot(self) -> None:
        while not self._stopping.is_set():
            pause_s = await self._step()
            if pause_s > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await self._stopping.wait()
        # Its owner ends this loop; ending by itself would look like a death.
        await asyncio.Event().wait()

    async def _step(self) -> float:
        """Do one item if there is one, else wait for one; returns how long to pause before the next."""
        await self._gate.wait_open()
        seen = self._jobs.changes
        with self._being_busy():
            try:
                lease = await self._claim()
                if lease is not None:
                    return await self._work(lease)
            except SteadyOCRError as error:
                # The lease, if there is one, runs out, and that counts against the item.
                trace = None if isinstance(error, Unavailable) else error
                _log.warning("The job store failed a slot", extra={"code": error.code}, exc_info=trace)
                return min(error.retry_after_s or self.config.pause_s, _MAX_PAUSE_S)
        if not self._stopping.is_set():
            await self._jobs.changed(seen, self.config.poll_s)
        return 0.0

    @contextlib.contextmanager
    def _being_busy(self) -> Iterator[None]:
        self._busy += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._busy -= 1
            if not self._busy:
                self._quiet.set()

    async def _claim(self) -> Lease | None:
        if self._stopping.is_set():
            return None
        # A claim without an answer may have taken something, which this asks for again.
        token = self._unanswered.pop() if self._unanswered else secrets.token_hex(8)
        claiming = asyncio.ensure_future(
            self._jobs.run(self._jobs.store.claim, self.owner, limit=1, lease_s=self.config.lease_s, token=token)
        )
        try:
            leases = await asyncio.shield(claiming)
        except Unavailable:
            self._unanswered.append(token)
            raise
        except asyncio.CancelledError:
            # The claim itself goes on; what it brings must not wait for its lease to run out.
            with contextlib.suppress(SteadyOCRError, TimeoutError):
                async with asyncio.timeout(_LAST_RELEASE_S):
                    for lease in await claiming:
                        await self._release_at_last(lease)
            raise
        return leases[0] if leases else None

    async def _work(self, lease: Lease) -> float:
        held = Held(lease, asyncio.create_task(self._run_item(lease), name=f"item-{lease.item_id}"))
        with self._keeper.holding(held):
            if self._stopping.is_set():
                held.drop("stopping")
            try:
                await asyncio.wait({held.run})
                return await self._settle(held)
            except asyncio.CancelledError:
                await self._release_at_last(lease)
                raise

    async def _release_at_last(self, lease: Lease) -> None:
        with contextlib.suppress(SteadyOCRError, TimeoutError):
            async with asyncio.timeout(_LAST_RELEASE_S):
                await self._jobs.run(self._jobs.store.release, lease)

    async def _run_item(self, lease: Lease) -> ItemOutcome | list[NewItem]:
        async with self._gate.passing(alone=lease.alone):
            return await self._reader.run(lease, lambda: self._keeper.wants(lease))

    async def _settle(self, held: Held) -> float:
        """Write down what became of an item; returns how long the slot should pause."""
        store, lease = self._jobs.store, held.lease
        if held.run.cancelled():
            if held.dropped != "lost":
                await self._persist("released", store.release, lease)
            return 0.0
        if (error := held.run.exception()) is not None:
            return await self._settle_error(lease, error)
        result = held.run.result()
        if isinstance(result, ItemOutcome):
            await self._persist("done", store.complete, lease, result)
            return 0.0
        try:
            await self._persist("done", store.expand, lease, result)
        except SteadyOCRError as refusal:
            return await self._settle_error(lease, refusal)
        return 0.0

    async def _settle_error(self, lease: Lease, error: BaseException) -> float:
        store, typed, verdict = self._jobs.store, as_typed(error), judge(error)
        _log.info(
            "An item did not work out",
            extra={"job_id": lease.job_id, "position": lease.position, "code": typed.code, "verdict": verdict.value},
            exc_info=error if isinstance(typed, InternalError) else None,
        )
        if verdict in (Verdict.FAIL, Verdict.BURY):
            dead = verdict is Verdict.BURY
            await self._persist("failed", store.fail, lease, typed.to_wire(), dead=dead)
            return 0.0
        if verdict is Verdict.RETRY:
            await self._persist("retried", store.retry_later, lease, typed.to_wire())
            # A missing blob may mean that a shared folder is not mounted here: others get the chance to take it.
            return _MAX_PAUSE_S if isinstance(error, NotFoundError) else 0.0
        pause_s = min(typed.retry_after_s or self.config.pause_s, _MAX_PAUSE_S)
        # An archive for which there is no room is unpacked from its beginning each time.
        delay_s = _FULL_PAUSE_S if isinstance(typed, InsufficientStorage) else pause_s
        await self._persist("released", store.release, lease, delay_s=delay_s)
        return pause_s

    async def _persist(
        self,
        settlement: Settlement,
        call: Callable[Concatenate[Lease, P], bool | ItemState | None],
        lease: Lease,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        """Write an outcome, through an outage of the store if need be: the work was done and must not be in vain.

        Raises:
            SteadyOCRError: The store's refusal.
        """
        pause_s = _FIRST_PAUSE_S
        waiting = _Waiting(self._reader, [key for work in args for key in _blobs_of(work)])
        while True:
            try:
                counted = await self._jobs.run(call, lease, *args, **kwargs)
            except NoRoom:
                # No outage: the store works, and this is its answer.
                raise
            except Unavailable as error:
                _log.warning("An outcome cannot be written yet", extra={"job_id": lease.job_id, "code": error.code})
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _MAX_PAUSE_S)
                if not await waiting.is_whole():
                    _log.warning("What an item gave was cleaned away; it is done again", extra={"job_id": lease.job_id})
                    await self._persist("released", self._jobs.store.release, lease)
                    return
            else:
                self.settled[settlement if counted else "lost"] += 1
                return


class _Waiting:
    """Blobs of an outcome that cannot be written down yet: until it is, the sweep takes them for nobody's."""

    def __init__(self, reader: ItemReader, keys: Sequence[str]) -> None:
        self._reader = reader
        self._keys = keys
        self._renew_at = time.monotonic() + _RENEW_S

    async def is_whole(self) -> bool:
        """Keep them young, now and then; returns whether they are all there."""
        if not self._keys or (len(self._keys) > _FEW_BLOBS and time.monotonic() < self._renew_at):
            return True
        self._renew_at = time.monotonic() + _RENEW_S
        return await asyncio.to_thread(self._reader.renew, self._keys)


def _blobs_of(work: object) -> list[str]:
    """Return the keys of what an outcome has stored."""
    keys: list[str | None] = []
    if isinstance(work, ItemOutcome):
        keys = [work.result_ref, work.overlay_ref]
    elif isinstance(work, list):
        keys = [item.input_ref for item in work]
    return [key for key in keys if key is not None]
