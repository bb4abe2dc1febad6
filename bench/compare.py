"""Compare this pipeline with rapidocr: same pictures, same cores, one run.

Every contender lives in a process of its own. They take turns picture by picture, in an order that changes from round
to round, so that a machine whose speed drifts treats all alike; what is reported are medians over rounds of the ratio
within a round, by the wall clock until the answer and by CPU time with all house-keeping. The first pass over the
pictures is told apart: it shows what a shape costs that was not seen before.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from bench.agreement import compare_reading
from bench.contenders import Child, Entry, Task, Timing, entries
from bench.pictures import Picture, bench_pictures, font_names
from steadyocr.runtime.cpu import available_threads

OUT = Path(__file__).parent / "out"
TASKS: tuple[Task, ...] = ("read", "detect", "recognise")
Measure = Literal["answer", "ready", "cpu"]
MEASURES: tuple[Measure, ...] = ("answer", "ready", "cpu")
_TITLES = {
    "read": "end to end (encoded bytes to text)",
    "detect": "detection (encoded bytes to quads)",
    "recognise": "recognition (the same known quads for all, decoding excluded)",
}
_PACKAGES = ("rapidocr", "openvino", "onnxruntime", "opencv-python-headless", "pillow", "numpy")
_QUICK_PICTURES = 4


@dataclass(slots=True)
class Series:
    """Timings of one contender at one task: one list for each round (the first pass leading), one entry a picture."""

    rounds: list[list[Timing]] = field(default_factory=list)

    def totals(self, measure: Measure) -> list[float]:
        """Seconds of each round but the first, all pictures together."""
        return [sum(getattr(timing, measure) for timing in timings) for timings in self.rounds[1:]]

    def first(self, measure: Measure) -> float:
        """Seconds of the first pass, all pictures together."""
        return float(sum(getattr(timing, measure) for timing in self.rounds[0]))


@dataclass(slots=True)
class Result:
    """All that was measured of one contender."""

    name: str
    note: str
    start_seconds: float
    series: dict[str, Series] = field(default_factory=dict)
    lines: int = 0
    character_error_rate: float = 0.0
    known_lines_error_rate: float = 0.0
    rss_bytes: int = 0
    peak_rss_bytes: int = 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON."""
    options = _parser().parse_args(arguments)
    pictures = _chosen(options.pictures, quick=options.quick)
    rounds = options.rounds if options.rounds is not None else (2 if options.quick else 5)
    threads = options.threads or available_threads()
    machine = _machine(threads)
    _print_machine(machine, pictures, rounds)

    chosen = [entry for entry in entries(quick=options.quick) if options.contenders in entry.name]
    results = measure(chosen, pictures, rounds, threads)
    machine["load_average_end"] = os.getloadavg()
    print(f"load average at the end: {_load(machine['load_average_end'])}\n")
    for task in TASKS:
        _print_task(task, results, pictures)
    _print_quality(results, sum(len(picture.lines) for picture in pictures))

    OUT.mkdir(exist_ok=True)
    report = {
        "machine": machine,
        "rounds": rounds,
        "pictures": [{"name": p.name, "size": [p.width, p.height], "lines": len(p.lines)} for p in pictures],
        "contenders": [asdict(result) for result in results],
        "ratios": {task: {measure: _ratios(task, measure, results) for measure in MEASURES} for task in TASKS},
    }
    target = OUT / "compare.json"
    target.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"written: {target}")
    return 0


def measure(chosen: Sequence[Entry], pictures: Sequence[Picture], rounds: int, threads: int) -> list[Result]:
    """Run contenders over all pictures: a first pass and so many rounds."""
    children = [Child(entry, threads) for entry in chosen]
    results = [Result(child.entry.name, child.entry.note, child.start_seconds) for child in children]
    pairs = list(zip(children, results, strict=True))
    try:
        for task in TASKS:
            for index in range(rounds + 1):
                _round(task, pairs, pictures, index)
                print(f"{task}: round {index} of {rounds}", file=sys.stderr, flush=True)
            if task == "read":
                for child, result in pairs:
                    held = child.memory()
                    result.rss_bytes, result.peak_rss_bytes = held.rss, held.peak
    finally:
        for child in children:
            child.close()
    return results


