"""Thousands of pictures of random shape through a real server: memory of front and engines, predictions, a plot.

    python -m bench.soak [--count 5000] [--settle 200] [--limit-mb 1024]

Exits 1 when a promise is broken: a picture not answered, an engine's resident memory outside ±10 % of its median after
the first pictures or growing, fewer than 90 % of the peaks predicted within 20 %, or a kill by the kernel for memory.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx

from bench.limits import Limit, memory_limit
from bench.memory import fit_slope
from bench.server import OUT, Server, running_server
from bench.sheets import Shape, kinds_of_shape, made_ahead, random_shapes

_MIB = 1 << 20
_BAND = 0.10
_CLOSE = 0.20
_CLOSE_SHARE = 0.90
_ALLOWED_S = 300.0
# Of /proc/PID/smaps: addresses, mode, offset, device, inode, name.
_MAPPING = re.compile(r"[0-9a-f]+-[0-9a-f]+ (\S{4}) \S+ \S+ \d+ *(.*)$")
# Fields of a sample that hold resident memory by kind.
_KINDS = ("rss_heap", "rss_code", "rss_maps", "rss_files")


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture and what it left behind; memory in bytes."""

    width: int
    height: int
    format: str
    mode: str
    encoded: int
    outcome: str
    degraded: str
    lines: int
    seconds: float
    front_rss: int
    engine_rss: int
    engine_peak: int
    engine_heap: int
    rss_heap: int
    rss_code: int
    rss_maps: int
    rss_files: int
    error: float | None
    engine_pid: int


def drive(server: Server, client: httpx.Client, shapes: Iterable[Shape], count: int) -> Iterator[Sample]:
    """Send the pictures one after another; a sample of each."""
    compared = _info(server, client)["memory"]["predictions"]["items"]
    for number, shape in enumerate(shapes):
        print(f"\r{number} of {count}", end="", file=sys.stderr, flush=True)
        started = time.monotonic()
        headers = {"X-Request-Timeout": f"{_ALLOWED_S:g}", "Content-Type": "application/octet-stream"}
        response = client.post(f"{server.url}/v1/ocr", content=shape.data, headers=headers)
        seconds = time.monotonic() - started
        body = response.json()
        good = response.status_code == 200
        info = _after_housekeeping(server, client, compared + good)
        predictions, engine = info["memory"]["predictions"], info["engines"][0]
        fresh = predictions["items"] > compared
        compared = predictions["items"]
        yield Sample(
            shape.width,
            shape.height,
            shape.format,
            shape.mode,
            len(shape.data),
            "ok" if good else str(body["code"]),
            "+".join((body.get("degraded") or {}).get("steps", ())) if good else "",
            len(body.get("lines", ())),
            round(seconds, 3),
            server.front_rss_bytes(),
            engine["rss_bytes"],
            engine["peak_rss_bytes"],
            engine["heap_bytes"],
            *resident_parts(engine["pid"]),
            round(predictions["last_error"], 4) if fresh else None,
            engine["pid"],
        )
    print(file=sys.stderr)


def resident_parts(pid: int) -> tuple[int, int, int, int]:
    """Resident memory of a process by kind: C heap, generated code, other memory without a file, files; in bytes.

    Counted just after the engine has said how it is, so the sum may be off by what it does meanwhile.
    """
    parts = {"heap": 0, "code": 0, "maps": 0, "files": 0}
    kind = "files"
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if line.startswith("Rss:"):
            parts[kind] += int(line.split()[1]) * 1024
        elif (head := _MAPPING.match(line)) is not None:
            mode, name = head.groups()
            kind = "heap" if name == "[heap]" else "files" if name else "code" if "x" in mode else "maps"
    return parts["heap"], parts["code"], parts["maps"], parts["files"]


def written(samples: Iterable[Sample], target: Path) -> Iterator[Sample]:
    """Yield the same, each written to a CSV file at once, so that a long run can be watched."""
    with target.open("w", newline="", encoding="utf-8", buffering=1) as stream:
        writer = csv.DictWriter(stream, list(Sample.__slots__))
        writer.writeheader()
        for sample in samples:
            writer.writerow(asdict(sample))
            yield sample


