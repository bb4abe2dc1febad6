"""Keeps the store and the blobs within bounds, now and then."""

from __future__ import annotations

import asyncio
import logging

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

    def start(self, loops: Loops) -> None:
        """Start to clean up, at once and then now and then."""
        loops.start("job-janitor", self._run())

    async def _run(self) -> None:
        while True:
            try:
                await self.clean_up()
            except SteadyOCRError as error:
                _log.warning("Cleaning up did not work out", extra={"code": error.code})
            except OSError as error:
                # A folder that cannot be read now may well be readable next time.
                _log.warning("Cleaning up did not work out", exc_info=error)
            await asyncio.sleep(self._config.interval_s)

    async def clean_up(self) -> None:
        """Do one round.

        Raises:
            SteadyOCRError: The store or the blobs cannot be used.
            OSError: A folder cannot be used.
        """
        store = self._jobs.store
        old = await self._jobs.run(store.prune, self._config.keep_s)
        many = await self._jobs.run(store.prune_to_quota, self._config.max_bytes)
        if old or many:
            _log.info("Deleted ended jobs", extra={"old": old, "over_quota": many})
        await asyncio.to_thread(sweep_orphans, store, self._blobs, self._config.orphan_age_s)
        await asyncio.to_thread(self._blobs.sweep_unfinished, self._config.orphan_age_s)
