"""The torch backend on a card: times, peaks, a band over many pictures, batches, CUDA graphs, a full and a dead card.

One row of JSON a line, so that a run that was cut short has said what it knows. Pictures are the golden one repeated:
no fonts are needed, and nothing beside the package. Batches are of the detector's network alone: the pipeline reads one
picture at a time, and batches across pictures exist nowhere in it.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, TypeVar

import numpy as np
import torch
from PIL import Image

from bench.gpu_child import child
from steadyocr.errors import SteadyOCRError
from steadyocr.imaging.header import ImageLimits
from steadyocr.pipeline.golden import GoldenCheck, golden_picture
from steadyocr.pipeline.ocr import OcrPipeline
from steadyocr.runtime import device
from steadyocr.runtime.base import DeviceMemoryError, SessionOptions
from steadyocr.runtime.cpu import available_threads
from steadyocr.runtime.manifest import find_model
from steadyocr.runtime.torch import TorchSession
from steadyocr.scheduling.config import EngineConfig
from steadyocr.scheduling.housekeeping import Housekeeping
from steadyocr.types import OcrOptions

T = TypeVar("T")

_MIB: Final = 1 << 20
_DETECTOR, _RECOGNISER = "pp-ocrv6-small-det", "pp-ocrv6-small-rec"


@dataclass(frozen=True, slots=True)
class Load:
    """How much is measured."""

    sizes: tuple[tuple[int, int], ...] = ((1920, 1080), (3840, 2160), (5000, 3000))
    qualities: tuple[Literal["shrink", "tile"], ...] = ("shrink", "tile")
    repeats: int = 5
    in_a_row: int = 200
    batches: tuple[int, ...] = (1, 2, 4, 8, 16)
    network: tuple[int, int] = (736, 1280)
    quick: bool = False


QUICK: Final = Load(
    sizes=((320, 160),), qualities=("shrink",), repeats=1, in_a_row=2, batches=(1, 2), network=(64, 64), quick=True
)


class Bench:
    """One pipeline on one device, and the clock."""

    def __init__(self, device_name: str, load: Load, seconds: float) -> None:
        self.device, self.load = device_name, load
        self.ends_at = time.monotonic() + seconds
        # A second thread of torch's spins while others use the core: no help in seeing whether this runs at all.
        threads = 1 if load.quick else available_threads()
        self.config = EngineConfig(
            detector=_DETECTOR, recogniser=_RECOGNISER, backend="torch", device=device_name, threads=threads
        )
        options = SessionOptions(threads=threads, device=device_name)
        limits = ImageLimits()
        detector, recogniser = find_model(_DETECTOR), find_model(_RECOGNISER)
        self.pipeline = OcrPipeline(detector, recogniser, backend="torch", session_options=options, limits=limits)
        self.golden = GoldenCheck(self.pipeline, strict=True)
        self.say("golden", **dataclasses.asdict(self.golden.run()))
        self.housekeeping = Housekeeping(self.pipeline, self.config)
        session = self.pipeline._sessions[0]
        assert isinstance(session, TorchSession)
        self.detector = session

    @property
    def on_card(self) -> bool:
        return self.device != "cpu"

    def say(self, what: str, **fields: object) -> None:
        print(json.dumps({"what": what, "device": self.device, **fields}), flush=True)

    def section(self, name: str, measure: Callable[[], None], *, card_only: bool = False) -> None:
        """Run a part unless the time is up; one that fails leaves a row and the next its turn."""
        if card_only and not self.on_card:
            self.say(name, skipped="needs a card")
        elif time.monotonic() > self.ends_at:
            self.say(name, skipped="the time was up")
        else:
            try:
                measure()
            except (RuntimeError, MemoryError, SteadyOCRError) as error:
                self.say(name, failed=f"{type(error).__name__}: {str(error).splitlines()[0]}")

    def synchronize(self) -> None:
        if self.on_card:
            torch.cuda.synchronize()

    def timed(self, work: Callable[[], T], repeats: int) -> tuple[float, T]:
        """Median seconds and the last result, after one run that does not count; in the quick form all counts."""
        times = []
        for _ in range(repeats if self.load.quick else repeats + 1):
            self.synchronize()
            started = time.perf_counter()
            result = work()
            self.synchronize()
            times.append(time.perf_counter() - started)
            if time.monotonic() > self.ends_at:
                break
        return statistics.median(times[1:] or times), result

    def environment(self) -> None:
        facts: dict[str, object] = {"torch": torch.__version__, "threads": self.config.threads}
        if self.on_card:
            free, total = torch.cuda.mem_get_info()
            capability = ".".join(map(str, torch.cuda.get_device_capability()))
            facts |= {"card": torch.cuda.get_device_name(), "capability": capability, "cuda": torch.version.cuda}
            facts |= {"free_mib": free // _MIB, "total_mib": total // _MIB}
        types = {str(value.dtype) for value in self.detector._graph._constants.values() if value.ndim == 4}
        self.say("environment", filter_types=sorted(types), **facts)

    def sizes(self) -> None:
        """Each size, shrunk to the default side and in tiles at its own scale."""
        for width, height in self.load.sizes:
            data = page(width, height)
            for quality in self.load.qualities:
                options = OcrOptions(quality=quality)
                self.housekeeping.begin()
                seconds, result = self.timed(partial(self.pipeline.read, data, options), self.load.repeats)
                report = self.housekeeping.finish({"kind": "run"})
                self.say(
                    "size",
                    width=width,
                    height=height,
                    quality=quality,
                    lines=len(result.page.lines),
                    ms=round(seconds * 1000, 1),
                    stages_ms=result.page.timings_ms,
                    device_peak_mib=report["device_peak_bytes"] // _MIB,
                    device_after_mib=report["device_bytes"] // _MIB,
                    peak_rss_mib=report["peak_rss_bytes"] // _MIB,
                )

    def in_a_row(self) -> None:
        """Pictures of changing size one after another, with the engine's own house-keeping between them."""
        held: list[int] = []
        rss: list[int] = []
        started = time.monotonic()
        width, height = self.load.sizes[0]
        pictures = [page(width - 64 * step, height - 32 * step) for step in range(5)]
        while len(held) < self.load.in_a_row and time.monotonic() < self.ends_at:
            self.housekeeping.begin()
            self.pipeline.read(pictures[len(held) % len(pictures)], OcrOptions())
            report = self.housekeeping.finish({"kind": "run"})
            held.append(report["device_bytes"])
            rss.append(report["rss_bytes"])
        self.say(
            "in_a_row",
            pictures=len(held),
            seconds=round(time.monotonic() - started, 2),
            device_mib=_band(held),
            rss_mib=_band(rss),
            device_base_line_mib=self.housekeeping.device_baseline_bytes // _MIB,
        )

    def batches(self) -> None:
        """The detector's network on so many inputs of one shape at once."""
        height, width = self.load.network
        for count in self.load.batches:
            batch = np.random.default_rng(0).normal(0, 1, (count, 3, height, width)).astype(np.float32)
            self.pipeline.release_memory()
            device.reset_peak()
            seconds, _ = self.timed(partial(self.detector.run, batch), self.load.repeats)
            self.say(
                "batch",
                count=count,
                height=height,
                width=width,
                ms=round(seconds * 1000, 2),
                pictures_per_s=round(count / seconds, 1),
                device_peak_mib=device.peak_bytes() // _MIB,
            )

    def full_card(self) -> None:
        """Another process takes what is left of the card, and gives it back."""
        data, options = page(*self.load.sizes[-1]), OcrOptions(max_side=4096)
        expected = len(self.pipeline.read(data, options).page.lines)
        self.pipeline.release_memory()
        with child("take", self.device) as taken:
            refused, error = 0, ""
            for _ in range(3):
                try:
                    self.pipeline.read(data, options)
                except DeviceMemoryError as shortage:
                    refused, error = refused + 1, str(shortage)
            held_mib = device.held_bytes() // _MIB
        started = time.perf_counter()
        found = len(self.pipeline.read(data, options).page.lines)
        self.say(
            "full_card",
            **taken,
            refused=f"{refused} of 3",
            error=error,
            held_while_full_mib=held_mib,
            recovered_after_ms=round((time.perf_counter() - started) * 1000),
            same_lines=found == expected,
            golden_ok=self.golden.run().ok,
        )

    def dead_card(self) -> None:
        """A context of another process dies: what its self-test makes of it."""
        with child("die", self.device) as fate:
            self.say("dead_card", **fate)

    def graphs(self) -> None:
        """One shape, launched operation by operation and as one CUDA graph."""
        height, width = self.load.network
        network = self.detector._graph
        with torch.inference_mode():
            batch = torch.zeros(1, 3, height, width, device=self.device).contiguous(memory_format=torch.channels_last)
            eager, _ = self.timed(lambda: network.run(batch), 4 * self.load.repeats)
            row: dict[str, Any] = {"height": height, "width": width, "eager_ms": round(eager * 1000, 3)}
            if not self.on_card:
                return self.say("graphs", **row, graph_ms=None, skipped="CUDA graphs need a card")
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                network.run(batch)
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                network.run(batch)
            replayed, _ = self.timed(graph.replay, 4 * self.load.repeats)
        return self.say("graphs", **row, graph_ms=round(replayed * 1000, 3), faster=round(eager / replayed, 2))


