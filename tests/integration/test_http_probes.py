"""The routes that say how the service is."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import httpx

from steadyocr.options import OPTION_SPECS
from support import KnownPicture, RunningServer


def test_a_serving_server_is_alive_and_ready(server: RunningServer) -> None:
    assert server.client.get("/livez").text == "ok\n"
    assert server.client.get("/readyz").text == "ok\n"


def test_probes_answer_balancers_that_ask_for_the_head_alone(server: RunningServer) -> None:
    for path in ("/livez", "/readyz", "/healthz"):
        answer = httpx.head(f"{server.url}{path}", timeout=60)
        assert (answer.status_code, answer.content) == (200, b"")


def test_a_slash_too_many_leads_nowhere(server: RunningServer) -> None:
    """A redirect would lead out of the prefix that a proxy strips."""
    assert httpx.get(f"{server.url}/v1/jobs/", timeout=20).status_code == 404


def test_the_deep_check_says_what_it_rests_on(server: RunningServer, english: KnownPicture) -> None:
    server.ocr(english.data)
    answer = server.client.get("/healthz")
    body = answer.json()
    assert answer.status_code == 200
    assert {"status", "model_loaded", "gpu_ok", "timestamp"} <= set(body)
    assert (body["status"], body["model_loaded"], body["gpu_ok"]) == ("ok", True, None)
    assert body["source"] == "traffic"
    age = datetime.now(UTC) - datetime.fromisoformat(body["timestamp"])
    assert abs(age) < timedelta(seconds=10)


def test_info_tells_what_runs_here(server: RunningServer, english: KnownPicture) -> None:
    server.ocr(english.data)
    info = server.info()
    assert set(info["models"]) == {"detector", "recogniser"}
    assert all(len(model["sha256"]) == 64 for model in info["models"].values())
    (engine, *_) = info["engines"]
    assert engine["state"] in ("ready", "busy")
    assert engine["rss_bytes"] > 50 << 20
    assert engine["peak_rss_bytes"] >= engine["rss_bytes"]
    assert 50 << 20 < engine["heap_bytes"] < 1 << 30
    assert info["queue"]["max_size"] == 64
    assert info["queue"]["completed"] >= 1
    assert info["settings"]["server"]["host"] == "127.0.0.1"
    assert info["started_at"] <= time.time()


def test_options_describe_themselves(server: RunningServer, english: KnownPicture) -> None:
    body = server.client.get("/v1/options").json()
    described = {option["name"]: option for option in body["options"]}
    assert set(described) == {spec.name for spec in OPTION_SPECS}
    assert body["formats"] == ["json", "text", "markdown", "csv", "overlay.png"]
    in_effect = server.ocr(english.data)["options"]
    for name, option in described.items():
        assert option["description"]
        assert option["default"] == in_effect[name]
        if option["type"] == "string":
            assert option["default"] in option["choices"]
        elif option["type"] != "boolean":
            assert option["minimum"] <= option["default"] <= option["maximum"]


def test_the_document_names_routes_answers_and_options(server: RunningServer) -> None:
    document = server.client.get("/openapi.json").json()
    operation = document["paths"]["/v1/ocr"]["post"]
    assert {"200", "400", "401", "413", "415", "422", "503", "504"} <= set(operation["responses"])
    assert {spec.name for spec in OPTION_SPECS} <= {parameter["name"] for parameter in operation["parameters"]}
    assert set(operation["requestBody"]["content"]) == {"multipart/form-data", "image/*", "application/json"}


def test_answers_carry_careful_headers(server: RunningServer) -> None:
    for path in ("/livez", "/v1/info", "/nothing"):
        headers = server.client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers
