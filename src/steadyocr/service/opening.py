"""Opening the job store and the blobs, again and again if need be."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from steadyocr.errors import SteadyOCRError, Unavailable
from steadyocr.jobs.async_store import AsyncJobStore
from steadyocr.jobs.blobs import BlobStore
from steadyocr.jobs.object_blobs import open_blobs
from steadyocr.jobs.sql_store import open_job_store
from steadyocr.jobs.store import JobStore
from steadyocr.settings import Settings

_log = logging.getLogger("steadyocr.jobs")

_FIRST_PAUSE_S: Final = 0.5
_MAX_PAUSE_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Opened:
    """What is open."""

    jobs: AsyncJobStore
    blobs: BlobStore


async def open_patiently(settings: Settings, on_trouble: Callable[[SteadyOCRError], None]) -> Opened:
    """Open store and blobs, however long that takes.

    Args:
        settings: Where they are.
        on_trouble: Told of every failed try.
    """
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            return await open_once(settings)
        except SteadyOCRError as error:
            on_trouble(error)
        except OSError as error:
            # The text of the error names a path, so it goes to the log only.
            _log.warning("The folder of the jobs cannot be used", exc_info=error)
            on_trouble(Unavailable("the folder of the jobs cannot be used", retry_after_s=_MAX_PAUSE_S))
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, _MAX_PAUSE_S)


async def open_once(settings: Settings) -> Opened:
    """Open store and blobs in a thread: a server that does not answer takes seconds to say so.

    Raises:
        ConfigError: It can never work as it is configured.
        Unavailable: It does not work now.
        OSError: A folder cannot be used.
    """
    opening = asyncio.ensure_future(asyncio.to_thread(_open, settings))
    try:
        store, blobs = await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close_late)
        raise
    return Opened(AsyncJobStore(store), blobs)


def _open(settings: Settings) -> tuple[JobStore, BlobStore]:
    jobs, data_dir = settings.jobs, settings.data_dir
    blobs = open_blobs(
        jobs.blobs_url(data_dir),
        spool=data_dir / "jobs" / "spool",
        options=jobs.s3_options(),
        min_free_bytes=jobs.min_free_bytes,
    )
    return open_job_store(jobs.database_url(data_dir), jobs.store_config()), blobs


def _close_late(opening: asyncio.Future[tuple[JobStore, BlobStore]]) -> None:
    """Close a store that was opened although nobody waits for it any more."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result()[0].close()
