"""Deleting blobs that nobody refers to: what a deleted job or a broken upload left behind."""

from __future__ import annotations

import itertools
import logging
from typing import Final

from steadyocr.jobs.blobs import BlobStore
from steadyocr.jobs.stopping import KeepOn, always, while_wanted
from steadyocr.jobs.store import JobStore

_log = logging.getLogger("steadyocr.jobs")

_AT_ONCE: Final = 500


def sweep_orphans(store: JobStore, blobs: BlobStore, min_age_s: float, keep_on: KeepOn = always) -> int:
    """Delete blobs that are at least this old and that no item refers to; returns how many.

    Args:
        store: Who refers.
        blobs: What is swept.
        min_age_s: Must exceed the time from storing a blob to submitting its job, the upload of the rest included.
        keep_on: Asked before each step; the rest is left for the next sweep.
    """
    deleted = 0
    old = iter(blobs.list_older(min_age_s, keep_on))
    while (batch := [blob.key for blob in itertools.islice(old, _AT_ONCE)]) and keep_on():
        needed = store.referenced(batch)
        unneeded = while_wanted((key for key in batch if key not in needed), keep_on)
        deleted += sum(blobs.delete(key, min_age_s=min_age_s) for key in unneeded)
    if deleted:
        _log.info("Deleted orphaned blobs", extra={"blobs": deleted})
    return deleted
