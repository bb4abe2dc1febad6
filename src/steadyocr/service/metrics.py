"""The metrics of one service: what has happened, counted from its events, and how it is, read when somebody asks."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from prometheus_client import exposition
from prometheus_client.registry import Collector

from steadyocr import __version__
from steadyocr.errors import SteadyOCRError
from steadyocr.jobs.models import Census, ItemState, JobState
from steadyocr.jobs.store import JobStore
from steadyocr.runtime.memory import rss_bytes
from steadyocr.scheduling.deaths import DeathCause
from steadyocr.scheduling.engine import EngineState
from steadyocr.scheduling.pressure import PressureLevel
from steadyocr.scheduling.scheduler import Scheduler
from steadyocr.telemetry import logging as logs
from steadyocr.telemetry import metrics
from steadyocr.telemetry.loops import Loops
from steadyocr.telemetry.metrics import Definition, Family, Registry
from steadyocr.telemetry.metrics_recorder import Recorder

if TYPE_CHECKING:
    from steadyocr.service.core import Service

_log = logging.getLogger("steadyocr.metrics")

_CENSUS_PERIOD_S: Final = 15.0
_CENSUS_RETRY_S: Final = 2.0
_DEATH_CAUSES: Final = (*(cause.value for cause in DeathCause), "start_failed")

Sample = tuple[tuple[str, ...], float]


class ServiceMetrics(Collector):
    """Counts from the moment it is made; a companion of its service, whose job store it asks now and then.

    Args:
        service: What is measured. Its scheduler need not be there yet.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._registry = Registry()
        levels = tuple(level.name.lower() for level in PressureLevel)
        self.recorder = Recorder(self._registry, death_causes=_DEATH_CAUSES, levels=levels)
        self._registry.collectors.register(self)
        self._unsubscribe = service.events.subscribe(self.recorder)
        self._census: Census | None = None

    def start(self, loops: Loops) -> None:
        """Begin to ask the job store how it stands."""
        loops.start("metrics-jobs", self._watch_jobs())

    async def stop(self) -> None:
        """Stop counting. What was counted can still be read."""
        self._unsubscribe()

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics as text.

        Args:
            accept: What the one who asks understands, as in HTTP.

        Returns:
            The text and its content type.
        """
        encode, content_type = exposition.choose_encoder(accept)
        return encode(self._registry.collectors), content_type

    def collect(self) -> Iterator[Family]:
        """Read how things are."""
        service = self._service
        for definition, samples in self._always():
            yield _family(definition, samples)
        if service.started:
            for definition, samples in _of_scheduler(service.scheduler):
                yield _family(definition, samples)
        for definition, samples in self._of_jobs():
            yield _family(definition, samples)

    def _always(self) -> Iterator[tuple[Definition, Iterable[Sample]]]:
        service = self._service
        models = [
            ((part, str(model["name"]), str(model["sha256"]), str(model["backend"])), 1.0)
            for part, model in service.models().items()
        ]
        yield metrics.BUILD, [((__version__,), 1.0)]
        yield metrics.MODEL, models
        yield metrics.STARTED, _one(service.started_at)
        yield metrics.READY, _one(not service.unready_reason())
        yield metrics.FRONT_RSS, _one(rss_bytes())
        yield metrics.DISK_FREE, _one(service.watch.free_bytes)
        yield metrics.DISK_FLOOR, _one(service.watch.floor_bytes)
        yield metrics.LOG_DROPPED, _one(logs.dropped_records())

    def _of_jobs(self) -> Iterator[tuple[Definition, Iterable[Sample]]]:
        facts = self._service.batches.describe()
        yield metrics.JOB_STORE_UP, _one(facts["state"] == "ok")
        yield metrics.JOB_IN_HAND, _one(facts["in_hand"])
        yield metrics.JOB_UPLOADS, _one(facts["uploads"])
        yield metrics.JOB_SETTLED, [((str(outcome),), count) for outcome, count in facts["settled"].items()]
        census = self._census
        if census is not None:
            yield metrics.JOBS, [((state.value,), census.jobs.get(state, 0)) for state in JobState]
            yield metrics.JOB_ITEMS, [((state.value,), census.items.get(state, 0)) for state in ItemState]
            yield metrics.JOB_OLDEST, _one(census.oldest_waiting_s)

    async def _watch_jobs(self) -> None:
        while True:
            await self.count_jobs()
            # The store opens while the engines start; the first figures should not take long.
            await asyncio.sleep(_CENSUS_PERIOD_S if self._census else _CENSUS_RETRY_S)

    async def count_jobs(self) -> None:
        """Ask the job store how it stands; what cannot be known is not exposed."""
        try:
            self._census = await self._service.batches.call(JobStore.census)
        except SteadyOCRError as error:
            self._census = None
            _log.debug("The jobs cannot be counted now", extra={"code": error.code})


def _of_scheduler(scheduler: Scheduler) -> Iterator[tuple[Definition, Iterable[Sample]]]:
    governor, queue, slots = scheduler.governor, scheduler.queue, scheduler.slots
    yield metrics.DRAINING, _one(scheduler.draining)
    yield metrics.QUEUE_ITEMS, _one(len(queue))
    yield metrics.QUEUE_LIMIT, _one(queue.max_size)
    yield metrics.QUEUE_WAIT, _one(queue.expected_wait_s())
    yield metrics.IN_HAND, _one(governor.in_hand)
    yield metrics.BUDGET, _one(governor.budget_bytes)
    yield metrics.AVAILABLE, _one(governor.available_bytes)
    yield metrics.RESERVED, _one(governor.reserved_bytes)
    yield metrics.HEADROOM, _one(governor.headroom_bytes)
    yield metrics.PREDICTED_CLOSE, _one(scheduler.contract.within_20_percent)
    yield metrics.DEVICE_USED, _one(scheduler.device.used)
    yield metrics.PRESSURE, _one(scheduler.ladder.level)
    yield metrics.QUARANTINE, _one(len(scheduler.quarantine))
    states = Counter(slot.engine.state if slot.engine else EngineState.DEAD for slot in slots)
    yield metrics.ENGINES, [((state.value,), states[state]) for state in EngineState]
    yield metrics.ENGINE_STARTS, [((str(slot.index),), slot.starts) for slot in slots]
    yield metrics.RETIREMENTS, [((str(slot.index),), slot.retirements) for slot in slots]
    engines = [((str(slot.index),), slot.engine) for slot in slots if slot.engine is not None]
    yield metrics.ENGINE_RSS, [(label, engine.rss_bytes) for label, engine in engines]
    yield metrics.ENGINE_PEAK, [(label, engine.peak_rss_bytes) for label, engine in engines]
    yield metrics.ENGINE_HEAP, [(label, engine.heap_bytes) for label, engine in engines]
    yield metrics.ENGINE_DEVICE, [(label, engine.device_bytes) for label, engine in engines]
    yield metrics.ENGINE_ITEMS, [(label, engine.items) for label, engine in engines]
    yield metrics.MODEL_LOADS, [(label, engine.model_loads) for label, engine in engines]


def _one(value: float | None) -> list[Sample]:
    """A sample without labels; none where the value is not known."""
    return [] if value is None else [((), float(value))]


def _family(definition: Definition, samples: Iterable[Sample]) -> Family:
    family = definition.family()
    for labels, value in samples:
        family.add_metric(labels, value)
    return family
