"""Write ``deploy/grafana/steadyocr.json``. Run it after a change here: ``python scripts/make_dashboard.py``.

A dashboard by hand is a thousand lines of JSON that nobody reviews; this is the part of it that says something.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parent.parent / "deploy" / "grafana" / "steadyocr.json"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
HERE = 'instance=~"$instance"'
COLUMNS = 24


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture on the dashboard: queries by legend."""

    title: str
    queries: dict[str, str]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    stacked: bool = False
    thresholds: tuple[tuple[str, float | None], ...] = (("green", None),)
    mappings: dict[str, str] = field(default_factory=dict)


GOOD_IS_ONE = (("red", None), ("green", 1.0))
GOOD_IS_NOUGHT = (("green", None), ("red", 1.0))
YES_NO = {"0": "no", "1": "yes"}

ROWS: dict[str, list[Panel]] = {
    "Now": [
        Panel("Ready", {"": f"min(steadyocr_ready{{{HERE}}})"}, "none", "stat", 3, False, GOOD_IS_ONE, YES_NO),
        Panel("Golden", {"": f"min(steadyocr_golden_ok{{{HERE}}})"}, "none", "stat", 3, False, GOOD_IS_ONE, YES_NO),
        Panel(
            "Pressure",
            {"": f"max(steadyocr_pressure_level{{{HERE}}})"},
            "none",
            "stat",
            3,
            False,
            (("green", None), ("yellow", 1.0), ("orange", 2.0), ("red", 3.0)),
            {"0": "full", "1": "smaller", "2": "one at a time", "3": "shed"},
        ),
        Panel("Waiting", {"": f"sum(steadyocr_queue_items{{{HERE}}})"}, "none", "stat", 3),
        Panel("Pictures per minute", {"": f"60 * sum(rate(steadyocr_items_total{{{HERE}}}[5m]))"}, "none", "stat", 3),
        Panel(
            "Engine deaths, 1 h",
            {"": f"sum(increase(steadyocr_engine_restarts_total{{{HERE}}}[1h]))"},
            "none",
            "stat",
            3,
            False,
            GOOD_IS_NOUGHT,
        ),
        Panel("Quarantined", {"": f"sum(steadyocr_quarantine_pictures{{{HERE}}})"}, "none", "stat", 3),
        Panel("Up for", {"": f"time() - min(steadyocr_start_time_seconds{{{HERE}}})"}, "s", "stat", 3),
    ],
    "Traffic": [
        Panel(
            "Requests by route and status",
            {"{{route}} {{status}}": f"sum by (route, status) (rate(steadyocr_http_requests_total{{{HERE}}}[5m]))"},
            "reqps",
        ),
        Panel(
            "Pictures by outcome",
            {
                "{{code}}": f"sum by (code) (rate(steadyocr_items_total{{{HERE}}}[5m]))",
                "refused: {{code}}": f"sum by (code) (rate(steadyocr_items_refused_total{{{HERE}}}[5m]))",
            },
            "ops",
        ),
        Panel(
            "Queue",
            {
                "{{instance}} waiting": f"steadyocr_queue_items{{{HERE}}}",
                "{{instance}} limit": f"steadyocr_queue_limit_items{{{HERE}}}",
                "{{instance}} in hand": f"steadyocr_items_in_hand{{{HERE}}}",
            },
        ),
        Panel(
            "Answer time by route, 95 %",
            {
                "{{route}}": "histogram_quantile(0.95, sum by (route, le) "
                f"(rate(steadyocr_http_request_seconds_bucket{{{HERE}}}[5m])))"
            },
            "s",
        ),
        Panel(
            "Wait and service",
            {
                "wait 95 %": "histogram_quantile(0.95, sum by (le) "
                f"(rate(steadyocr_item_wait_seconds_bucket{{{HERE}}}[5m])))",
                "service 50 %": "histogram_quantile(0.5, sum by (le) "
                f"(rate(steadyocr_item_service_seconds_bucket{{{HERE}}}[5m])))",
                "service 95 %": "histogram_quantile(0.95, sum by (le) "
                f"(rate(steadyocr_item_service_seconds_bucket{{{HERE}}}[5m])))",
                "expected wait": f"max(steadyocr_queue_expected_wait_seconds{{{HERE}}})",
            },
            "s",
        ),
        Panel(
            "Mean time by stage",
            {
                "{{stage}}": f"sum by (stage) (rate(steadyocr_stage_seconds_sum{{{HERE}}}[5m])) / "
                f"sum by (stage) (rate(steadyocr_stage_seconds_count{{{HERE}}}[5m]))"
            },
            "s",
            stacked=True,
        ),
        Panel("Pixels", {"": f"sum(rate(steadyocr_pixels_total{{{HERE}}}[5m]))"}, "short", width=6),
        Panel("Lines", {"": f"sum(rate(steadyocr_lines_total{{{HERE}}}[5m]))"}, "short", width=6),
        Panel(
            "At less than full quality",
            {"{{step}}": f"sum by (step) (rate(steadyocr_items_degraded_total{{{HERE}}}[5m]))"},
            "ops",
            width=6,
        ),
        Panel(
            "Queue full",
            {"{{instance}}": f"increase(steadyocr_queue_full_total{{{HERE}}}[5m])"},
            width=6,
        ),
    ],
    "Engines": [
        Panel("Engines by state", {"{{state}}": f"sum by (state) (steadyocr_engines{{{HERE}}})"}, stacked=True),
        Panel(
            "Deaths by cause, retirements",
            {
                "{{reason}}": f"sum by (reason) (increase(steadyocr_engine_restarts_total{{{HERE}}}[10m]))",
                "retired": f"sum(increase(steadyocr_engine_retirements_total{{{HERE}}}[10m]))",
                "started": f"sum(increase(steadyocr_engine_starts_total{{{HERE}}}[10m]))",
            },
        ),
        Panel(
            "Retries, quarantine, dead loops",
            {
                "retries": f"sum(increase(steadyocr_item_retries_total{{{HERE}}}[10m]))",
                "quarantined": f"sum(increase(steadyocr_quarantined_total{{{HERE}}}[10m]))",
                "dead loops": f"sum(steadyocr_loop_deaths_total{{{HERE}}})",
            },
        ),
        Panel("Pictures by engine", {"{{instance}} {{slot}}": f"steadyocr_engine_items{{{HERE}}}"}),
        Panel("Model loads", {"{{instance}} {{slot}}": f"steadyocr_engine_model_loads{{{HERE}}}"}),
        Panel(
            "Golden checks",
            {"{{outcome}}": f"sum by (outcome) (increase(steadyocr_golden_checks_total{{{HERE}}}[10m]))"},
        ),
    ],
    "Memory": [
        Panel(
            "Resident and reserved",
            {
                "{{instance}} front": f"steadyocr_front_rss_bytes{{{HERE}}}",
                "{{instance}} engine {{slot}}": f"steadyocr_engine_rss_bytes{{{HERE}}}",
                "{{instance}} reserved": f"steadyocr_memory_reserved_bytes{{{HERE}}}",
            },
            "bytes",
            stacked=True,
        ),
        Panel(
            "Budget, available, headroom",
            {
                "{{instance}} budget": f"steadyocr_memory_budget_bytes{{{HERE}}}",
                "{{instance}} available": f"steadyocr_memory_available_bytes{{{HERE}}}",
                "{{instance}} headroom": f"steadyocr_memory_headroom_bytes{{{HERE}}}",
            },
            "bytes",
        ),
        Panel(
            "Peak with the last picture, heap after it",
            {
                "{{instance}} engine {{slot}}": f"steadyocr_engine_peak_rss_bytes{{{HERE}}}",
                "{{instance}} engine {{slot}} heap": f"steadyocr_engine_heap_bytes{{{HERE}}}",
            },
            "bytes",
        ),
        Panel(
            "Prediction: share within 20 %",
            {"{{instance}}": f"steadyocr_memory_predicted_within_20_percent_ratio{{{HERE}}}"},
            "percentunit",
            width=6,
        ),
        Panel(
            "Prediction error, 5 and 95 %",
            {
                "5 %": "histogram_quantile(0.05, sum by (le) "
                f"(rate(steadyocr_memory_prediction_error_ratio_bucket{{{HERE}}}[30m])))",
                "95 %": "histogram_quantile(0.95, sum by (le) "
                f"(rate(steadyocr_memory_prediction_error_ratio_bucket{{{HERE}}}[30m])))",
            },
            "percentunit",
            width=6,
        ),
        Panel(
            "Out of memory",
            {
                "{{where}}: {{reason}}": "sum by (where, reason) "
                f"(increase(steadyocr_memory_events_total{{{HERE}}}[10m]))",
                "to {{level}}": f"sum by (level) (increase(steadyocr_pressure_changes_total{{{HERE}}}[10m]))",
            },
            width=6,
        ),
        Panel(
            "Accelerator",
            {
                "{{instance}} used": f"steadyocr_device_memory_used_ratio{{{HERE}}}",
            },
            "percentunit",
            width=6,
        ),
    ],
    "Jobs and disk": [
        Panel("Jobs by state", {"{{state}}": f"max by (state) (steadyocr_jobs{{{HERE}}})"}),
        Panel(
            "Pictures of jobs by state",
            {"{{state}}": f"max by (state) (steadyocr_job_items{{{HERE}}})"},
            stacked=True,
        ),
        Panel(
            "Oldest unfinished job",
            {"": f"max(steadyocr_job_oldest_waiting_seconds{{{HERE}}})"},
            "s",
        ),
        Panel(
            "Pictures of jobs ended by node",
            {
                "{{instance}} {{outcome}}": f"rate(steadyocr_job_items_settled_total{{{HERE}}}[5m])",
                "{{instance}} in hand": f"steadyocr_job_items_in_hand{{{HERE}}}",
            },
        ),
        Panel(
            "Job store, uploads",
            {
                "{{instance}} store up": f"steadyocr_job_store_up{{{HERE}}}",
                "{{instance}} uploads": f"steadyocr_job_uploads{{{HERE}}}",
            },
        ),
        Panel(
            "Disk",
            {
                "{{instance}} free": f"steadyocr_disk_free_bytes{{{HERE}}}",
                "{{instance}} floor": f"steadyocr_disk_floor_bytes{{{HERE}}}",
            },
            "bytes",
        ),
        Panel(
            "Log lines lost",
            {"{{instance}}": f"increase(steadyocr_log_records_dropped_total{{{HERE}}}[15m])"},
            width=12,
        ),
        Panel(
            "What serves",
            {
                "{{instance}} {{version}}": f"steadyocr_build_info{{{HERE}}}",
                "{{instance}} {{part}}: {{name}} on {{backend}}": f"steadyocr_model_info{{{HERE}}}",
            },
            "none",
            width=12,
        ),
    ],
}