def _round(task: Task, pairs: Sequence[tuple[Child, Result]], pictures: Sequence[Picture], index: int) -> None:
    edits = dict.fromkeys((result.name for _, result in pairs), 0)
    lines = dict(edits)
    for _, result in pairs:
        result.series.setdefault(task, Series()).rounds.append([])
    for number, picture in enumerate(pictures):
        shift = (number + index) % len(pairs)
        for child, result in (*pairs[shift:], *pairs[:shift]):
            outcome = child.run(task, picture)
            result.series[task].rounds[-1].append(outcome.timing)
            if index == 0 and task != "detect":
                agreement = compare_reading(picture.lines, outcome.readings)
                edits[result.name] += agreement.edits
                lines[result.name] += agreement.lines
    if index > 0 or task == "detect":
        return
    characters = sum(compare_reading(picture.lines, []).characters for picture in pictures)
    for _, result in pairs:
        rate = edits[result.name] / characters
        if task == "read":
            result.character_error_rate, result.lines = rate, lines[result.name]
        else:
            result.known_lines_error_rate = rate


def _ratios(task: Task, measure: Measure, results: Sequence[Result]) -> dict[str, dict[str, list[float]]]:
    """Time of each of ours over each of theirs, round by round."""
    totals = {result.name: result.series[task].totals(measure) for result in results}
    return {
        ours: {name: [a / b for a, b in zip(totals[ours], theirs, strict=True)] for name, theirs in totals.items()}
        for ours in totals
        if ours.startswith("ours")
    }


def _print_task(task: Task, results: Sequence[Result], pictures: Sequence[Picture]) -> None:
    ours = [result.name for result in results if result.name.startswith("ours")]
    ratios = {measure: _ratios(task, measure, results) for measure in MEASURES}
    print(_TITLES[task])
    heads = "".join(f"  {f'{name} /, {kind}':>22}" for name in ours for kind in ("wall", "CPU"))
    print(f"  {'':<30}{'ms/picture':>11}{'until ready':>12}{'CPU':>7}{'first CPU':>11}{heads}")
    for result in results:
        series = result.series[task]
        wall, ready, cpu = (statistics.median(series.totals(name)) * 1000 / len(pictures) for name in MEASURES)
        cells = f"{wall:>11.0f}{ready:>12.0f}{cpu:>7.0f}{series.first('cpu') / len(pictures) * 1000:>11.0f}"
        for name in ours:
            for measure in ("answer", "cpu"):
                values = ratios[measure][name][result.name]
                cells += f"  {_spread(values) if name != result.name else '-':>22}"
        print(f"  {result.name:<30}{cells}")
    print()


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def _print_quality(results: Sequence[Result], known: int) -> None:
    print(f"quality and memory ({known} lines were drawn; MB = 2^20 bytes; peak and rest over the end-to-end rounds)")
    heads = ("lines", "CER %", "CER % known quads", "peak MB", "rest MB", "start s")
    print(f"  {'':<30}" + "".join(f"{head:>19}" if "known" in head else f"{head:>9}" for head in heads) + "  settings")
    for result in results:
        print(
            f"  {result.name:<30}{result.lines:>9}{result.character_error_rate * 100:>9.2f}"
            f"{result.known_lines_error_rate * 100:>19.2f}{result.peak_rss_bytes / 2**20:>9.0f}"
            f"{result.rss_bytes / 2**20:>9.0f}{result.start_seconds:>9.1f}  {result.note}"
        )
    print()


def _machine(threads: int) -> dict[str, Any]:
    model = platform.processor()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "threads": threads,
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
        "fonts": font_names(),
        "time": time.strftime("%Y-%m-%d %H:%M"),
        "load_average_start": os.getloadavg(),
    }


def _print_machine(machine: dict[str, Any], pictures: Sequence[Picture], rounds: int) -> None:
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    print(f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads for every contender")
    print(f"Python {machine['python']}, {packages}")
    print(f"{len(pictures)} pictures, a first pass and {rounds} rounds; ratios: median (least-most) over rounds,")
    print("each of all pictures in one round; below 1 the one named above is faster")
    print(f"load average at the start: {_load(machine['load_average_start'])}")


def _load(average: Sequence[float]) -> str:
    return ", ".join(f"{value:.1f}" for value in average)


def _chosen(wanted: str | None, *, quick: bool) -> list[Picture]:
    pictures = bench_pictures()
    if wanted is None:
        return pictures[:: len(pictures) // _QUICK_PICTURES] if quick else pictures
    names = wanted.split(",")
    known = [picture.name for picture in pictures]
    if unknown := set(names) - set(known):
        raise SystemExit(f"no such picture: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return [picture for picture in pictures if picture.name in names]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench.compare", description="Compare this pipeline with rapidocr.")
    parser.add_argument("--rounds", type=int, help="rounds after the first pass (5; with --quick 2)")
    parser.add_argument("--pictures", help="names, separated by commas (all)")
    parser.add_argument("--contenders", default="", help="only those whose name holds this text, 'openvino' say (all)")
    parser.add_argument("--threads", type=int, help="threads of each inference (what this process may use)")
    parser.add_argument("--quick", action="store_true", help="four pictures, four contenders, two rounds")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
