"""``steadyocr synth``: rendered training data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from steadyocr.errors import InvalidOption
from steadyocr.training.synth.picture import KINDS
from steadyocr.training.synth.writer import write_dataset


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthRun:
    """What was asked on the command line."""

    out: Path
    count: int
    seed: int
    workers: int
    backgrounds: Path | None
    corpora: Path | None
    kinds: tuple[str, ...]


def run_synth(run: SynthRun) -> None:
    """Render with a bar."""
    unknown = [kind for kind in run.kinds if kind not in KINDS]
    if unknown:
        raise InvalidOption(f"unknown kind {unknown[0]}; known: {', '.join(KINDS)}")
    console = Console(stderr=True)
    columns = (TextColumn("rendering"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("rendering", total=run.count)
        write_dataset(
            run.out,
            run.count,
            run.seed,
            run.workers,
            backgrounds_dir=run.backgrounds,
            corpora_dir=run.corpora,
            kinds=run.kinds or None,
            progress=lambda done, _: bar.update(task, completed=done),
        )
