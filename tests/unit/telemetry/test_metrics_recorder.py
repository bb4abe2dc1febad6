from __future__ import annotations

import re
from typing import Any

import pytest
from prometheus_client import generate_latest

from steadyocr.telemetry import metrics
from steadyocr.telemetry.events import Events
from steadyocr.telemetry.metrics import CATALOGUE, Registry
from steadyocr.telemetry.metrics_recorder import Recorder

FINISHED: dict[str, Any] = {
    "kind": "run",
    "ok": True,
    "code": "ok",
    "width": 100,
    "height": 50,
    "lines": 3,
    "predicted_bytes": 120,
    "peak_bytes": 100,
    "rss_bytes": 90,
    "wait_s": 0.02,
    "service_s": 0.6,
    "timings_ms": {"decode": 4.0, "detect": 200.0},
    "degraded": [],
    "priority": "interactive",
    "slot": 0,
    "attempts": 0,
    "request_id": "r1",
}


class Counted:
    """A recorder on a bus of its own."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.recorder = Recorder(self.registry, death_causes=("crash", "hang"), levels=("full", "shed"))
        self.events = Events()
        self.events.subscribe(self.recorder)

    def value(self, name: str, **labels: str) -> float | None:
        value: float | None = self.registry.collectors.get_sample_value(name, labels)
        return value

    def text(self) -> str:
        return generate_latest(self.registry.collectors).decode()


@pytest.fixture
def counted() -> Counted:
    return Counted()


def test_a_finished_picture_is_counted_with_its_times(counted: Counted) -> None:
    counted.events.emit("item_finished", **FINISHED)
    counted.events.emit("item_finished", **{**FINISHED, "attempts": 2, "degraded": ["side_960"]})
    assert counted.value("steadyocr_items_total", code="ok", priority="interactive") == 2
    assert counted.value("steadyocr_item_retries_total") == 2
    assert counted.value("steadyocr_lines_total") == 6
    assert counted.value("steadyocr_pixels_total") == 10_000
    assert counted.value("steadyocr_items_degraded_total", step="side_960") == 1
    assert counted.value("steadyocr_item_service_seconds_sum") == pytest.approx(1.2)
    assert counted.value("steadyocr_stage_seconds_sum", stage="detect") == pytest.approx(0.4)
    assert counted.value("steadyocr_item_wait_seconds_bucket", priority="interactive", le="0.05") == 2
    # 20 % too high lies in the bucket that ends there.
    assert counted.value("steadyocr_memory_prediction_error_ratio_bucket", le="0.1") == 0
    assert counted.value("steadyocr_memory_prediction_error_ratio_bucket", le="0.5") == 2


@pytest.mark.parametrize(
    ("code", "attempts", "retries"), [("quarantined", 2, 1), ("quarantined", 0, 0), ("engine_died", 4, 3), ("ok", 1, 1)]
)
def test_the_death_that_ends_a_picture_is_followed_by_no_retry(
    counted: Counted, code: str, attempts: int, retries: int
) -> None:
    counted.events.emit("item_finished", **{**FINISHED, "ok": code == "ok", "code": code, "attempts": attempts})
    assert counted.value("steadyocr_item_retries_total") == retries


def test_a_failed_picture_counts_as_failed_and_has_no_times(counted: Counted) -> None:
    failed = {**FINISHED, "ok": False, "code": "undecodable_image", "service_s": None, "timings_ms": {}}
    counted.events.emit("item_finished", **failed)
    assert counted.value("steadyocr_items_total", code="undecodable_image", priority="interactive") == 1
    assert counted.value("steadyocr_item_service_seconds_count") == 0
    assert counted.value("steadyocr_lines_total") == 0


def test_what_the_service_asks_for_itself_is_not_counted_as_a_picture(counted: Counted) -> None:
    counted.events.emit("item_finished", **{**FINISHED, "kind": "golden"})
    assert counted.value("steadyocr_items_total", code="ok", priority="interactive") == 0


@pytest.mark.parametrize(
    ("event", "fields", "name", "labels"),
    [
        ("item_refused", {"code": "queue_full"}, "steadyocr_items_refused_total", {"code": "queue_full"}),
        ("queue_full", {"waiting": 1, "max_size": 1}, "steadyocr_queue_full_total", {}),
        ("engine_died", {"cause": "crash"}, "steadyocr_engine_restarts_total", {"reason": "crash"}),
        (
            "memory_event",
            {"where": "engine", "reason": "killed"},
            "steadyocr_memory_events_total",
            {"where": "engine", "reason": "killed"},
        ),
        ("pressure_changed", {"after": "shed"}, "steadyocr_pressure_changes_total", {"level": "shed"}),
        ("quarantined", {}, "steadyocr_quarantined_total", {}),
        ("loop_died", {}, "steadyocr_loop_deaths_total", {}),
        ("golden_checked", {"ok": False}, "steadyocr_golden_checks_total", {"outcome": "failed"}),
    ],
)
def test_events_are_counted_and_stand_at_nought_before(
    counted: Counted, event: str, fields: dict[str, Any], name: str, labels: dict[str, str]
) -> None:
    assert counted.value(name, **labels) == 0
    counted.events.emit(event, **fields)
    assert counted.value(name, **labels) == 1
    assert counted.value("steadyocr_events_total", event=event) == 1


def test_the_last_golden_check_is_shown(counted: Counted) -> None:
    for ok in (True, False, True):
        counted.events.emit("golden_checked", ok=ok, problem="", source="golden")
        assert counted.value("steadyocr_golden_ok") == ok


def test_requests_are_counted_by_template_method_and_status(counted: Counted) -> None:
    counted.recorder.request("POST", "/v1/ocr", 200, 0.7)
    counted.recorder.request("BREW", "/v1/ocr", None, 0.1)
    assert counted.value("steadyocr_http_requests_total", route="/v1/ocr", method="POST", status="200") == 1
    assert counted.value("steadyocr_http_requests_total", route="/v1/ocr", method="other", status="none") == 1
    assert counted.value("steadyocr_http_request_seconds_count", route="/v1/ocr") == 2


def test_labels_cannot_grow_without_bound(counted: Counted) -> None:
    for number in range(1000):
        counted.recorder.request("GET", f"/made-up/{number}", 200, 0.1)
        counted.events.emit("item_finished", **{**FINISHED, "degraded": [f"step_{number}"], "code": f"odd_{number}"})
    text = counted.text()
    assert counted.value("steadyocr_http_request_seconds_count", route="other") == 800
    assert counted.value("steadyocr_items_degraded_total", step="other") == 1000 - 64
    assert counted.value("steadyocr_items_total", code="other", priority="interactive") == 1000
    assert len(text.splitlines()) < 4000


def test_an_event_that_nobody_knows_is_harmless(counted: Counted) -> None:
    counted.events.emit("brand_new", a=1)
    assert counted.value("steadyocr_events_total", event="brand_new") == 1


def test_names_and_units_follow_the_custom() -> None:
    names = [definition.name for definition in CATALOGUE]
    assert len(set(names)) == len(names)
    for definition in CATALOGUE:
        assert re.fullmatch(r"steadyocr_[a-z0-9_]+", definition.name)
        assert definition.name.endswith("_total") is (definition.kind == "counter"), definition.name
        assert bool(definition.buckets) is (definition.kind == "histogram"), definition.name
        assert list(definition.buckets) == sorted(set(definition.buckets))
        assert definition.help
        assert not definition.name.endswith(("_ms", "_mb"))


def test_two_services_do_not_share_their_counts() -> None:
    one, other = Counted(), Counted()
    one.events.emit("quarantined")
    assert (one.value("steadyocr_quarantined_total"), other.value("steadyocr_quarantined_total")) == (1, 0)
    assert metrics.QUARANTINED in CATALOGUE
