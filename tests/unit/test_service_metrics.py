from __future__ import annotations

import asyncio
import functools
import time
from pathlib import Path

import pytest

from scripted_engine import BASE_BYTES, ScriptedEngine
from steadyocr.errors import Unavailable
from steadyocr.jobs.models import Census, ItemState, JobState
from steadyocr.scheduling.scheduler import Scheduler
from steadyocr.service import Service
from steadyocr.service.metrics import ServiceMetrics
from steadyocr.settings import load_settings
from steadyocr.telemetry.loops import Loops
from steadyocr.telemetry.metrics import CATALOGUE
from steadyocr.types import OcrOptions
from support import FIXTURES, without_waiting

PICTURE = (FIXTURES / "english.png").read_bytes()
CENSUS = Census({JobState.RUNNING: 2}, {ItemState.DONE: 7, ItemState.QUEUED: 3}, 12.5)


class Reader(ScriptedEngine):
    """Says what it has loaded."""

    async def start(self, timeout_s: float) -> None:
        await super().start(timeout_s)
        self.ready["models"] = {"detector": {"name": "d", "sha256": "ab", "backend": "none"}}


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Service:
    numbers = iter(range(1000))
    factory = functools.partial(Scheduler, engine_factory=lambda _: Reader(next(numbers)))
    monkeypatch.setattr("steadyocr.service.core.Scheduler", factory)
    environ = {"STEADYOCR_DATA_DIR": str(tmp_path), "STEADYOCR_MEMORY__CALIBRATE": "false"}
    return Service(load_settings({"engines": {"count": 2}}, environ=environ)[0])


def values(measured: ServiceMetrics) -> dict[str, float]:
    text = measured.render("")[0].decode()
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in lines}


def names(measured: ServiceMetrics) -> set[str]:
    text = measured.render("")[0].decode()
    return {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}


@without_waiting
async def test_metrics_are_there_before_the_service_is_started(service: Service) -> None:
    found = values(ServiceMetrics(service))
    assert found["steadyocr_ready"] == 0
    assert "steadyocr_queue_items" not in found


@without_waiting
async def test_every_metric_of_the_catalogue_is_exposed_and_nothing_else(service: Service) -> None:
    measured = ServiceMetrics(service)
    measured._census = CENSUS
    await service.start()
    assert names(measured) == {definition.name for definition in CATALOGUE}
    await service.stop()


@without_waiting
async def test_the_state_is_read_when_somebody_asks(service: Service) -> None:
    measured = ServiceMetrics(service)
    await service.start()
    found = values(measured)
    assert found["steadyocr_ready"] == 1
    assert found['steadyocr_engines{state="ready"}'] == 2
    assert found['steadyocr_engine_rss_bytes{slot="0"}'] == BASE_BYTES
    assert found['steadyocr_model_info{backend="none",name="d",part="detector",sha256="ab"}'] == 1
    assert found["steadyocr_queue_limit_items"] == 64
    assert found["steadyocr_memory_headroom_bytes"] <= found["steadyocr_memory_available_bytes"]
    assert found["steadyocr_start_time_seconds"] == pytest.approx(time.time(), abs=60)
    assert service.scheduler.slots[0].engine is not None
    service.scheduler.quarantine.condemn("ab" * 32, {"deaths": 2, "cause": "crash"})
    assert values(measured)["steadyocr_quarantine_pictures"] == 1
    await service.stop()
    assert values(measured)["steadyocr_draining"] == 1


@without_waiting
async def test_a_refusal_is_counted_from_the_bus(service: Service) -> None:
    measured = ServiceMetrics(service)
    await service.start()
    service.scheduler._draining = True
    with pytest.raises(Unavailable):
        await service.read(PICTURE, OcrOptions())
    assert values(measured)['steadyocr_items_refused_total{code="draining"}'] == 1
    await service.stop()


@without_waiting
async def test_jobs_are_counted_now_and_then_and_not_while_the_store_is_away(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    async def call(_: object) -> Census:
        nonlocal asked
        asked += 1
        if asked == 2:
            raise Unavailable("the store is away")
        return CENSUS

    monkeypatch.setattr(service.batches, "call", call)
    measured, loops = ServiceMetrics(service), Loops()
    await measured.count_jobs()
    found = values(measured)
    assert found['steadyocr_jobs{state="running"}'] == 2
    assert found['steadyocr_jobs{state="queued"}'] == 0
    assert found['steadyocr_job_items{state="done"}'] == 7
    assert found["steadyocr_job_oldest_waiting_seconds"] == 12.5
    await measured.count_jobs()
    assert 'steadyocr_jobs{state="running"}' not in values(measured)
    measured.start(loops)
    await asyncio.sleep(31)
    await loops.stop()
    assert asked == 2 + 3


@without_waiting
async def test_nothing_is_counted_any_more_after_the_end(service: Service) -> None:
    measured = ServiceMetrics(service)
    await measured.stop()
    service.events.emit("quarantined")
    assert values(measured)["steadyocr_quarantined_total"] == 0


@without_waiting
async def test_whoever_asks_for_openmetrics_gets_it(service: Service) -> None:
    body, kind = ServiceMetrics(service).render("application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


@without_waiting
async def test_a_scrape_makes_a_bounded_number_of_lines(service: Service) -> None:
    measured = ServiceMetrics(service)
    measured._census = CENSUS
    await service.start()
    for route in range(40):
        measured.recorder.request("GET", f"/v1/{route}", 200, 0.1)
    # With as many routes as there are, a scrape stays far below what takes long to render.
    assert len(measured.render("")[0].splitlines()) < 1500
    await service.stop()
