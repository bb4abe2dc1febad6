"""Batch jobs as a part of the service: opens store and blobs, works jobs off, cleans up, ends all of it in order.

A store that cannot be reached takes nothing else down: pictures sent one by one are read as ever, what concerns jobs
is refused with ``unavailable``, and opening is tried again until it works. Readiness of the service does not depend
on it; :attr:`Batches.trouble` says what is wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from steadyocr.errors import ConfigError, Draining, InvalidOption, NotReady, SteadyOCRError, Unavailable
from steadyocr.jobs.async_store import AsyncJobStore
from steadyocr.jobs.blobs import BlobStore
from steadyocr.jobs.eta import EtaMeter, Outlook, outlook
from steadyocr.jobs.janitor import Janitor
from steadyocr.jobs.models import Job, Progress
from steadyocr.jobs.reading import Submit
from steadyocr.jobs.runner import Runner
from steadyocr.jobs.store import JobStore
from steadyocr.jobs.webhook import Deliverer
from steadyocr.jobs.webhook_address import parse_target
from steadyocr.service.incoming import IntakeLimits
from steadyocr.service.intake import Intake
from steadyocr.service.opening import Opened, open_patiently
from steadyocr.settings import Settings
from steadyocr.telemetry.loops import Loops

_log = logging.getLogger("steadyocr.jobs")

P = ParamSpec("P")
T = TypeVar("T")

# A start waits this long for the store; after that it goes on without.
_FIRST_OPEN_S: Final = 3.0


class Batches:
    """Owns the job store, the blobs, the runner and the janitor. Belongs to one event loop.

    The order of a life: :meth:`start`, :meth:`work` (where items are worked off), :meth:`drain`, the loops' own end,
    :meth:`close`.

    Args:
        settings: The whole tree.
        submit: Where pictures go in.

    Attributes:
        stopping: Set once nothing new is taken; whoever waits for a job ends then.
        uploads: Jobs that are being sent right now.
        listeners: Event streams that are open right now.
    """

    def __init__(self, settings: Settings, submit: Submit) -> None:
        self.settings = settings
        self.stopping = asyncio.Event()
        self.uploads = 0
        self.listeners = 0
        self._submit = submit
        self._may_work = asyncio.Event()
        self._opened: Opened | None = None
        self._open_error: SteadyOCRError | None = NotReady("the job store is not open yet")
        self._runner: Runner | None = None
        self._eta: EtaMeter | None = None

    async def start(self, loops: Loops) -> None:
        """Open the store, or go on trying in the background when that does not work soon.

        Raises:
            ConfigError: It can never work as it is configured.
        """
        first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        loops.start("job-store", self._run(loops, first))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_OPEN_S):
                await asyncio.shield(first)

    def work(self) -> None:
        """Work jobs off on this node, as soon as the store is open. To be called once an engine is ready."""
        self._may_work.set()

    async def drain(self) -> None:
        """Take nothing new, break off what is in hand and put it back."""
        self.stopping.set()
        self._may_work.clear()
        if self._runner is not None:
            await self._runner.stop()

    async def close(self) -> None:
        """Let go of the store. The loops have been stopped by their owner. Safe to call twice."""
        self.stopping.set()
        opened, self._opened = self._opened, None
        self._open_error = Draining("the service is shutting down", retry_after_s=5.0)
        if opened is not None:
            await opened.jobs.close()

    async def _run(self, loops: Loops, first: asyncio.Future[None]) -> None:
        opened = await open_patiently(self.settings, lambda error: self._note_trouble(error, first))
        self._opened, self._open_error = opened, None
        jobs = self.settings.jobs
        Janitor(opened.jobs, opened.blobs, jobs.retention_config()).start(loops)
        self._eta = EtaMeter(opened.jobs)
        self._eta.start(loops)
        if (webhooks := jobs.webhook_config()) is not None:
            Deliverer(opened.jobs, webhooks).start(loops)
        if not first.done():
            first.set_result(None)
        await self._may_work.wait()
        engines = self.settings.scheduler_config().engines
        config = jobs.runner_config(engines, self.settings.limits.max_bytes)
        self._runner = Runner(opened.jobs, opened.blobs, self._submit, config)
        self._runner.start(loops)
        # Its owner ends this loop; ending by itself would look like a death.
        await asyncio.Event().wait()

    def _note_trouble(self, error: SteadyOCRError, first: asyncio.Future[None]) -> None:
        self._open_error = error
        if first.done():
            return
        if isinstance(error, ConfigError):
            first.set_exception(error)
            return
        _log.error("The job store cannot be opened; pictures are served without it", extra={"code": error.code})
        first.set_result(None)

    @property
    def jobs(self) -> AsyncJobStore:
        """The store.

        Raises:
            Unavailable: It is not open; or was not configured rightly, or the service is stopping.
        """
        return self._require().jobs

    @property
    def blobs(self) -> BlobStore:
        """The blobs.

        Raises:
            Unavailable: See :attr:`jobs`.
        """
        return self._require().blobs

    def _require(self) -> Opened:
        if self._opened is None:
            problem = self._open_error
            if isinstance(problem, Draining):
                raise Draining(problem.message, retry_after_s=problem.retry_after_s)
            raise Unavailable("the job store cannot be used at the moment; try again later", retry_after_s=5.0)
        return self._opened

    async def call(self, method: Callable[Concatenate[JobStore, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a method of the store: ``await batches.call(JobStore.job, job_id)``.

        Raises:
            Unavailable: The store cannot be used now.
            SteadyOCRError: What the method raises.
        """
        jobs = self.jobs
        bound: Callable[P, T] = getattr(jobs.store, method.__name__)
        return await jobs.run(bound, *args, **kwargs)

    @property
    def changes(self) -> int:
        """Counts the changes seen in the store; 0 while it is not open."""
        return self._opened.jobs.changes if self._opened else 0

    async def changed(self, since: int, timeout_s: float) -> None:
        """Wait until :attr:`changes` is no more what it was, or until the time is up."""
        if self._opened is None:
            await asyncio.sleep(timeout_s)
        else:
            await self._opened.jobs.changed(since, timeout_s)

    def check_webhook(self, url: str) -> None:
        """Refuse a webhook that can never be sent.

        Raises:
            InvalidOption: The URL cannot be one, or this service sends none.
        """
        if self.settings.jobs.webhook_config() is None:
            raise InvalidOption("this service sends no webhooks; set jobs.webhook_secret", option="callback_url")
        parse_target(url)

    @property
    def trouble(self) -> SteadyOCRError | None:
        """Why the store cannot be used; ``None`` while it works."""
        return self._open_error if self._opened is None else self._opened.jobs.trouble

    def intake(self) -> Intake:
        """Return what takes the files of one new job in; an async context manager.

        Raises:
            Draining: The service is stopping.
            Unavailable: The store cannot be used now, or too many jobs are being sent.
        """
        if self.stopping.is_set():
            raise Draining("the service is shutting down", retry_after_s=5.0)
        return Intake(self, self._require().blobs, IntakeLimits.of(self.settings))

    async def cancel(self, job_id: str) -> Job:
        """Cancel a job, here at once what is in hand of it, on other nodes at their next heartbeat.

        Raises:
            JobNotFound: There is no such job.
        """
        job = await self.call(JobStore.cancel, job_id)
        self._drop(job_id)
        return job

    async def delete(self, job_id: str) -> None:
        """Forget a job.

        Raises:
            JobNotFound: There is no such job.
        """
        await self.call(JobStore.delete, job_id)
        self._drop(job_id)

    def _drop(self, job_id: str) -> None:
        if self._runner is not None:
            self._runner.drop_job(job_id)

    def outlook(self, progress: Progress) -> Outlook:
        """Return a job's place in the queue and when it will have ended, as far as that is known."""
        return self._eta.outlook(progress) if self._eta else outlook(progress, None)

    def describe(self) -> dict[str, Any]:
        """Return the state as plain values, without asking the store."""
        trouble = self.trouble
        runner = self._runner
        return {
            "state": "unavailable" if trouble else "ok",
            "reason": trouble.code if trouble else "",
            "working": runner is not None and not self.stopping.is_set(),
            "in_hand": runner.in_hand if runner else 0,
            "settled": dict(runner.settled) if runner else {},
            "uploads": self.uploads,
            "listeners": self.listeners,
        }