def _target(number: int, legend: str, query: str) -> dict[str, Any]:
    return {
        "datasource": DATASOURCE,
        "expr": query,
        "legendFormat": legend or "__auto",
        "refId": chr(ord("A") + number),
    }


def _panel(number: int, panel: Panel, x: int, y: int) -> dict[str, Any]:
    steps = [{"color": colour, "value": value} for colour, value in panel.thresholds]
    options = {text: {"text": words} for text, words in panel.mappings.items()}
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "thresholds": {"mode": "absolute", "steps": steps},
        "mappings": [{"type": "value", "options": options}] if options else [],
    }
    if panel.kind == "timeseries":
        stacking = {"mode": "normal" if panel.stacked else "none", "group": "A"}
        defaults["custom"] = {"fillOpacity": 10, "showPoints": "never", "stacking": stacking}
        defaults["min"] = None if "error" in panel.title else 0
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "datasource": DATASOURCE,
        "gridPos": {"h": 4 if panel.kind == "stat" else 8, "w": panel.width, "x": x, "y": y},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {"colorMode": "background"} if panel.kind == "stat" else {"legend": {"placement": "bottom"}},
        "targets": [_target(index, legend, query) for index, (legend, query) in enumerate(panel.queries.items())],
    }


def _panels() -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    y = 0
    for title, panels in ROWS.items():
        made.append(
            {
                "id": len(made) + 1,
                "type": "row",
                "title": title,
                "collapsed": False,
                "panels": [],
                "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": y},
            }
        )
        x, y = 0, y + 1
        for panel in panels:
            if x + panel.width > COLUMNS:
                x, y = 0, y + made[-1]["gridPos"]["h"]
            made.append(_panel(len(made) + 1, panel, x, y))
            x += panel.width
        y += made[-1]["gridPos"]["h"]
    return made


def _variable(name: str, kind: str, query: str, **more: object) -> dict[str, Any]:
    return {"name": name, "label": name, "type": kind, "query": query, **more}


def dashboard() -> str:
    """Return the whole dashboard as JSON text."""
    everything = {"multi": True, "includeAll": True, "allValue": ".*", "refresh": 2, "datasource": DATASOURCE}
    content = {
        "uid": "steadyocr",
        "title": "steadyocr",
        "tags": ["ocr"],
        "timezone": "browser",
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [
                _variable("datasource", "datasource", "prometheus"),
                _variable("instance", "query", "label_values(steadyocr_build_info, instance)", **everything),
            ]
        },
        "panels": _panels(),
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    TARGET.write_text(dashboard(), encoding="utf-8")
