"""One service at a time keeps its state in a data folder.

Two would sweep each other's unfinished files away, overwrite each other's quarantine and take each other's training
runs for dead ones. Batch jobs are another matter: their store is made for many processes.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from steadyocr.errors import ConflictError

_log = logging.getLogger("steadyocr.service")

_NAME: Final = "lock"
# Longer than any process id.
_PID_BYTES: Final = 32


@contextlib.contextmanager
def claimed(data_dir: Path) -> Iterator[None]:
    """Hold a data folder for this process; the kernel lets go of it however the process ends.

    Where there can be no lock (a disk without room for the file, a file system without locks) the service starts all
    the same and says so: to be up is worth more.

    Args:
        data_dir: The folder, made when it is not there.

    Raises:
        ConflictError: Another process holds it.
    """
    with contextlib.ExitStack() as held:
        try:
            # What people's pictures say is nobody else's business.
            data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Not inherited: neither an engine nor a trainer that outlives us keeps a successor out.
            lock = os.open(data_dir / _NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            held.callback(os.close, lock)
            _lock(lock, data_dir)
        except OSError:
            _log.warning("Nothing keeps a second service out of the data folder", exc_info=True)
        yield


def _lock(lock: int, data_dir: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(lock, _PID_BYTES, 0).decode("ascii", "replace").strip() or "unknown"
        raise ConflictError(
            f"another service (process {holder}) keeps its state in {data_dir}: stop it, or set another data_dir",
            data_dir=str(data_dir),
            holder=holder,
        ) from error
    # On a full disk the lock is had all the same; only its holder stays unnamed.
    with contextlib.suppress(OSError):
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
