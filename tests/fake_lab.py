"""A laboratory without training: what it answers the page is scripted, what it is asked is kept."""

from __future__ import annotations

import json
import math
from typing import Any

from playwright.sync_api import Page, Route

DATASETS = [
    {"name": "receipts-2026"},
    {"name": "street-signs"},
]
REPORT = {
    "pictures": 240,
    "errors": 0,
    "warnings": 2,
    "notes": 1,
    "usable": True,
    "left_out": 0,
    "problems": [
        {
            "file": "train_gts/0012.txt",
            "line": 4,
            "severity": "warning",
            "kind": "bom",
            "message": "the file begins with a byte order mark",
        },
        {
            "file": "train_gts/0031.txt",
            "line": 1,
            "severity": "warning",
            "kind": "order",
            "message": "the points run anti-clockwise",
        },
        {
            "file": "train_gts/0107.txt",
            "line": 9,
            "severity": "note",
            "kind": "tiny",
            "message": "the box is 2 pixels high",
        },
    ],
}
CREATED_AT = 1_795_480_000
NOTHING = (404, {"code": "not_found", "detail": "there is nothing"})
FRESH: dict[str, Any] = {
    "reason": "",
    "curve": [],
    "log": [],
    "best_hmean": None,
    "resumable": False,
    "usable": False,
    "use": None,
    "undoable": False,
}
MODELS = ["resnet18-db", "receipts-v2"]
DATASETS_DIR = "/srv/ocr/datasets"


def curve(steps: int) -> list[dict[str, Any]]:
    """A plausible course: the loss falls, H-mean is measured now and then."""
    points = []
    for step in range(10, steps + 1, 10):
        wobble = 0.06 * math.sin(step * 1.7) + 0.04 * math.sin(step * 0.43)
        point: dict[str, Any] = {"step": step, "loss": round(0.6 + 2.4 * math.exp(-step / 110) + wobble, 4)}
        point["hmean"] = round(0.93 - 0.5 * math.exp(-step / 120), 4) if step % 50 == 0 else None
        points.append(point)
    return points


