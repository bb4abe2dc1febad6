"""Data sets of the laboratory: the subfolders of one folder, by name only."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any, Final

from steadyocr.errors import DatasetError, DeadlineExceeded, InternalError, NotFoundError, QueueFull
from steadyocr.service.lab_child import Child, Ending, Limits, read_tail

_MAX_NAMES: Final = 1000
_MAX_REPORT_BYTES: Final = 4 << 20
_REPORT_S: Final = 120.0
# Reports that may be under way and wait; each waits for those before it.
_MAX_REPORTS: Final = 8


class Datasets:
    """The data sets.

    Args:
        root: Their folder. Only an operator writes there; a link in it is an operator's wish.
        scratch: Folder for a report on its way.
        limits: What the process that checks may take.
        environment: Of that process.
    """

    def __init__(self, root: Path, scratch: Path, limits: Limits, environment: dict[str, str]) -> None:
        self.root = root
        self._scratch = scratch
        self._limits = Limits(memory_bytes=limits.memory_bytes, nice=limits.nice, seconds=_REPORT_S)
        self._environment = environment
        self._one_at_a_time = asyncio.Lock()
        self._reports = 0

    def names(self) -> list[str]:
        """Return all names, sorted."""
        if not self.root.is_dir():
            return []
        folders = (path for path in self.root.iterdir() if path.is_dir() and not path.name.startswith("."))
        return sorted(path.name for path in folders)[:_MAX_NAMES]

    def folder(self, name: str) -> Path:
        """Return a data set's folder.

        Raises:
            NotFoundError: There is none of this name. A name is only ever compared, so none leads anywhere else.
        """
        if name not in self.names():
            raise NotFoundError("there is no data set of this name")
        return self.root / name

    async def report(self, name: str) -> dict[str, Any]:
        """Check a data set, in a process of its own.

        Raises:
            NotFoundError: There is none of this name.
            DatasetError: It is no data set at all.
            DeadlineExceeded: It is too large to be checked while somebody waits.
            QueueFull: Too many others wait for theirs.
        """
        folder = await asyncio.to_thread(self.folder, name)
        if self._reports >= _MAX_REPORTS:
            raise QueueFull("too many data sets are being checked at the moment; try again later", retry_after_s=10.0)
        self._reports += 1
        try:
            async with self._one_at_a_time:
                ending, text = await self._check(folder)
        finally:
            self._reports -= 1
        if ending.reason == "time":
            raise DeadlineExceeded("this data set takes too long to check here; use 'steadyocr dataset check'")
        try:
            answer: dict[str, Any] = json.loads(text.strip().rpartition(b"\n")[2])
        except ValueError as error:
            raise InternalError("the data set could not be checked") from error
        if "error" in answer:
            raise DatasetError(str(answer["error"]))
        return answer

    async def _check(self, folder: Path) -> tuple[Ending, bytes]:
        """Run the process; returns how it ended and what it wrote. It ends with whoever waits for it."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        output = self._scratch / "report.json"
        output.unlink(missing_ok=True)
        command = (sys.executable, "-m", "steadyocr.training.report", str(folder))
        child = Child(command, output, self._environment, self._limits)
        try:
            await child.start()
            ending = await child.wait()
            return ending, await asyncio.to_thread(read_tail, output, _MAX_REPORT_BYTES)
        finally:
            output.unlink(missing_ok=True)
