"""Measuring one choice of engines, threads and side with the same engine processes that serve."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from steadyocr.imaging.header import probe
from steadyocr.ops.doctor.tuning import Candidate, Measurement
from steadyocr.runtime.manifest import BUILTIN_MODELS, find_model
from steadyocr.runtime.memory import rss_bytes
from steadyocr.scheduling.items import WorkItem
from steadyocr.scheduling.scheduler import Scheduler
from steadyocr.settings import Settings
from steadyocr.telemetry.events import Event, Events
from steadyocr.telemetry.loops import Loops
from steadyocr.types import OcrOptions

PICTURES: Final = BUILTIN_MODELS / "tuning"
SIDE_STEPS: Final = (1280, 960, 736, 512)
_ITEM_S: Final = 120.0


def default_side(settings: Settings) -> int:
    """Return the longest side that the detector takes by itself, in pixels."""
    return find_model(settings.models.detector, settings.data_dir / "models").defaults.max_side


def sides(settings: Settings) -> list[int]:
    """Return the sides worth trying, in pixels, largest first: the model's own, a configured one, smaller ones."""
    own = default_side(settings)
    return sorted({own, settings.models.max_side or own, *(step for step in SIDE_STEPS if step < own)}, reverse=True)


def default_candidate(settings: Settings) -> Candidate:
    """Return what the service takes by itself on this machine."""
    untouched = settings.model_copy(
        update={"engines": settings.engines.model_copy(update={"count": 0, "threads": 0})}
    ).scheduler_config()
    return Candidate(untouched.engines, untouched.slot.engine.threads)


class EngineMeasurer:
    """Starts engines, keeps all of them busy for a while, and looks at times and memory.

    Args:
        settings: What the engines are told, besides what is tried.
        folder: Pictures to read.
    """

    def __init__(self, settings: Settings, folder: Path = PICTURES) -> None:
        self._settings = settings
        self._pictures = [path.read_bytes() for path in sorted(folder.glob("*.png"))]

    async def __call__(self, candidate: Candidate, max_side: int, seconds: float) -> Measurement:
        """See :class:`~steadyocr.ops.doctor.tuning.Measure`.

        Raises:
            SteadyOCRError: The engines cannot be started, or cannot read the pictures.
        """
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + seconds
        run = _Run(self._scheduler_settings(candidate), self._pictures, max_side)
        try:
            await run.start()
            return await run.measure(candidate, ends_at)
        finally:
            await run.stop()

    def _scheduler_settings(self, candidate: Candidate) -> Settings:
        settings = self._settings
        # More threads than cores are tried too; being slow is the finding then, not a reason to be killed.
        patience = {"heartbeat_s": _ITEM_S, "item_limit_s": _ITEM_S}
        engines = settings.engines.model_copy(
            update={"count": candidate.engines, "threads": candidate.threads, **patience}
        )
        memory = settings.memory.model_copy(update={"calibrate": False})
        return settings.model_copy(update={"engines": engines, "memory": memory})


class _Run:
    """The life of one set of engines."""

    def __init__(self, settings: Settings, pictures: Sequence[bytes], max_side: int) -> None:
        self._pictures = pictures
        self._options = OcrOptions(max_side=max_side)
        self._peaks: dict[int, int] = {}
        self._front_peak = 0
        events = Events()
        events.subscribe(self._note)
        self._loops = Loops(events)
        config = dataclasses.replace(settings.scheduler_config(), quarantine_file=None)
        self._scheduler = Scheduler(config, self._loops, events=events)

    async def start(self) -> None:
        """Start all engines and let each read every picture once, since the first time of a shape is slow."""
        await self._scheduler.start()
        async with asyncio.timeout(_ITEM_S):
            while not all(slot.ready for slot in self._scheduler.slots):  # noqa: ASYNC110 - slots have no event
                await asyncio.sleep(0.02)
        await asyncio.gather(*(self._read(data) for data in self._pictures for _ in self._scheduler.slots))

    async def measure(self, candidate: Candidate, ends_at: float) -> Measurement:
        """Keep every engine busy until then; each reads at least one picture."""
        loop = asyncio.get_running_loop()
        times: list[float] = []

        async def keep_busy(first: int) -> None:
            for number in itertools.count(first):
                started = loop.time()
                await self._read(self._pictures[number % len(self._pictures)])
                times.append(loop.time() - started)
                if loop.time() >= ends_at:
                    return

        started = loop.time()
        await asyncio.gather(*(keep_busy(number) for number in range(candidate.engines)))
        took = loop.time() - started
        times.sort()
        return Measurement(
            candidate=candidate,
            max_side=self._options.max_side or 0,
            pictures=len(times),
            seconds=round(took, 3),
            p50_s=round(times[len(times) // 2], 4),
            p95_s=round(times[min(len(times) - 1, math.ceil(0.95 * len(times)) - 1)], 4),
            memory_bytes=self._front_peak + sum(self._peaks.values()),
        )

    async def stop(self) -> None:
        """End the engines."""
        await self._scheduler.drain(0)
        await self._loops.stop()
        await self._scheduler.stop()

    async def _read(self, data: bytes) -> None:
        deadline = asyncio.get_running_loop().time() + _ITEM_S
        await self._scheduler.submit(WorkItem(data, self._options, deadline, header=probe(data)))

    def _note(self, event: Event) -> None:
        if event.name == "item_finished" and event.fields["slot"] is not None:
            slot, peak = event.fields["slot"], event.fields["peak_bytes"] or 0
            self._peaks[slot] = max(self._peaks.get(slot, 0), peak)
            self._front_peak = max(self._front_peak, rss_bytes())
