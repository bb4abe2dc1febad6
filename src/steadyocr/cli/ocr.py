"""``steadyocr ocr``: pictures from files through the same service, without HTTP."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from steadyocr.cli.exit_codes import ExitCode, exit_code_of
from steadyocr.errors import EmptyInput, InvalidOption, SteadyOCRError
from steadyocr.options import parse_options
from steadyocr.page_formats import FILE_SUFFIXES, PAGE_FORMATS, PageFormat, render_page
from steadyocr.scheduling.items import Reply
from steadyocr.service import Service
from steadyocr.settings import load_settings
from steadyocr.telemetry import logging as logs
from steadyocr.types import OcrOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class OcrRun:
    """What was asked on the command line."""

    files: list[Path]
    page_format: str
    output: Path | None
    options: dict[str, Any]
    config_file: Path | None = None


@dataclass(frozen=True, slots=True)
class _Outcome:
    path: Path
    reply: Reply | None
    error: SteadyOCRError | None


async def run_files(run: OcrRun) -> ExitCode:
    """Read all files; one that cannot be read spoils only itself.

    Returns:
        ``OK``; with one file its error's exit code; with several of which some failed, ``SOME_FAILED``.

    Raises:
        InvalidOption: An option or the combination of options is wrong.
        SteadyOCRError: The service cannot be started.
    """
    if run.page_format not in PAGE_FORMATS:
        raise InvalidOption(f"unknown format; known: {', '.join(PAGE_FORMATS)}")
    kind: PageFormat = run.page_format
    if kind == "overlay.png" and run.output is None:
        raise InvalidOption("overlay.png needs a folder to write to: add -o DIR")
    options = parse_options(run.options, overlay=kind == "overlay.png")
    settings, _ = load_settings(
        {"logging": {"level": "warning"}, "memory": {"calibrate": False}}, config_file=run.config_file
    )
    logs.configure(settings.logging.format, settings.logging.level)
    service = Service(settings)
    await service.start()
    failures: list[SteadyOCRError] = []
    write = _writer(run, kind)
    try:
        with _progress(len(run.files)) as progress:
            bar = progress.add_task("reading", total=len(run.files))
            async for outcome in _outcomes(service, run.files, options):
                if outcome.error is not None:
                    failures.append(outcome.error)
                    progress.console.print(
                        f"{outcome.path}: {outcome.error.message} [{outcome.error.code}]", markup=False, soft_wrap=True
                    )
                elif outcome.reply is not None:
                    write(outcome.path, outcome.reply)
                progress.advance(bar)
    finally:
        await service.stop()
    if not failures:
        return ExitCode.OK
    return exit_code_of(failures[0]) if len(run.files) == 1 else ExitCode.SOME_FAILED


async def _outcomes(service: Service, files: list[Path], options: OcrOptions) -> AsyncIterator[_Outcome]:
    """Yield outcomes in the order of the files, with a few in the works at a time."""
    in_flight = 2 * len(service.scheduler.slots)
    gate = asyncio.Semaphore(in_flight)

    async def one(path: Path) -> _Outcome:
        async with gate:
            return await _read_file(service, path, options)

    tasks = [asyncio.create_task(one(path), name=f"read-{index}") for index, path in enumerate(files)]
    try:
        for task in tasks:
            yield await task
    finally:
        for task in tasks:
            task.cancel()


async def _read_file(service: Service, path: Path, options: OcrOptions) -> _Outcome:
    try:
        data = await asyncio.to_thread(_read_bytes, path, service.limits.max_bytes)
        return _Outcome(path, await service.read(data, options), None)
    except SteadyOCRError as error:
        return _Outcome(path, None, error)


def _read_bytes(path: Path, max_bytes: int) -> bytes:
    """Read one byte more than allowed, so that the usual check sees it is too much."""
    try:
        with path.open("rb") as stream:
            return stream.read(max_bytes + 1)
    except OSError as error:
        raise EmptyInput(f"cannot be read: {error.strerror}") from error


def _writer(run: OcrRun, kind: PageFormat) -> Callable[[Path, Reply], None]:
    if run.output is None:
        many = len(run.files) > 1
        return lambda path, reply: _print(path, reply, kind, many=many)
    folder = run.output
    folder.mkdir(parents=True, exist_ok=True)
    names = _output_names(run.files, FILE_SUFFIXES[kind])

    def write(path: Path, reply: Reply) -> None:
        target = folder / names[path]
        if kind == "overlay.png":
            target.write_bytes(reply.payload)
        else:
            target.write_text(_text(reply, kind), encoding="utf-8")

    return write


def _output_names(files: list[Path], suffix: str) -> dict[Path, str]:
    """One name per picture; equal names from different folders are numbered."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in files:
        name, number = f"{path.name}{suffix}", 1
        while name in taken:
            number += 1
            name = f"{path.name}.{number}{suffix}"
        taken.add(name)
        names[path] = name
    return names


def _print(path: Path, reply: Reply, kind: PageFormat, *, many: bool) -> None:
    if many and kind != "json":
        sys.stdout.write(f"==> {path} <==\n")
    sys.stdout.write(_text(reply, kind, file=str(path) if many else None))
    sys.stdout.flush()


def _text(reply: Reply, kind: PageFormat, file: str | None = None) -> str:
    page = reply.message["page"]
    if kind in ("text", "markdown", "csv"):
        return render_page(page, kind)
    named = {"file": file, **page} if file else page
    return json.dumps(named, ensure_ascii=False) + "\n"


def _progress(total: int) -> Progress:
    """A bar on standard error for many files; silent for one, and where nobody watches."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=total == 1 or not console.is_terminal)