class FakeLab:
    """Answers ``v1/lab``; a run goes a step further each time somebody looks."""

    def __init__(self, *, available: bool = True) -> None:
        self.available = available
        self.asked: list[tuple[str, str, Any]] = []
        self.runs: list[dict[str, Any]] = []
        self.exports: list[dict[str, Any]] = []
        # Looks that a run takes to its end; and what is said to an order instead of yes.
        self.patience = 1
        # Lines of a log after which a run waits for the test.
        self.pause_after: int | None = None
        self.datasets = DATASETS
        # H-mean before the first step; None is a run from weights that were not measured.
        self.hmean_before: float | None = None
        self.refusal: tuple[int, dict[str, Any]] | None = None

    def attach(self, page: Page) -> FakeLab:
        """Answer this page's requests from now on."""
        page.route("**/v1/lab**", self._answer)
        page.route("**/v1/lab/**", self._answer)
        return self

    def asked_for(self, method: str, path: str) -> list[Any]:
        """Bodies of the requests to a path."""
        return [body for verb, place, body in self.asked if (verb, place) == (method, path)]

    def _answer(self, route: Route) -> None:
        request = route.request
        path = request.url.split("/v1/lab", 1)[1].split("?")[0].strip("/")
        body = json.loads(request.post_data) if request.post_data else None
        self.asked.append((request.method, path, body))
        status, answer = self._act(request.method, path.split("/") if path else [], body or {})
        if path.endswith("/file"):
            route.fulfill(body=b"weights", headers={"Content-Disposition": 'attachment; filename="model.onnx"'})
        else:
            route.fulfill(status=status, json=answer)

    def _act(self, method: str, parts: list[str], body: dict[str, Any]) -> tuple[int, Any]:
        match method, parts:
            case "GET", []:
                models = {"base_models": MODELS, "base_model": MODELS[0]}
                known = {"available": True, "datasets_dir": DATASETS_DIR, **models}
                return 200, known if self.available else {"available": False, "reason": "the training extra is missing"}
            case "GET", ["datasets"]:
                return 200, {"datasets": self.datasets}
            case "GET", ["datasets", _, "report"]:
                return 200, REPORT
            case _, ["runs", *rest]:
                return self._act_on_runs(method, rest, body)
            case "POST", ["exports", name, "cancel"]:
                record = next(one for one in self.exports if one["id"] == name)
                record.update(state="cancelled", reason="stopped")
                return 202, record
            case "GET", ["exports"]:
                return 200, {"exports": self._look_at_exports()}
            case "POST", ["exports"]:
                size = {"height": body["height"], "width": body["width"]} if "height" in body else None
                made = {"id": f"export-{len(self.exports)}", "state": "running", "reason": "", "created_at": CREATED_AT}
                self.exports.insert(0, made | {"params": body, "size": size})
                return 202, made
        return NOTHING

    def _act_on_runs(self, method: str, parts: list[str], body: dict[str, Any]) -> tuple[int, Any]:
        match method, parts:
            case "GET", []:
                return 200, {"runs": self.runs}
            case "POST", [] if self.refusal is not None:
                return self.refusal
            case "POST", []:
                run = {"id": f"run-{len(self.runs)}", "created_at": CREATED_AT, "state": "running", "params": body}
                self.runs.insert(0, {**run, "progress": 0.0, "eta_s": 95, **FRESH})
                return 202, self.runs[0]
            case "GET", [name]:
                return 200, self._further(self._run(name))
            case "POST", [name, verb]:
                run = self._run(name)
                self._tell(run, verb)
                return 200, run
        return NOTHING

    def _look_at_exports(self) -> list[dict[str, Any]]:
        """Each look finishes what was under way, when it is not to take for ever."""
        shown = [dict(one) for one in self.exports]
        for one in self.exports:
            if one["state"] != "running" or self.patience > 1:
                continue
            differences = {"onnxruntime": 1.2e-7, "openvino": 0.031 if one["params"]["format"] == "openvino" else 2e-7}
            verdict = {} if one["params"]["int8"] else {"allowed": 1e-3, "same": max(differences.values()) <= 1e-3}
            one.update(
                state="finished",
                bytes=23_180_000,
                file="model_dynamic.onnx",
                parity={"reference": "torch", "max_abs_difference": differences, **verdict},
            )
        return shown

    def _tell(self, run: dict[str, Any], verb: str) -> None:
        if verb == "use":
            run["use"] = {"state": "importing", "model": f"lab-{run['id']}", "reason": "", "before": MODELS[0]}
        elif verb == "back":
            run["use"] = {"state": "swapping", "model": run["use"]["before"], "reason": "", "before": ""}
            run["undoable"] = False
        else:
            run["state"] = {"cancel": "cancelled", "resume": "running"}[verb]
            run["resumable"] = verb == "cancel"

    def _run(self, name: str) -> dict[str, Any]:
        return next(run for run in self.runs if run["id"] == name)

    def _further(self, run: dict[str, Any]) -> dict[str, Any]:
        if run["state"] == "running" and len(run["log"]) != self.pause_after:
            run["progress"] = min(1.0, run["progress"] + 1.01 / self.patience)
            step = max(10, round(600 * run["progress"]))
            before = {"step": 0, "loss": None, "hmean": self.hmean_before}
            run["curve"] = [before, *curve(step)] if self.hmean_before is not None else curve(step)
            run["best_hmean"] = max((point["hmean"] or 0.0 for point in run["curve"]), default=None) or None
            run["eta_s"] = round(95 * (1 - run["progress"]))
            loss = run["curve"][-1]["loss"]
            run["log"] = [*run["log"], f"step {step}/600  loss {loss:.3f}  lr {run['params']['lr']:.4f}  8.1 crops/s"]
            if run["progress"] >= 1:
                run.update(state="finished", eta_s=None, usable=True)
        elif run["use"] and run["state"] != "running":
            run["use"] = {**run["use"], "state": {"importing": "swapping"}.get(run["use"]["state"], "done")}
            run["undoable"] = run["use"]["state"] == "done" and bool(run["use"]["before"])
        return run
