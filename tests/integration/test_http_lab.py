"""Fine-tuning and export over real HTTP, with the real trainer: a handful of tiny crops, but every step of the way."""

from __future__ import annotations

import json
import threading
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="training needs torch, which is not installed")
pytest.importorskip("onnx", reason="exports need onnx, which is not installed")

import onnx

from labelled import make_icdar
from support import KnownPicture, RunningServer, running_server, wait_until

TINY = {
    "dataset": "bars",
    "batch_size": 1,
    "epochs": 1,
    "lr": 0.0001,
    "crop_size": 128,
    "crops_per_picture": 1,
    "base_model": "resnet18-db",
}
# Twenty seconds in all on two quiet cores; many times that where others train and test as well.
PATIENCE_S = 240
pytestmark = pytest.mark.timeout(300)
OVER = ("finished", "cancelled", "failed", "interrupted")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lab")
    make_icdar(root / "datasets" / "bars", 2)
    make_icdar(root / "datasets" / "bars", 1, "test")
    (root / "secret").mkdir()
    return root


@pytest.fixture(scope="module")
def server(remembering: tuple[str, ...], folder: Path) -> Iterator[RunningServer]:
    # On a busy machine a nice trainer waits for everybody else, and so would this test.
    with running_server(folder, remembering, engines__count="1", lab__nice="0", lab__threads="2") as running:
        yield running


def view(server: RunningServer, kind: str, record_id: str) -> dict[str, Any]:
    answer: dict[str, Any] = server.client.get(f"/v1/lab/{kind}/{record_id}").raise_for_status().json()
    return answer


