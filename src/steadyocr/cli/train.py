"""``steadyocr train``: fine-tuning (or training) in this process, with a bar, stopped and taken up at will."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bar

from steadyocr.cli.exit_codes import ExitCode
from steadyocr.cli.models import weights_at
from steadyocr.errors import InvalidOption
from steadyocr.runtime.manifest import BUILTIN_MODELS, REMAINDER_NAME
from steadyocr.settings import Settings, load_settings
from steadyocr.training.checkpoint import BEST_NAME
from steadyocr.training.config import OptimiserConfig, Source, TrainConfig, ValidationConfig, finetune
from steadyocr.training.dialects import DetectorWeights
from steadyocr.training.labels import read_folder
from steadyocr.training.loop import train
from steadyocr.training.progress import Progress, Report, one_line
from steadyocr.training.run import stop_on_signal
from steadyocr.training.rundir import CONFIG_NAME, require_checkpoint
from steadyocr.training.start import starting_weights
from steadyocr.training.targets import TargetParams

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRun:
    """What was asked on the command line; ``given`` names the fields that are no defaults."""

    folder: Path | None
    out: Path
    val: Path | None
    init: str
    from_scratch: bool
    resume: bool
    config_json: Path | None
    batch_size: int
    epochs: int
    crops_per_picture: int
    lr: float
    crop_size: int
    inner_channels: int
    max_minutes: float
    seed: int
    device: str
    threads: int
    workers: int
    cache_mb: int
    config_file: Path | None
    given: frozenset[str]


# What may be given beside a configuration that is written down, its field there and the value for it.
_CHANGES: Final[Mapping[str, tuple[str, Callable[[TrainRun], Any]]]] = {
    "epochs": ("epochs", lambda run: run.epochs),
    "max_minutes": ("max_minutes", lambda run: run.max_minutes),
    "device": ("device", lambda run: run.device),
    "threads": ("threads", lambda run: run.threads),
    "workers": ("num_workers", lambda run: run.workers),
    "cache_mb": ("cache_bytes", lambda run: run.cache_mb << 20),
}
_BESIDE_CONFIG: Final = frozenset({"out", "resume", "config_json", "config_file"})


def run_training(run: TrainRun, say: Say) -> ExitCode:
    """Train; says what to do with the result."""
    config = _config(run, say)
    with _watched() as report, stop_on_signal() as should_stop:
        outcome = train(config, run.out, resume=run.resume, report=report, should_stop=should_stop)
    best = "" if outcome.best_hmean is None else f", best H-mean {outcome.best_hmean:.4f}"
    if not outcome.finished:
        say(f"stopped at step {outcome.step}{best}; go on with: steadyocr train --out {run.out.resolve()} --resume")
        return ExitCode.INTERRUPTED
    say(f"finished at step {outcome.step}{best}: {run.out / BEST_NAME}")
    say(f"next: steadyocr models import {run.out / BEST_NAME} --name my-model && steadyocr models use my-model")
    return ExitCode.OK


def _config(run: TrainRun, say: Say) -> TrainConfig:
    if run.resume or run.config_json is not None:
        return _written_config(run)
    if run.folder is None:
        raise InvalidOption("name the folder of labelled pictures, or --resume a run")
    settings, _ = load_settings(config_file=run.config_file)
    start = None if run.from_scratch else _start(run.init, settings)
    weights = starting_weights(start) if start else None
    say(f"starting from {start}" if start else "starting from random weights: this takes many more pictures and epochs")
    judged = _judged(run)
    if not judged:
        say("nothing to judge on (no test_list.txt, no --val): the last weights will count as the best")
    return finetune(
        run.folder.resolve(),
        judged,
        start and start.resolve(),
        validation=_validation(judged, weights),
        targets=TargetParams(shrink_ratio=weights.shrink_ratio) if weights else TargetParams(),
        optimiser=OptimiserConfig(kind="sgd", lr=run.lr, warmup_steps=10),
        inner_channels=weights.inner_channels if weights else run.inner_channels,
        batch_size=run.batch_size,
        epochs=run.epochs,
        crops_per_epoch=run.crops_per_picture * len(read_folder(run.folder)),
        crop_size=run.crop_size,
        max_minutes=run.max_minutes,
        seed=run.seed,
        device=run.device,
        threads=run.threads,
        num_workers=run.workers,
        cache_bytes=run.cache_mb << 20,
    )


def _written_config(run: TrainRun) -> TrainConfig:
    """Read a run folder's configuration or a file of the user's; how long and on what to train may change.

    Raises:
        InvalidOption: More was given on the command line, and would have been passed over.
    """
    refused = sorted(run.given - _BESIDE_CONFIG - set(_CHANGES))
    if refused:
        names = ", ".join("FOLDER" if name == "folder" else _flag(name) for name in refused)
        raise InvalidOption(
            f"{'--resume' if run.resume else '--train-config'} has a configuration of its own, so leave {names} out; "
            f"what may be given is {', '.join(map(_flag, _CHANGES))}"
        )
    if run.resume:
        require_checkpoint(run.out)
    config = TrainConfig.from_file(run.config_json or run.out / CONFIG_NAME)
    return replace(config, **{field: value(run) for name, (field, value) in _CHANGES.items() if name in run.given})


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _start(init: str, settings: Settings) -> Path | None:
    """A file, a model folder, a model's name; by default the detector in use, or one that is built in."""
    if init:
        return weights_at(init, settings)
    used = settings.models.detector
    folders = [settings.data_dir / "models" / used, BUILTIN_MODELS / used, *sorted(BUILTIN_MODELS.iterdir())]
    return next((folder for folder in folders if (folder / REMAINDER_NAME).is_file()), None)


def _judged(run: TrainRun) -> tuple[Source, ...]:
    if run.val is not None:
        return (Source(path=str(run.val.resolve()), split="test"),)
    if run.folder is not None and (run.folder / "test_list.txt").is_file():
        return (Source(path=str(run.folder.resolve()), split="test"),)
    return ()


def _validation(judged: tuple[Source, ...], weights: DetectorWeights | None) -> ValidationConfig:
    """Judge with the thresholds the weights came with, and some on either side; unjudged, they keep their own."""
    if weights is None:
        return ValidationConfig(sources=judged)
    thresholds, ratios = {weights.bin_threshold}, {weights.unclip_ratio}
    if judged:
        thresholds |= {0.2, 0.3, 0.4}
        ratios = {round(weights.unclip_ratio * factor, 2) for factor in (0.85, 1.0, 1.15)}
    return ValidationConfig(
        sources=judged,
        max_side=weights.max_side,
        box_threshold=weights.box_threshold,
        bin_thresholds=tuple(sorted(thresholds)),
        unclip_ratios=tuple(sorted(ratios)),
    )


@contextmanager
def _watched() -> Iterator[Report]:
    """A bar where somebody watches, a line for each report where nobody does."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda at: console.print(one_line(at), markup=False, soft_wrap=True)
        return
    columns: tuple[Any, ...] = (
        TextColumn("training"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.description}"),
    )
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("", total=1.0)

        def show(at: Progress) -> None:
            bar.update(task, completed=at.done, description=_state(at))
            if at.hmean is not None:
                bar.console.print(one_line(at), markup=False)

        yield show


def _state(at: Progress) -> str:
    loss = f" loss {at.losses['total']:.3f}" if "total" in at.losses else ""
    minutes, seconds = divmod(round(at.eta_s), 60)
    return f"step {at.step}{loss} {at.crops_per_s:.1f} crops/s, {minutes}:{seconds:02d} to go"