def _info(server: Server, client: httpx.Client) -> dict[str, Any]:
    info: dict[str, Any] = client.get(f"{server.url}/v1/info").json()
    return info


def _after_housekeeping(server: Server, client: httpx.Client, compared: int) -> dict[str, Any]:
    """The engine's books once it has given memory back; an answer leaves before that."""
    end = time.monotonic() + 5.0
    while True:
        info = _info(server, client)
        settled = info["memory"]["predictions"]["items"] >= compared and info["engines"][0]["state"] == "ready"
        if settled or time.monotonic() > end:
            return info
        time.sleep(0.03)


def report(samples: list[Sample], settle: int, kills: int | None) -> dict[str, Any]:
    """Figures and whether the promises were kept."""
    settled = samples[settle:]
    rss = [sample.engine_rss for sample in settled]
    middle = statistics.median(rss)
    heap = fit_slope([sample.engine_heap for sample in settled])
    slope, front = fit_slope(rss), fit_slope([sample.front_rss for sample in settled])
    kinds = {name: fit_slope([getattr(sample, name) for sample in settled]) for name in _KINDS}
    errors = [sample.error for sample in settled if sample.error is not None]
    close = sum(abs(error) <= _CLOSE for error in errors) / max(1, len(errors))
    farthest = max(abs(value / middle - 1.0) for value in rss)
    outcomes = Counter(sample.outcome for sample in samples)
    return {
        "pictures": len(samples),
        "outcomes": dict(outcomes),
        "degraded": dict(Counter(sample.degraded for sample in samples if sample.degraded)),
        "engines_used": len({sample.engine_pid for sample in samples}),
        "engine_mib": {"least": _mib(min(rss)), "median": _mib(middle), "most": _mib(max(rss))},
        "farthest_from_median": round(farthest, 4),
        "slope_kib_a_picture": [round(value / 1024, 2) for value in _interval(slope.value, slope.margin)],
        "heap_mib": {"first": _mib(settled[0].engine_heap), "last": _mib(settled[-1].engine_heap)},
        "heap_slope_kib_a_picture": [round(value / 1024, 2) for value in _interval(heap.value, heap.margin)],
        "slope_by_kind_kib_a_picture": {
            name: [round(value / 1024, 2) for value in _interval(kind.value, kind.margin)]
            for name, kind in kinds.items()
        },
        "front_mib": {"first": _mib(samples[0].front_rss), "last": _mib(samples[-1].front_rss)},
        "front_slope_kib_a_picture": [round(value / 1024, 2) for value in _interval(front.value, front.margin)],
        "peak_mib": {
            "median": _mib(statistics.median(s.engine_peak for s in settled)),
            "most": _mib(max(s.engine_peak for s in settled)),
        },
        "predicted": len(errors),
        "within_20_percent": round(close, 4),
        "error_percentiles_5_50_95": [round(value, 3) for value in _percentiles(errors)],
        "oom_kills": kills,
        "load": round(os.getloadavg()[0], 1),
        "kept": {
            "answered": set(outcomes) == {"ok"},
            "band": farthest <= _BAND,
            "no_growth": slope.value - slope.margin <= 0,
            "predictions": close >= _CLOSE_SHARE,
            "no_oom_kill": not kills,
        },
    }


def _interval(value: float, margin: float) -> tuple[float, float]:
    return value - margin, value + margin


def _mib(value: float) -> float:
    return round(value / _MIB, 1)


def _percentiles(values: list[float]) -> list[float]:
    if len(values) < 2:
        return []
    cuts = statistics.quantiles(values, n=20, method="inclusive")
    return [cuts[0], cuts[9], cuts[18]]


