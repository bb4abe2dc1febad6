"""Resident memory of one engine process over pictures of random size.

The engine is the real one, started and spoken to as the service does. Its memory is taken after each item, when it
says that it is ready for the next. The run fails (exit code 1) when that memory, after the first pictures, leaves
±10 % round its median.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import os
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.contenders import Child, Engine, entries
from bench.pictures import Picture, random_pictures
from steadyocr.scheduling.engine import EngineProcess
from steadyocr.scheduling.items import WorkItem
from steadyocr.settings import Settings
from steadyocr.types import OcrOptions

OUT = Path(__file__).parent / "out"
_MIB = 1 << 20
_TOLERANCE = 0.10
_START_TIMEOUT_S = 120.0
_ITEM_TIMEOUT_S = 600.0
# Neighbouring readings are not independent, so the slope is fitted to means of blocks, taken as independent.
_BLOCKS = 10
_STUDENT_95 = 2.306  # two-sided, for 10 blocks less two parameters
_AT_ONCE = 10


@dataclass(frozen=True, slots=True)
class Sample:
    """Memory after one picture, in bytes, and the most during it."""

    width: int
    height: int
    rss: int
    peak: int


@dataclass(frozen=True, slots=True)
class Slope:
    """Growth in bytes per picture, with half the width of its 95 % confidence interval."""

    value: float
    margin: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write CSV and plot."""
    options = _parser().parse_args(arguments)
    name = f"rapidocr-{options.rapidocr}" if options.rapidocr else "engine"
    pictures = _with_progress(_pictures(options.count, options.seed), options.count)
    if options.rapidocr:
        baseline, samples = drive_rapidocr(pictures, options.rapidocr, options.threads)
    else:
        baseline, samples = asyncio.run(drive_engine(pictures, options.backend))

    flat = report(name, baseline, samples, options.settle)
    OUT.mkdir(exist_ok=True)
    suffix = "" if name == "engine" else f"-{name}"
    _write_csv(OUT / f"memory{suffix}.csv", samples)
    _plot(OUT / f"memory{suffix}.png", name, baseline, samples, options.settle)
    # What others do is shown, not judged.
    return 0 if flat or options.rapidocr else 1


async def drive_engine(pictures: Iterator[Picture], backend: Engine | None) -> tuple[int, list[Sample]]:
    """Send the pictures to one engine process; return its base line and a sample for each."""
    config = (
        Settings.model_validate({"engines": {"count": 1, "backend": backend or "auto"}}).scheduler_config().slot.engine
    )
    engine = EngineProcess(config)
    await engine.start(_START_TIMEOUT_S)
    baseline, samples = engine.rss_bytes, []
    try:
        for picture in pictures:
            deadline = asyncio.get_running_loop().time() + _ITEM_TIMEOUT_S
            item = WorkItem(picture.data, OcrOptions(), deadline)
            await engine.run(item)
            await item.outcome
            samples.append(Sample(picture.width, picture.height, engine.rss_bytes, engine.peak_rss_bytes))
    finally:
        await engine.stop()
    return baseline, samples


def drive_rapidocr(pictures: Iterator[Picture], engine: Engine, threads: int) -> tuple[int, list[Sample]]:
    """Have rapidocr read the pictures, in a process of its own and with its own defaults."""
    entry = next(entry for entry in entries() if entry.name == f"rapidocr {engine} defaults")
    child = Child(entry, threads)
    try:
        # It loads its models with the first picture, so the base line is taken after that.
        child.run("read", next(pictures))
        baseline, samples = child.memory(forget=True).rss, []
        for picture in pictures:
            child.run("read", picture)
            held = child.memory(forget=True)
            samples.append(Sample(picture.width, picture.height, held.rss, held.peak))
    finally:
        child.close()
    return baseline, samples


