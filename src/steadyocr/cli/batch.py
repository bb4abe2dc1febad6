"""``steadyocr batch``: many pictures as one durable job, here or at a server, that goes on where it was broken off."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from steadyocr.cli.batch_files import Source, collect, fingerprint
from steadyocr.cli.batch_notes import Notes
from steadyocr.cli.batch_output import Output, open_output
from steadyocr.cli.batch_report import Report
from steadyocr.cli.batch_target import Answer, LocalTarget, Standing, Target
from steadyocr.cli.exit_codes import ExitCode
from steadyocr.errors import InvalidOption, JobNotFound, NotFoundError
from steadyocr.options import parse_options
from steadyocr.page_formats import PAGE_FORMATS, PageFormat
from steadyocr.service import Service
from steadyocr.settings import Settings, load_settings
from steadyocr.telemetry import logging as logs
from steadyocr.types import OcrOptions

# More become several jobs, one after the other, so that no upload is lost as a whole, and none is more than a server
# takes (4 GiB by default).
_FILES_PER_JOB: Final = 2000
_BYTES_PER_JOB: Final = 512 << 20
_PAGE: Final = 100
_POLL_S: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRun:
    """What was asked on the command line.

    Attributes:
        to: URL of a server; ``None`` works the batch off in this process.
        api_key: For the server.
        anew: Do not go on with an earlier run.
    """

    sources: list[str]
    to: str | None
    api_key: str | None
    page_format: str
    output: Path | None
    options: dict[str, Any]
    anew: bool = False
    config_file: Path | None = None


@dataclass(slots=True)
class _Tally:
    """What has become of the items so far; archives do not count."""

    total: int
    done: int = 0
    failures: dict[str, int] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        return sum(self.failures.values())


async def run_batch(run: BatchRun) -> ExitCode:
    """Have all files read; one that cannot be read spoils only itself.

    Returns:
        ``OK``, ``SOME_FAILED`` when an item was not read, or ``INTERRUPTED``; then the same command goes on.

    Raises:
        InvalidOption: An option or the combination of options is wrong.
        EmptyInput: There is nothing to read.
        SteadyOCRError: The batch is refused, or nobody is there to read it.
    """
    kind = _known_format(run)
    options = parse_options(run.options, overlay=kind == "overlay.png")
    sources = await asyncio.to_thread(collect, run.sources)
    settings, _ = load_settings(
        {"logging": {"level": "warning"}, "memory": {"calibrate": False}}, config_file=run.config_file
    )
    logs.configure(settings.logging.format, settings.logging.level)
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with Report() as report:
        try:
            async with _target(run, settings, report.say) as target:
                batch = _Batch(run, kind, options, target, Notes(settings.data_dir / "batches"), report)
                return await batch.work(sources)
        except asyncio.CancelledError:
            report.say("Broken off. The same command goes on where this one stopped.")
            return ExitCode.INTERRUPTED


def _known_format(run: BatchRun) -> PageFormat:
    if run.page_format not in PAGE_FORMATS:
        raise InvalidOption(f"unknown format; known: {', '.join(PAGE_FORMATS)}")
    kind: PageFormat = run.page_format
    if kind == "overlay.png" and run.output is None:
        raise InvalidOption("overlay.png needs a folder to write to: add -o DIR")
    return kind


@contextlib.asynccontextmanager
async def _target(run: BatchRun, settings: Settings, say: Callable[[str], None]) -> AsyncIterator[Target]:
    if run.to is not None:
        from steadyocr.cli.batch_remote import RemoteTarget
        from steadyocr.cli.remote import Remote

        remote = Remote(run.to, run.api_key, say)
        try:
            yield RemoteTarget(remote)
        finally:
            # A thread that sends to a server, or waits for it, would keep the process from ending.
            remote.close()
        return
    service = Service(settings, with_jobs=True)
    try:
        await service.start()
        yield LocalTarget(service)
    finally:
        await service.stop()


def in_parts(sources: Sequence[Source]) -> Iterator[Sequence[Source]]:
    """Yield the files of one job after the other, in order; a file larger than a part is one by itself."""
    part: list[Source] = []
    size = 0
    for source in sources:
        try:
            more = source.path.stat().st_size
        except OSError:  # said by whoever reads it
            more = 0
        if part and (len(part) == _FILES_PER_JOB or size + more > _BYTES_PER_JOB):
            yield part
            part, size = [], 0
        part.append(source)
        size += more
    if part:
        yield part


class _Batch:
    """One run over all files."""

    def __init__(
        self, run: BatchRun, kind: PageFormat, options: OcrOptions, target: Target, notes: Notes, report: Report
    ) -> None:
        self._run = run
        self._kind = kind
        self._options = options
        self._target = target
        self._notes = notes
        self._report = report
        self._output: Output = open_output(run.output, kind)
        self._tally = _Tally(0)

    async def work(self, sources: Sequence[Source]) -> ExitCode:
        self._tally.total = len(sources)
        for some in in_parts(sources):
            await self._follow(await self._job_for(some), some)
        tally = self._tally
        self._report.say(f"{tally.done} read, {tally.failed} failed")
        for code, count in sorted(tally.failures.items()):
            self._report.say(f"  {count} x {code}")
        return ExitCode.SOME_FAILED if tally.failed else ExitCode.OK

    async def _job_for(self, sources: Sequence[Source]) -> str:
        """Send the files, unless that was done before."""
        to = self._run.to or ""
        key = await asyncio.to_thread(fingerprint, sources, self._options.to_wire())
        if self._run.anew:
            key = f"{key}-{uuid.uuid4().hex}"
        known = self._notes.job_of(key, to)
        if known is not None:
            with contextlib.suppress(JobNotFound):
                standing = await self._target.standing(known)
                self._report.say(f"Going on with job {known}: {standing.ended} of {standing.total} are done with.")
                return known
            # The job is gone, and with it the answers; its key stands for nothing any more.
        job_id = await self._target.submit(sources, self._options, key)
        self._notes.remember(key, to, job_id)
        self._report.say(f"Job {job_id}")
        return job_id

    async def _follow(self, job_id: str, sources: Sequence[Source]) -> None:
        before, after, archives = self._tally.done + self._tally.failed, -1, 0
        while True:
            standing = await self._target.standing(job_id)
            answers = await self._target.answers(job_id, after, _PAGE)
            for answer in answers:
                archives += answer.kind == "expand" and answer.state == "done"
                await self._take(job_id, answer, sources)
                after = answer.position
            self._show(standing, before, len(sources), archives)
            if answers:
                continue
            if standing.finished:
                return
            await asyncio.sleep(_POLL_S)

    def _show(self, standing: Standing, before: int, sent: int, archives: int) -> None:
        # Archives have grown into their content.
        total = max(self._tally.total, self._tally.total - sent + standing.total - archives)
        ended = before + standing.ended - archives
        self._report.show(total=total, ended=ended, failed=self._tally.failed, eta_s=standing.eta_s)

    def _note_failure(self, name: str, code: str, message: str) -> None:
        self._tally.failures[code] = self._tally.failures.get(code, 0) + 1
        self._report.say(f"{name}: {message} [{code}]")

    async def _take(self, job_id: str, answer: Answer, sources: Sequence[Source]) -> None:
        name = sources[answer.position].name if answer.position < len(sources) else answer.name
        if answer.kind == "expand" and answer.state == "done":
            return
        if answer.page is None:
            code, message = answer.error or (answer.state, f"it was {answer.state}")
            self._note_failure(name, code, message)
            return
        overlay = b""
        if self._kind == "overlay.png" and answer.overlay is not None:
            try:
                overlay = await self._target.overlay(job_id, answer)
            except NotFoundError as missing:
                self._note_failure(name, missing.code, missing.message)
                return
        await asyncio.to_thread(self._output.write, name, answer.page, overlay)
        self._tally.done += 1