def accepted(server: RunningServer, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    answer = server.client.post(f"/v1/lab/{path}", json=body or {})
    assert answer.status_code == 202, answer.text
    record: dict[str, Any] = answer.json()
    assert answer.headers["location"].endswith(record["id"])
    return record


def last_event(server: RunningServer, run_id: str) -> dict[str, Any]:
    """Follow a run's events to their end."""
    data = ""
    with server.client.stream("GET", f"/v1/lab/runs/{run_id}/events", timeout=PATIENCE_S) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert stream.headers["x-accel-buffering"] == "no"
        for line in stream.iter_lines():
            if line == "event: end":
                break
            data = line.removeprefix("data: ") if line.startswith("data: {") else data
    event: dict[str, Any] = json.loads(data)
    return event


def test_what_the_page_asks_first(server: RunningServer) -> None:
    facts = server.client.get("/v1/lab").raise_for_status().json()
    assert (facts["available"], facts["reason"]) == (True, "")
    assert facts["defaults"]["batch_size"]["default"] == 8
    assert facts["defaults"]["lr"] == {"default": 0.007, "minimum": 0.0001, "maximum": 0.1, "whole": False, "step": 1}
    assert facts["base_model"] == "resnet18-db"
    assert facts["datasets_dir"].endswith("/datasets")
    assert facts["exports"] == {"formats": ["onnx", "openvino"], "minimum": 320, "maximum": 1536, "step": 32}
    assert server.client.get("/v1/lab/datasets").json() == {"datasets": [{"name": "bars"}]}


def test_a_data_set_is_checked_and_nothing_else(server: RunningServer, folder: Path) -> None:
    report = server.client.get("/v1/lab/datasets/bars/report").raise_for_status().json()
    assert (report["pictures"], report["errors"], report["usable"]) == (3, 0, True)
    broken = make_icdar(folder / "datasets" / "broken", 1)
    (broken / "train_gts" / "0.txt").write_text("1,2,three\n", encoding="utf-8")
    try:
        report = server.client.get("/v1/lab/datasets/broken/report").raise_for_status().json()
    finally:
        (broken / "train_gts" / "0.txt").unlink()
    assert report["usable"] is False
    assert (report["problems"][0]["file"], report["problems"][0]["line"]) == ("train_gts/0.txt", 1)
    assert str(folder) not in json.dumps(report)
    for name in ("..", "..%2fsecret", "%2e%2e%2fsecret", "secret", "%2fetc"):
        answer = server.client.get(f"/v1/lab/datasets/{name}/report")
        assert answer.status_code == 404
        assert answer.json()["code"] == "not_found"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("runs", {"dataset": "../secret"}, 404),
        ("runs", {**TINY, "epochs": 0}, 422),
        ("runs", {**TINY, "folder": "/tmp"}, 422),
        ("runs/nothing/resume", {}, 404),
        ("runs/..%2f..%2fsecret/use", {}, 404),
        ("exports", {"model": "../../secret"}, 404),
        ("exports", {"model": "resnet18-db", "height": 100, "width": 320}, 422),
        ("exports/nothing/cancel", {}, 404),
    ],
)
def test_wrong_wishes_are_typed_refusals(server: RunningServer, path: str, body: dict[str, Any], status: int) -> None:
    answer = server.client.post(f"/v1/lab/{path}", json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert server.client.get("/v1/lab/runs").json() == {"runs": []}


@pytest.fixture(scope="module")
def run(server: RunningServer) -> dict[str, Any]:
    """A run that has just been started."""
    return accepted(server, "runs", TINY)


# From here on the tests go the whole way, in this order: from pictures to a model that serves, and a file to take away.
# The browser's test goes the same way in every run; these look closer, in the long suite.


@pytest.mark.slow
def test_a_run_is_followed_to_its_end(server: RunningServer, folder: Path, run: dict[str, Any]) -> None:
    assert run["state"] == "running"
    assert server.client.post("/v1/lab/runs", json=TINY).status_code == 409
    seen = last_event(server, run["id"])
    assert seen["state"] == "finished", seen
    shown = view(server, "runs", run["id"])
    assert (shown["progress"], shown["step"], shown["usable"], shown["resumable"]) == (1.0, 2, True, False)
    assert [point["step"] for point in shown["curve"] if point["hmean"] is not None] == [0, 2]
    assert any("finished at step 2" in line for line in shown["log"])
    assert str(folder) not in json.dumps(shown)


@pytest.mark.slow
def test_its_weights_serve_without_a_pause(
    server: RunningServer, folder: Path, english: KnownPicture, run: dict[str, Any]
) -> None:
    before = server.info()["models"]["detector"]["name"]
    failures: list[object] = []
    done = threading.Event()

    def read_on() -> None:
        while not done.wait(1.0):
            try:
                server.ocr(english.data)
            except Exception as error:  # noqa: BLE001 - told by the test, in its own thread
                failures.append(error)

    reader = threading.Thread(target=read_on, name="reader")
    reader.start()
    try:
        accepted(server, f"runs/{run['id']}/use", {"name": "mine"})
        use: dict[str, Any] = {}

        def settled() -> bool:
            use.update(view(server, "runs", run["id"])["use"] or {})
            return use.get("state") in ("done", "failed")

        wait_until(settled, PATIENCE_S)
    finally:
        done.set()
        reader.join()
    assert failures == []
    assert use == {"state": "done", "model": "mine", "reason": "", "before": "pp-ocrv6-small-det"}
    assert view(server, "runs", run["id"])["undoable"] is True
    assert (before, server.info()["models"]["detector"]["name"]) == ("pp-ocrv6-small-det", "mine")
    assert server.info()["engines"][0]["restarts"] == 0
    assert tomllib.loads((folder / "steadyocr.toml").read_text(encoding="utf-8"))["models"]["detector"] == "mine"
    assert "mine" in server.client.get("/v1/lab").json()["base_models"]


@pytest.mark.slow
def test_its_weights_become_a_file_to_take_away(server: RunningServer, run: dict[str, Any]) -> None:
    export = accepted(server, "exports", {"model": run["id"], "height": 330, "width": 320})
    assert export["size"]["height"] == 352
    assert "330 x 320 became 352 x 320" in export["size"]["explanation"]
    wait_until(lambda: view(server, "exports", export["id"])["state"] in OVER, PATIENCE_S)
    made = view(server, "exports", export["id"])
    assert made["state"] == "finished", made
    assert made["parity"]["max_abs_difference"]["onnxruntime"] < 1e-3
    assert (made["parity"]["allowed"], made["parity"]["same"]) == (1e-3, True)
    answer = server.client.get("/" + made["file_url"]).raise_for_status()
    assert 'filename="model_352x320.onnx"' in answer.headers["content-disposition"]
    assert len(answer.content) == made["bytes"]
    shape = onnx.load_from_string(answer.content).graph.input[0].type.tensor_type.shape
    assert [size.dim_value for size in shape.dim[1:]] == [3, 352, 320]


def test_a_run_ends_with_the_server_and_is_found_by_the_next(
    remembering: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory, folder: Path
) -> None:
    root = tmp_path_factory.mktemp("lab-restart")
    settings: dict[str, Any] = {"lab__nice": "0", "lab__datasets_dir": str(folder / "datasets"), "engines__count": "1"}
    with running_server(root, remembering, **settings) as server:
        run = accepted(server, "runs", {**TINY, "epochs": 100})
        wait_until(lambda: (root / "lab" / "runs" / run["id"] / "work" / "last.pt").is_file(), PATIENCE_S)
        started = time.monotonic()
        server.close()
        assert time.monotonic() - started < 60
    with running_server(root, remembering, **settings) as server:
        found = view(server, "runs", run["id"])
        assert (found["state"], found["resumable"]) == ("interrupted", True)
        assert "service" in found["reason"]