def report(name: str, baseline: int, samples: Sequence[Sample], settle: int) -> bool:
    """Print what was measured; return whether it is flat."""
    settled = [sample.rss for sample in samples[settle:]]
    if len(settled) < _BLOCKS:
        raise SystemExit(f"too few pictures: {len(samples)}, of which the first {settle} do not count")
    least, middle, most = min(settled), statistics.median(settled), max(settled)
    deviation = max(most - middle, middle - least) / middle
    slope = fit_slope(settled)
    peaks = [sample.peak for sample in samples]
    flat = deviation <= _TOLERANCE
    grows = slope.value - slope.margin > 0
    print(f"{name}: {len(samples)} pictures, MiB resident after each")
    print(f"  base line              {baseline / _MIB:8.1f}")
    print(
        f"  after the first {settle:<4}   {least / _MIB:8.1f} least, {middle / _MIB:.1f} median, {most / _MIB:.1f} most"
    )
    print(f"  farthest from median   {deviation * 100:8.1f} %  ({'within' if flat else 'OUTSIDE'} ±10 %)")
    print(
        f"  slope                  {slope.value / 1024:8.1f} KiB a picture, 95 % interval "
        f"{(slope.value - slope.margin) / 1024:.1f} to {(slope.value + slope.margin) / 1024:.1f}: "
        f"{'growth is established' if grows else 'no growth established'}"
    )
    print(f"  peak during a picture  {max(peaks) / _MIB:8.1f} most, {statistics.median(peaks) / _MIB:.1f} median")
    print(f"  load average           {', '.join(f'{value:.1f}' for value in os.getloadavg())}")
    return flat


def fit_slope(values: Sequence[int]) -> Slope:
    """Fit a line to means of consecutive blocks of equal length (the oldest readings that are left over drop out)."""
    length = len(values) // _BLOCKS
    blocks = np.asarray(values[len(values) - length * _BLOCKS :], np.float64).reshape(_BLOCKS, length).mean(axis=1)
    x = (np.arange(_BLOCKS) - (_BLOCKS - 1) / 2) * length
    spread = float((x**2).sum())
    slope = float((x * blocks).sum()) / spread
    rest = blocks - blocks.mean() - slope * x
    error = (float((rest**2).sum()) / (_BLOCKS - 2) / spread) ** 0.5
    return Slope(slope, _STUDENT_95 * error)


def _pictures(count: int, seed: int) -> Iterator[Picture]:
    """Rendered a few at a time: all of them would be a hundred megabytes."""
    for first in range(0, count, _AT_ONCE):
        yield from random_pictures(min(_AT_ONCE, count - first), seed * 1_000_003 + first)


def _with_progress(pictures: Iterator[Picture], count: int) -> Iterator[Picture]:
    for number, picture in enumerate(pictures):
        print(f"\r{number} of {count}", end="", file=sys.stderr, flush=True)
        yield picture
    print(file=sys.stderr)


def _write_csv(target: Path, samples: Sequence[Sample]) -> None:
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("picture", "width", "height", "rss_bytes", "peak_rss_bytes"))
        for number, sample in enumerate(samples):
            writer.writerow((number, sample.width, sample.height, sample.rss, sample.peak))
    print(f"written: {target}")


def _plot(target: Path, name: str, baseline: int, samples: Sequence[Sample], settle: int) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rss = [sample.rss / _MIB for sample in samples]
    middle = statistics.median(rss[settle:])
    figure, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
    axes.plot([sample.peak / _MIB for sample in samples], ".", color="#b8bcc6", label="peak during the picture")
    axes.plot(rss, color="#0b5d9b", linewidth=1.5, label="after the picture")
    axes.axhspan(
        middle * (1 - _TOLERANCE), middle * (1 + _TOLERANCE), color="#0b5d9b", alpha=0.12, label="median ±10 %"
    )
    axes.axhline(baseline / _MIB, color="#4a4f58", linestyle="--", linewidth=1, label="base line")
    axes.axvline(settle, color="#4a4f58", linewidth=0.6)
    axes.set(xlabel="picture of random size", ylabel="resident memory, MiB", title=f"{name}", ylim=(0, None))
    axes.legend(loc="lower right")
    figure.savefig(target, dpi=120)
    print(f"written: {target}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench.memory", description="Resident memory over pictures of random size.")
    parser.add_argument("--count", type=int, default=300, help="pictures (300)")
    parser.add_argument("--settle", type=int, default=50, help="pictures at the start that do not count (50)")
    parser.add_argument("--seed", type=int, default=1, help="of the pictures (1)")
    parser.add_argument("--backend", choices=("openvino", "onnxruntime"), help="of our engine (what auto chooses)")
    parser.add_argument("--rapidocr", choices=("openvino", "onnxruntime"), help="measure rapidocr with this engine")
    parser.add_argument("--threads", type=int, default=2, help="of rapidocr's inferences (2)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
