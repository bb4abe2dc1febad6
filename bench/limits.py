"""A memory limit of the kernel's own around a command: a cgroup, version 1 or 2, made and removed. Needs root."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Limit:
    """A cgroup with a limit.

    Attributes:
        folder: Where it is.
        events: The file that counts its kills for memory.
        peak: The file with the most memory used.
    """

    folder: Path
    events: str
    peak: str

    @property
    def wrapper(self) -> Sequence[str]:
        """A command that runs the program given after it inside."""
        return ("sh", "-c", f'echo $$ > {self.folder}/cgroup.procs && exec "$0" "$@"')

    def oom_kills(self) -> int:
        """How many processes the kernel has killed in it for memory."""
        for line in (self.folder / self.events).read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "oom_kill":
                return int(value)
        return 0

    def peak_bytes(self) -> int:
        """The most memory used in it, page cache included, in bytes."""
        return int((self.folder / self.peak).read_text())


@contextmanager
def memory_limit(size_bytes: int) -> Iterator[Limit]:
    """Make a cgroup with a memory limit and without swap; remove it when what ran in it has ended.

    Raises:
        SystemExit: This machine lets nobody make one.
    """
    name = f"steadyocr-bench-{os.getpid()}"
    try:
        if (_ROOT / "memory").is_dir():
            limit = Limit(_ROOT / "memory" / name, "memory.oom_control", "memory.max_usage_in_bytes")
            limit.folder.mkdir()
            (limit.folder / "memory.limit_in_bytes").write_text(str(size_bytes))
            with contextlib.suppress(OSError):
                (limit.folder / "memory.memsw.limit_in_bytes").write_text(str(size_bytes))
        else:
            limit = Limit(_ROOT / name, "memory.events", "memory.peak")
            limit.folder.mkdir()
            (limit.folder / "memory.max").write_text(str(size_bytes))
            (limit.folder / "memory.swap.max").write_text("0")
    except OSError as error:
        raise SystemExit(f"no memory limit can be set here ({error}); it takes root and a memory cgroup") from None
    try:
        yield limit
    finally:
        for _ in range(100):
            with contextlib.suppress(OSError):
                limit.folder.rmdir()
                break
            time.sleep(0.1)
