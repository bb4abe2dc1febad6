"""Keeps the store and the blobs within bounds, now and then."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable

from steadyocr.errors import SteadyOCRError
from steadyocr.jobs.async_store import AsyncJobStore
from steadyocr.jobs.blobs import BlobStore
from steadyocr.jobs.config import RetentionConfig
from steadyocr.jobs.sweep import sweep_orphans
from steadyocr.telemetry.loops import Loops

_log = logging.getLogger("steadyocr.jobs")


class Janitor:
    """Throws away what is old, too much or nobody's."""

    def __init__(self, jobs: AsyncJobStore, blobs: BlobStore, config: RetentionConfig | None = None) -> None:
        self._jobs = jobs
        self._blobs = blobs
        self._config = config or RetentionConfig()
        # What is under way in a thread cannot be cancelled with the loop.
        self._stopped = threading.Event()

    def start(self, loops: Loops) -> None:
        """Start to clean up, at once and then now and then."""
        loops.start("job-janitor", self._run())

    async def _run(self) -> None:
        try:
            while True:
                await self.clean_up()
                await asyncio.sleep(self._config.interval_s)
        finally:
            self._stopped.set()

    def _keep_on(self) -> bool:
        return not self._stopped.is_set()

    async def clean_up(self) -> None:
        """Do one round. A step that does not work out is logged, and the others are done all the same."""
        # With a store that cannot be used for a week, what broken uploads leave behind would fill the disk.
        for step in (self._delete_ended, self._sweep_orphans, self._sweep_unfinished):
            await _if_possible(step)

    async def _delete_ended(self) -> None:
        store, keep_on = self._jobs.store, self._keep_on
        old = await self._jobs.run(store.prune, self._config.keep_s, keep_on)
        many = await self._jobs.run(store.prune_to_quota, self._config.max_bytes, keep_on)
        if old or many:
            _log.info("Deleted ended jobs", extra={"old": old, "over_quota": many})

    async def _sweep_orphans(self) -> None:
        age_s = self._config.orphan_age_s
        await asyncio.to_thread(sweep_orphans, self._jobs.store, self._blobs, age_s, self._keep_on)

    async def _sweep_unfinished(self) -> None:
        await asyncio.to_thread(self._blobs.sweep_unfinished, self._config.orphan_age_s, self._keep_on)


async def _if_possible(step: Callable[[], Awaitable[None]]) -> None:
    try:
        await step()
    except SteadyOCRError as error:
        _log.warning("Cleaning up did not work out", extra={"code": error.code})
    except OSError as error:
        # A folder that cannot be read now may well be readable next time.
        _log.warning("Cleaning up did not work out", exc_info=error)