def plot(samples: list[Sample], settle: int, target: Path) -> None:
    """Resident memory of engine and front over the pictures, and predicted against real peaks."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rss = [sample.engine_rss / _MIB for sample in samples]
    middle = statistics.median(rss[settle:])
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 4.5), layout="constrained", width_ratios=(2, 1))
    left.plot([sample.engine_peak / _MIB for sample in samples], ".", ms=2, color="#b8bcc6", label="engine, peak")
    left.plot(rss, color="#0b5d9b", linewidth=1, label="engine, after the picture")
    heap = [sample.engine_heap / _MIB for sample in samples]
    left.plot(heap, color="#7fa9c9", linewidth=0.7, label="of it, heap in use")
    left.plot([sample.front_rss / _MIB for sample in samples], color="#b5521b", linewidth=1, label="front")
    left.axhspan(middle * (1 - _BAND), middle * (1 + _BAND), color="#0b5d9b", alpha=0.12, label="median ±10 %")
    left.axvline(settle, color="#4a4f58", linewidth=0.6)
    left.set(xlabel="picture of random shape", ylabel="resident memory, MiB", ylim=(0, None))
    left.legend(loc="lower right")
    known = [sample for sample in samples if sample.error is not None]
    peaks = [sample.engine_peak / _MIB for sample in known]
    right.plot(peaks, [peak * (1 + (s.error or 0.0)) for peak, s in zip(peaks, known, strict=True)], ".", ms=2)
    most = max(peaks, default=1.0)
    right.plot((0, most), (0, most), color="#4a4f58", linewidth=1)
    right.fill_between((0, most), (0, most * (1 - _CLOSE)), (0, most * (1 + _CLOSE)), alpha=0.12, label="±20 %")
    right.set(xlabel="real peak, MiB", ylabel="predicted peak, MiB")
    right.legend(loc="upper left")
    figure.savefig(target, dpi=110)


def main() -> int:
    """Measure, print, write CSV, JSON and PNG."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000, help="pictures")
    parser.add_argument("--settle", type=int, default=0, help="first pictures that do not count; 0 is a tenth")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit-mb", type=int, default=0, help="run the server in a memory cgroup of so many MiB")
    parser.add_argument("--detector", default="", help="detection model; the configured one by default")
    parser.add_argument("--backend", default="auto", help="inference library")
    arguments = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    name = f"soak-{arguments.limit_mb}mb" if arguments.limit_mb else "soak"
    settle = arguments.settle or max(20, arguments.count // 10)
    settings = {"STEADYOCR_ENGINES__COUNT": "1", "STEADYOCR_ENGINES__BACKEND": arguments.backend}
    if arguments.detector:
        settings["STEADYOCR_MODELS__DETECTOR"] = arguments.detector
    limited = memory_limit(arguments.limit_mb * _MIB) if arguments.limit_mb else contextlib.nullcontext()
    with limited as limit:
        wrapper = limit.wrapper if isinstance(limit, Limit) else ()
        with running_server(settings, wrapper=wrapper) as server, httpx.Client(timeout=330, trust_env=False) as client:
            _await_measurement(server, client)
            shapes = made_ahead(random_shapes(arguments.count, arguments.seed))
            warming = list(kinds_of_shape(arguments.seed))
            for _ in drive(server, client, warming, len(warming)):
                continue
            driven = drive(server, client, shapes, arguments.count)
            samples = list(written(driven, OUT / f"{name}.csv"))
        kills = limit.oom_kills() if isinstance(limit, Limit) else None
        figures = report(samples, settle, kills)
        if isinstance(limit, Limit):
            figures["cgroup_peak_mib"] = _mib(limit.peak_bytes())
    print(json.dumps(figures, indent=1))
    (OUT / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n")
    plot(samples, settle, OUT / f"{name}.png")
    return 0 if all(figures["kept"].values()) else 1


def _await_measurement(server: Server, client: httpx.Client) -> None:
    """Wait until the engine has measured what pictures cost, as it does at its first start on a machine."""
    end = time.monotonic() + 300
    while not _info(server, client)["memory"]["fit"]["samples"]:
        if time.monotonic() > end:
            raise SystemExit("the engine did not finish measuring its memory")
        time.sleep(0.2)


if __name__ == "__main__":
    raise SystemExit(main())