def _band(values: Sequence[int]) -> dict[str, int]:
    return {
        "first": values[0] // _MIB,
        "least": min(values) // _MIB,
        "median": int(statistics.median(values)) // _MIB,
        "most": max(values) // _MIB,
        "last": values[-1] // _MIB,
    }


def page(width: int, height: int) -> bytes:
    """A page full of the golden picture."""
    tile = Image.open(io.BytesIO(golden_picture())).convert("RGB")
    sheet = Image.new("RGB", (width, height), tile.getpixel((0, 0)))
    for y in range(0, height, tile.height):
        for x in range(0, width, tile.width):
            sheet.paste(tile, (x, y))
    stream = io.BytesIO()
    sheet.save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="bench.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda", help="cpu, cuda or cuda:N (cuda)")
    parser.add_argument("--quick", action="store_true", help="little of everything: does it run at all?")
    parser.add_argument("--seconds", type=float, default=240.0, help="no part begins later than this (240)")
    options = parser.parse_args(arguments)
    bench = Bench(options.device, QUICK if options.quick else Load(), options.seconds)
    bench.section("environment", bench.environment)
    bench.section("size", bench.sizes)
    bench.section("in_a_row", bench.in_a_row)
    bench.section("batch", bench.batches)
    bench.section("full_card", bench.full_card, card_only=True)
    bench.section("dead_card", bench.dead_card, card_only=True)
    # Last: a capture that fails may leave the context behind in no good state.
    bench.section("graphs", bench.graphs)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
