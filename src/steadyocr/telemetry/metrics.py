"""The names of all metrics in one place, and the registry that holds those that count what happens.

Counters and histograms here are fed by the event bus. Gauges that say how things are right now are listed here too,
but read when somebody asks (:mod:`steadyocr.service.metrics`). Engines need no registry: the front keeps their books.

Every label has few values: route templates, error codes, stages, states, slots; never a path, a client or an id.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

Family = CounterMetricFamily | GaugeMetricFamily


@dataclass(frozen=True, slots=True)
class Definition:
    """One metric.

    Attributes:
        name: As it is exposed; a counter's ends in ``_total``.
        help: What it says, with its unit.
        labels: Names of its labels.
        kind: What Prometheus calls it.
        buckets: Upper bounds of a histogram's buckets, in its unit.
    """

    name: str
    help: str
    labels: tuple[str, ...] = ()
    kind: Literal["counter", "gauge", "histogram"] = "gauge"
    buckets: tuple[float, ...] = ()

    def family(self) -> Family:
        """Return an empty family, for a collector that reads values when asked."""
        make = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        family: Family = make(self.name, self.help, labels=self.labels)
        return family


def _counter(name: str, help_text: str, *labels: str) -> Definition:
    return Definition(name, help_text, labels, "counter")


def _gauge(name: str, help_text: str, *labels: str) -> Definition:
    return Definition(name, help_text, labels)


def _histogram(name: str, help_text: str, buckets: tuple[float, ...], *labels: str) -> Definition:
    return Definition(name, help_text, labels, "histogram", buckets)


# From a refusal in milliseconds to a large page on one slow core. Few, since there is a set of them for each route.
_REQUEST_S: Final = (0.05, 0.25, 1.0, 2.5, 10.0, 30.0)
_WORK_S: Final = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0)
_WAIT_S: Final = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_STAGE_S: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
# Predicted over real peak, less one: below nought is the dangerous side.
_ERROR: Final = (-0.5, -0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.2, 0.5, 1.0)

# What happened.
REQUESTS = _counter("steadyocr_http_requests_total", "Requests answered", "route", "method", "status")
REQUEST_SECONDS = _histogram("steadyocr_http_request_seconds", "Time to the end of an answer", _REQUEST_S, "route")
ITEMS = _counter(
    "steadyocr_items_total", "Accepted pictures by how they ended: ok or an error code", "code", "priority"
)
REFUSED = _counter("steadyocr_items_refused_total", "Pictures refused before they were queued", "code")
RETRIES = _counter("steadyocr_item_retries_total", "Times a picture was given to another engine after a death")
WAIT_SECONDS = _histogram("steadyocr_item_wait_seconds", "Time from queue to engine", _WAIT_S, "priority")
SERVICE_SECONDS = _histogram("steadyocr_item_service_seconds", "Time from engine to answer", _WORK_S)
STAGE_SECONDS = _histogram("steadyocr_stage_seconds", "Time in one stage of reading a picture", _STAGE_S, "stage")
LINES = _counter("steadyocr_lines_total", "Text lines found")
PIXELS = _counter("steadyocr_pixels_total", "Pixels of the pictures that were read")
DEGRADED = _counter("steadyocr_items_degraded_total", "Pictures read at less than full quality, by step", "step")
PREDICTION_ERROR = _histogram(
    "steadyocr_memory_prediction_error_ratio", "Predicted over real peak of an engine, less one", _ERROR
)
ENGINE_DEATHS = _counter("steadyocr_engine_restarts_total", "Engines replaced after a death, by cause", "reason")
MEMORY_EVENTS = _counter("steadyocr_memory_events_total", "Times that memory ran out", "where", "reason")
PRESSURE_CHANGES = _counter(
    "steadyocr_pressure_changes_total", "Steps on the pressure ladder, by the new level", "level"
)
QUARANTINED = _counter("steadyocr_quarantined_total", "Pictures put into quarantine")
QUEUE_FULL = _counter("steadyocr_queue_full_total", "Pictures refused because the queue was full")
LOOP_DEATHS = _counter("steadyocr_loop_deaths_total", "Loops of the front that died; one is one too many")
GOLDEN_CHECKS = _counter("steadyocr_golden_checks_total", "Golden checks by outcome", "outcome")
EVENTS = _counter("steadyocr_events_total", "Events on the bus, by name", "event")

# How things are.
BUILD = _gauge("steadyocr_build_info", "Always 1; the version is in the label", "version")
MODEL = _gauge("steadyocr_model_info", "Always 1; what serves is in the labels", "part", "name", "sha256", "backend")
STARTED = _gauge("steadyocr_start_time_seconds", "When the service was started, in seconds since the epoch")
READY = _gauge("steadyocr_ready", "1 when new pictures are taken")
DRAINING = _gauge("steadyocr_draining", "1 while the service is stopping")
GOLDEN_OK = _gauge("steadyocr_golden_ok", "1 when the last golden check was right, 0 when it was not")
QUEUE_ITEMS = _gauge("steadyocr_queue_items", "Pictures that wait")
QUEUE_LIMIT = _gauge("steadyocr_queue_limit_items", "Pictures that may wait")
QUEUE_WAIT = _gauge("steadyocr_queue_expected_wait_seconds", "What a new picture would wait, from the measured rate")
IN_HAND = _gauge("steadyocr_items_in_hand", "Pictures that engines work on")
ENGINES = _gauge("steadyocr_engines", "Engines by state", "state")
ENGINE_RSS = _gauge("steadyocr_engine_rss_bytes", "Resident memory of an engine after its last picture", "slot")
ENGINE_PEAK = _gauge("steadyocr_engine_peak_rss_bytes", "Peak resident memory with the last picture", "slot")
ENGINE_HEAP = _gauge("steadyocr_engine_heap_bytes", "In use in the C heap of an engine when it last tidied up", "slot")
ENGINE_DEVICE = _gauge("steadyocr_engine_device_bytes", "What an engine holds on the accelerator", "slot")
ENGINE_ITEMS = _gauge("steadyocr_engine_items", "Pictures that the present engine has finished", "slot")
ENGINE_STARTS = _counter("steadyocr_engine_starts_total", "Engines that became ready", "slot")
RETIREMENTS = _counter("steadyocr_engine_retirements_total", "Engines replaced before they went bad", "slot")
MODEL_LOADS = _gauge(
    "steadyocr_engine_model_loads", "Times that the present engine loaded its models; 1 is right", "slot"
)
FRONT_RSS = _gauge("steadyocr_front_rss_bytes", "Resident memory of the front process")
BUDGET = _gauge("steadyocr_memory_budget_bytes", "What the whole service may use")
AVAILABLE = _gauge("steadyocr_memory_available_bytes", "What all work together may add to idle engines")
RESERVED = _gauge("steadyocr_memory_reserved_bytes", "Predicted need of the work in hand")
HEADROOM = _gauge("steadyocr_memory_headroom_bytes", "What further work may add now")
PREDICTED_CLOSE = _gauge("steadyocr_memory_predicted_within_20_percent_ratio", "Share of peaks predicted within 20 %")
DEVICE_USED = _gauge("steadyocr_device_memory_used_ratio", "Share of the accelerator's memory in use, by anybody")
PRESSURE = _gauge("steadyocr_pressure_level", "0 full, 1 smaller, 2 one at a time, 3 shed")
QUARANTINE = _gauge("steadyocr_quarantine_pictures", "Pictures in quarantine")
DISK_FREE = _gauge("steadyocr_disk_free_bytes", "Free space where state is kept")
DISK_FLOOR = _gauge("steadyocr_disk_floor_bytes", "Free space below which the disk counts as low")
LOG_DROPPED = _counter("steadyocr_log_records_dropped_total", "Log records that could not be written")
JOB_STORE_UP = _gauge("steadyocr_job_store_up", "1 while the job store can be used")
JOBS = _gauge("steadyocr_jobs", "Jobs in the store by state", "state")
JOB_ITEMS = _gauge("steadyocr_job_items", "Pictures of all jobs in the store by state", "state")
JOB_OLDEST = _gauge("steadyocr_job_oldest_waiting_seconds", "Age of the oldest job that is not finished; 0 without one")
JOB_IN_HAND = _gauge("steadyocr_job_items_in_hand", "Pictures of jobs that this node works on")
JOB_SETTLED = _counter("steadyocr_job_items_settled_total", "Pictures of jobs that this node ended, by how", "outcome")
JOB_UPLOADS = _gauge("steadyocr_job_uploads", "Jobs that are being sent right now")

CATALOGUE: Final[tuple[Definition, ...]] = tuple(
    value for value in list(globals().values()) if isinstance(value, Definition)
)


class Registry:
    """One service's metrics, apart from prometheus-client's global registry."""

    def __init__(self) -> None:
        # They would double the number of lines and tell what the start time tells.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.collectors = CollectorRegistry(auto_describe=False)

    def counter(self, definition: Definition) -> Counter:
        """Make a counter that is exposed at 0 when it has no labels."""
        return Counter(definition.name, definition.help, definition.labels, registry=self.collectors)

    def gauge(self, definition: Definition) -> Gauge:
        """Make a gauge that somebody sets."""
        return Gauge(definition.name, definition.help, definition.labels, registry=self.collectors)

    def histogram(self, definition: Definition) -> Histogram:
        """Make a histogram."""
        return Histogram(
            definition.name,
            definition.help,
            definition.labels,
            registry=self.collectors,
            buckets=definition.buckets,
        )
