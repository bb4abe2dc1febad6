"""``/metrics`` of a real server, and who may read it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from ci_must import skipped_unless
from steadyocr.api.app import create_app
from steadyocr.service import Service
from steadyocr.settings import load_settings
from support import KnownPicture, RunningServer, wait_until

KEY = "a-long-enough-key"


def scraped(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_work_shows_in_the_metrics(server: RunningServer, english: KnownPicture) -> None:
    # Whoever used this server last has been answered; the engine may not have put its house in order yet.
    wait_until(lambda: all(engine["state"] == "ready" for engine in server.client.get("/v1/info").json()["engines"]))
    before = scraped(server.client.get("/metrics").text)
    server.ocr(english.data)
    lines = ("steadyocr_lines_total", ())
    # An item is counted when its engine has put its house in order, a moment after the answer.
    wait_until(lambda: scraped(server.client.get("/metrics").text)[lines] > before[lines])
    assert server.client.post("/v1/ocr", content=b"not a picture").status_code == 415
    assert server.client.get("/no/such/page?with=secrets").status_code == 404
    answer = server.client.get("/metrics")
    after = scraped(answer.text)

    def grown(name: str, **labels: str) -> float:
        key = (name, tuple(sorted(labels.items())))
        return after[key] - before.get(key, 0.0)

    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert grown("steadyocr_items_total", code="ok", priority="interactive") == 1
    assert grown("steadyocr_items_refused_total", code="unsupported_media_type") == 1
    assert grown("steadyocr_http_requests_total", route="/v1/ocr", method="POST", status="200") == 1
    assert grown("steadyocr_http_requests_total", route="unknown", method="GET", status="404") == 1
    assert grown("steadyocr_lines_total") == len(english.texts)
    for stage in ("decode", "detect", "order", "recognise"):
        assert grown("steadyocr_stage_seconds_count", stage=stage) == 1
    assert after["steadyocr_ready", ()] == 1
    assert after["steadyocr_engine_rss_bytes", (("slot", "0"),)] > 50 << 20
    assert after["steadyocr_engine_model_loads", (("slot", "0"),)] == 1
    assert "no/such/page" not in answer.text


@skipped_unless(shutil.which("promtool") is not None, "promtool (Debian package prometheus) is not installed")
def test_promtool_finds_nothing_to_complain_about(server: RunningServer) -> None:
    text = server.client.get("/metrics").text
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(("open_to_all", "status"), [(False, 401), (True, 200)])
def test_with_keys_on_metrics_need_one_unless_the_settings_open_them(
    tmp_path: Path, open_to_all: bool, status: int
) -> None:
    given = {"auth": {"api_keys": [KEY]}, "metrics": {"open": open_to_all}}
    settings, _ = load_settings(given, environ={"STEADYOCR_DATA_DIR": str(tmp_path)})
    client = TestClient(create_app(Service(settings)))
    assert client.get("/metrics").status_code == status
    assert client.get("/metrics", headers={"X-API-Key": KEY}).status_code == 200
