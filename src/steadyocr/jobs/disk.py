"""Free disk space, asked for before it hurts."""

from __future__ import annotations

import shutil
from pathlib import Path

from steadyocr.errors import InsufficientStorage


def refuse_low_disk(folder: Path, min_free_bytes: int, needed_bytes: int = 0) -> None:
    """Refuse what would eat into the reserve that running work needs to finish.

    Raises:
        InsufficientStorage: Less than `min_free_bytes` would be left.
    """
    if min_free_bytes <= 0:
        return
    free = shutil.disk_usage(folder).free
    if free - needed_bytes < min_free_bytes:
        raise InsufficientStorage(
            "the disk is too full to take more in; delete old jobs or free some space",
            retry_after_s=60.0,
            free_bytes=free,
            reserve_bytes=min_free_bytes,
        )
