"""What is looked at beside the bus, and that no companion takes the service down."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from alerts_support import HandClock
from steadyocr.errors import Draining, NotReady, SteadyOCRError, Unavailable
from steadyocr.ops.alerts.samples import Samples
from steadyocr.ops.companions import COMPANIONS, Guarded
from steadyocr.service import Service
from steadyocr.settings import load_settings
from steadyocr.telemetry.loops import Loops
from support import in_real_time


def samples(trouble: SteadyOCRError | None, *, started: bool = True) -> list[dict[str, Any]]:
    service = SimpleNamespace(
        started=started, batches=SimpleNamespace(trouble=trouble), scheduler=SimpleNamespace(slots=[])
    )
    found = Samples(cast("Service", service), HandClock().clock)()
    return [dict(event.fields) for event in found if event.name == "job_store_sample"]


def test_the_job_store_is_looked_at() -> None:
    assert samples(None) == [{"ok": True, "code": ""}]
    assert samples(Unavailable("gone", retry_after_s=1.0)) == [{"ok": False, "code": "unavailable"}]


def test_a_store_that_is_not_open_yet_or_not_any_more_is_no_trouble() -> None:
    assert samples(NotReady("not yet")) == samples(Draining("not any more", retry_after_s=1.0)) == []
    assert samples(None, started=False) == []


class Broken:
    """A companion that fails in all it does."""

    def start(self, loops: Loops) -> None:
        raise ValueError("start")

    async def stop(self) -> None:
        raise ValueError("stop")


@in_real_time
async def test_a_companion_that_fails_harms_nobody_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    guarded, loops = Guarded(Broken()), Loops()
    guarded.start(loops)
    await guarded.stop()
    assert [record.__dict__["companion"] for record in caplog.records] == ["Broken", "Broken"]
    assert loops.dead == {}


@in_real_time
async def test_what_serve_attaches_is_guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, _ = load_settings(environ={"STEADYOCR_DATA_DIR": str(tmp_path)})
    made = [make(Service(settings)) for make in COMPANIONS]
    monkeypatch.setattr("steadyocr.ops.flight.companion.FlightRecorder.start", Broken.start)
    monkeypatch.setattr("steadyocr.ops.alerts.manager.Alerts.start", Broken.start)
    loops = Loops()
    for companion in made:
        companion.start(loops)
    assert loops.dead == {}
