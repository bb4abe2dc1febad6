"""The dashboard and the alert rules: what they ask for exists, and the rules do what they say."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ci_must import skipped_unless
from steadyocr.telemetry.metrics import CATALOGUE, Definition

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
RULE_TESTS = ROOT / "deploy" / "prometheus" / "alerts_test.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "steadyocr.json"
# What Prometheus adds to every series it scrapes, and to a histogram's buckets.
ADDED_LABELS = {"instance", "job", "le"}

needs_promtool = skipped_unless(
    shutil.which("promtool") is not None, "promtool (Debian package prometheus) is not installed"
)


def series() -> dict[str, Definition]:
    """Every name under which a metric can be asked for."""
    made: dict[str, Definition] = {}
    for definition in CATALOGUE:
        made[definition.name] = definition
        if definition.kind == "histogram":
            made.update({definition.name + suffix: definition for suffix in ("_bucket", "_count", "_sum")})
    return made


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return made


def queries() -> Iterator[str]:
    yield from (rule["expr"] for rule in rules())
    yield from (target["expr"] for panel in panels() for target in panel.get("targets", []))


def test_every_metric_that_is_asked_for_exists() -> None:
    text = RULES.read_text(encoding="utf-8") + RULE_TESTS.read_text(encoding="utf-8")
    text += DASHBOARD.read_text(encoding="utf-8")
    asked = set(re.findall(r"steadyocr_[a-z0-9_]+", text))
    assert len(asked) > 30
    assert asked - set(series()) == set()


def test_every_label_that_is_asked_for_exists() -> None:
    for query in queries():
        used = re.findall(r"(steadyocr_[a-z0-9_]+)(?:\{([^}]*)\})?", query)
        own: set[str] = set()
        for name, matchers in used:
            labels = set(series()[name].labels) | ADDED_LABELS
            own |= labels
            assert set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)) <= labels, query
        for grouped in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", query):
            assert {label.strip() for label in grouped.split(",")} <= own, query


def test_every_metric_is_shown_or_alerted_on() -> None:
    asked = {series()[name].name for query in queries() for name in re.findall(r"steadyocr_[a-z0-9_]+", query)}
    # The events are for looking things up; what an engine holds on a card is in the card's share.
    assert {definition.name for definition in CATALOGUE} - asked == {
        "steadyocr_events_total",
        "steadyocr_engine_device_bytes",
    }


def test_legends_name_labels_that_are_there() -> None:
    for panel in panels():
        for target in panel.get("targets", []):
            wanted = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            names = re.findall(r"steadyocr_[a-z0-9_]+", target["expr"])
            assert wanted <= {label for name in names for label in series()[name].labels} | ADDED_LABELS, target


def test_panels_do_not_overlap_and_have_names_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in panels()}) == len({panel["title"] for panel in panels()}) == len(panels())


def test_the_dashboard_is_what_its_script_writes() -> None:
    spec = importlib.util.spec_from_file_location("make_dashboard", ROOT / "scripts" / "make_dashboard.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = script
    try:
        spec.loader.exec_module(script)
    finally:
        del sys.modules[spec.name]
    assert DASHBOARD.read_text(encoding="utf-8") == script.dashboard()


def test_every_rule_says_how_bad_it_is_and_what_to_do() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
    for rule in rules():
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description"}


def test_every_rule_is_tested_raised_and_calm() -> None:
    cases = yaml.safe_load(RULE_TESTS.read_text(encoding="utf-8"))["tests"]
    checks = [check for case in cases for check in case["alert_rule_test"]]
    raised = {check["alertname"] for check in checks if check["exp_alerts"]}
    calm = {check["alertname"] for check in checks if not check["exp_alerts"]}
    assert raised == {rule["alert"] for rule in rules()}
    # A second load of models and a dead loop are seen at once; all others are also shown not to cry wolf.
    assert {rule["alert"] for rule in rules()} - calm == set()


@needs_promtool
@pytest.mark.parametrize("arguments", [("check", "rules", RULES.name), ("test", "rules", RULE_TESTS.name)])
def test_promtool_agrees(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        ["promtool", *arguments], cwd=RULES.parent, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED" not in done.stdout + done.stderr


@needs_promtool
def test_promtool_sees_a_rule_that_is_wrong(tmp_path: Path) -> None:
    text = RULES.read_text(encoding="utf-8")
    (tmp_path / RULES.name).write_text(text.replace("steadyocr_ready == 0", "steadyocr_ready == 1"), encoding="utf-8")
    shutil.copy(RULE_TESTS, tmp_path)
    done = subprocess.run(
        ["promtool", "test", "rules", RULE_TESTS.name], cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode != 0
