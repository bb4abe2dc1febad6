"""What the laboratory may be asked for, and what it makes of what comes out."""

from __future__ import annotations

import errno
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest

from steadyocr.errors import ConflictError, InsufficientStorage, InvalidOption, MemoryPressure, NotFoundError
from steadyocr.service import lab_exports, lab_gate, lab_runs
from steadyocr.service.lab_child import Ending
from steadyocr.service.lab_records import LOG_NAME, Record, Records, State
from steadyocr.settings.page import LabSettings

MODELS = {"base": Path("/models/base"), "other": Path("/models/other")}


def run_of(**values: Any) -> dict[str, Any]:
    return lab_runs.parse_run({"dataset": "set", **values}, MODELS, "base")


def test_defaults_are_those_of_the_original() -> None:
    params = run_of()
    assert (params["batch_size"], params["epochs"], params["lr"], params["base_model"]) == (8, 5, 0.007, "base")
    ranges = {name: (rule.minimum, rule.maximum) for name, rule in lab_runs.RANGES.items()}
    assert [ranges[name] for name in ("batch_size", "epochs", "lr")] == [(1, 32), (1, 100), (0.0001, 0.1)]


@pytest.mark.parametrize(
    "values",
    [
        {"batch_size": 0},
        {"batch_size": 33},
        {"batch_size": 1.5},
        {"batch_size": True},
        {"batch_size": "8"},
        {"epochs": 101},
        {"lr": 0.2},
        {"lr": math.nan},
        {"lr": math.inf},
        {"crop_size": 100},
        {"crop_size": 129},
        {"base_model": "nothing"},
        {"base_model": "../base"},
        {"base_model": ["base"]},
        {"base_model": {}},
        {"base_model": 0},
        {"epochs": 10**400},
        {"lr": -(10**400)},
        {"dataset": ""},
        {"dataset": 7},
        {"out": "/tmp"},
    ],
)
def test_a_run_out_of_range_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption):
        run_of(**values)


@pytest.mark.parametrize("name", list(lab_runs.RANGES))
def test_the_ends_of_each_range_are_in_it(name: str) -> None:
    rule = lab_runs.RANGES[name]
    for value in (rule.minimum, rule.maximum, rule.default):
        assert run_of(**{name: value})[name] == value


@pytest.mark.parametrize(
    "values",
    [
        {"model": ""},
        {},
        {"model": "m", "format": "caffe"},
        {"model": "m", "height": 640},
        {"model": "m", "height": 319, "width": 640},
        {"model": "m", "height": 640, "width": 1537},
        {"model": "m", "height": "640", "width": 640},
        {"model": "m", "height": 640, "width": True},
        {"model": "m", "format": "openvino", "height": 640, "width": 640},
        {"model": "m", "format": "openvino", "int8": True},
        {"model": "m", "int8": True, "height": 640, "width": 640},
        {"model": "m", "int8": "perhaps"},
        {"model": "m", "dataset": 7},
        {"model": "m", "folder": "/tmp"},
    ],
)
def test_an_export_out_of_range_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption):
        lab_exports.parse_export(values)


@pytest.mark.parametrize(
    ("asked", "given"), [((320, 1536), (320, 1536)), ((400, 600), (416, 608)), ((819, 819), (832, 832))]
)
def test_sizes_are_snapped_with_an_explanation(asked: tuple[int, int], given: tuple[int, int]) -> None:
    params = lab_exports.parse_export({"model": "m", "height": asked[0], "width": asked[1]})
    size = lab_exports.snapped(params)
    assert size is not None
    assert (size["height"], size["width"]) == given
    assert bool(size["explanation"]) == (asked != given)


def test_int8_without_a_data_set_renders_pictures_first(tmp_path: Path) -> None:
    params = lab_exports.parse_export({"model": "m", "int8": True})
    synth, export = lab_exports.commands(Path("/m"), tmp_path, params, None, 1)
    assert "synth" in synth
    assert export[export.index("--calibration") + 1] == str(tmp_path / "calibration")
    (only,) = lab_exports.commands(Path("/m"), tmp_path, params, Path("/data/set"), 1)
    assert only[only.index("--calibration") + 1] == "/data/set"


def test_what_does_not_fit_is_refused_with_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = LabSettings()
    with pytest.raises(InvalidOption, match="smaller batch"):
        lab_gate.refuse_short_memory(settings, settings.max_memory_bytes + 1)
    monkeypatch.setattr(lab_gate, "free_memory_bytes", lambda: 3_000_000_000)
    free = 3_000_000_000 - settings.min_free_memory_bytes
    lab_gate.refuse_short_memory(settings, free)
    with pytest.raises(MemoryPressure) as refusal:
        lab_gate.refuse_short_memory(settings, free + 1)
    assert refusal.value.details == {"needed_bytes": free + 1, "available_bytes": 3_000_000_000}
    assert refusal.value.retry_after_s is not None


@pytest.mark.parametrize(
    ("bf16", "batch_size", "crop_size", "measured_mb"),
    [
        *((True, 1, 320, 680), (True, 2, 640, 1080), (True, 4, 640, 1290)),
        *((False, 1, 320, 1009), (False, 4, 320, 1199), (False, 2, 640, 1603), (False, 4, 640, 2526)),
        *((False, 8, 640, 3565), (False, 4, 960, 3901)),
    ],
)
def test_training_is_predicted_to_take_what_was_measured_and_its_pictures(
    monkeypatch: pytest.MonkeyPatch, bf16: bool, batch_size: int, crop_size: int, measured_mb: int
) -> None:
    monkeypatch.setattr(lab_gate, "training_pays_in_bf16", lambda: bf16)
    predicted = lab_gate.training_bytes(batch_size, crop_size) - (lab_gate.PICTURE_CACHE_MB << 20)
    assert measured_mb < predicted / 1e6 < measured_mb * 1.25


def test_a_larger_batch_is_predicted_to_take_more() -> None:
    assert lab_gate.training_bytes(1, 320) < lab_gate.training_bytes(2, 320) < lab_gate.training_bytes(2, 640)


def test_a_child_sees_no_setting_or_key_of_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STEADYOCR_AUTH__API_KEYS", "secret")
    environment = lab_gate.environment_of(tmp_path, 3)
    assert {name: value for name, value in environment.items() if name.startswith("STEADYOCR_")} == {
        "STEADYOCR_DATA_DIR": str(tmp_path)
    }
    assert (environment["OMP_NUM_THREADS"], environment["OMP_WAIT_POLICY"]) == ("3", "PASSIVE")


def records_in(root: Path, **bounds: int) -> Records:
    return Records(root, **{"max_count": 3, "max_bytes": 1 << 20, **bounds})


def ended(records: Records, size: int = 0) -> Record:
    record = records.create({})
    (records.folder(record) / "weights").write_bytes(bytes(size))
    record.end(State.FINISHED)
    records.save(record)
    record.created_at -= 100 - len(records.newest_first())
    return record


def test_the_oldest_ended_record_goes_first_and_what_runs_stays(tmp_path: Path) -> None:
    records = records_in(tmp_path)
    running = records.create({})
    running.created_at -= 1000
    first, second = ended(records), ended(records)
    assert len(records.newest_first()) == 3
    third = ended(records)
    records.sweep()
    assert {record.id for record in records.newest_first()} == {running.id, second.id, third.id}
    assert not records.folder(first).exists()
    with pytest.raises(NotFoundError):
        records.get(first.id)


def test_too_many_bytes_push_out_the_oldest_but_never_the_newest(tmp_path: Path) -> None:
    records = records_in(tmp_path, max_bytes=1500)
    first, second = ended(records, 1000), ended(records, 2000)
    records.sweep()
    assert [record.id for record in records.newest_first()] == [second.id]
    assert not records.folder(first).exists()


def test_a_full_disk_refuses_a_record_and_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = records_in(tmp_path)
    known = records.create({})

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(InsufficientStorage):
        records.create({})
    assert records.newest_first() == [known]
    assert [path.name for path in tmp_path.iterdir()] == [known.id]
    # What is under way goes on as long as it can.
    known.end(State.FINISHED)
    assert not records.save(known)
    assert records.get(known.id).state is State.FINISHED


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/etc"])
def test_a_record_has_no_other_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotFoundError):
        records_in(tmp_path).get(name)


def test_records_outlive_a_restart_and_damaged_ones_are_left_alone(tmp_path: Path) -> None:
    before = records_in(tmp_path)
    running, done = before.create({"lr": 0.1}), ended(before)
    running.pid, running.ticks = 123, 456
    before.save(running)
    for name, text in (("damaged", "{"), ("foreign", '{"state": "flying"}'), ("empty", None)):
        (tmp_path / name).mkdir()
        if text is not None:
            (tmp_path / name / "record.json").write_text(text, encoding="utf-8")
    after = records_in(tmp_path)
    assert [(record.id, record.pid, record.ticks, record.params) for record in after.load()] == [
        (running.id, 123, 456, {"lr": 0.1})
    ]
    assert after.get(done.id).state is State.FINISHED
    assert (tmp_path / "damaged").is_dir()


def run_in(tmp_path: Path, rows: list[dict[str, Any]], state: State = State.RUNNING) -> tuple[Record, Path]:
    work = tmp_path / "work"
    work.mkdir()
    text = "".join(f"{json.dumps(row)}\n" for row in rows)
    (work / "curve.jsonl").write_text(f"{text}{{cut of", encoding="utf-8")
    return Record(id="r", params={}, state=state), tmp_path


def test_progress_is_read_from_the_curve_even_when_its_last_line_is_cut_off(tmp_path: Path) -> None:
    rows = [
        {"step": 5, "done": 0.25, "eta_s": 30.0, "total": 2.5},
        {"step": 10, "done": 0.5, "eta_s": 20.0, "hmean": 0.7},
        {"step": 15, "done": 0.75, "eta_s": 10.0, "total": 1.5},
    ]
    record, folder = run_in(tmp_path, rows)
    view = lab_runs.progress_of(record, folder)
    assert (view["progress"], view["step"], view["eta_s"], view["best_hmean"]) == (0.75, 15, 10.0, 0.7)
    assert view["curve"] == [
        {"step": 5, "loss": 2.5, "hmean": None},
        {"step": 10, "loss": None, "hmean": 0.7},
        {"step": 15, "loss": 1.5, "hmean": None},
    ]
    record.end(State.FINISHED)
    assert lab_runs.progress_of(record, folder)["progress"] == 1.0
    assert lab_runs.progress_of(record, folder)["eta_s"] is None


def test_nothing_yet_is_a_view_too(tmp_path: Path) -> None:
    view = lab_runs.progress_of(Record(id="r", params={}), tmp_path)
    assert view == {"progress": 0.0, "step": 0, "eta_s": None, "best_hmean": None, "curve": []}


def test_a_long_curve_is_thinned_and_keeps_its_verdicts(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"step": step, "total": 1.0} for step in range(5000)]
    rows[1234]["hmean"] = 0.5
    record, folder = run_in(tmp_path, rows)
    curve = lab_runs.progress_of(record, folder)["curve"]
    assert len(curve) <= 1000
    assert {"step": 1234, "loss": 1.0, "hmean": 0.5} in curve


@pytest.mark.parametrize(
    ("ending", "state", "words"),
    [
        (Ending(0, ""), State.FINISHED, ""),
        (Ending(130, "asked"), State.CANCELLED, ""),
        (Ending(130, ""), State.INTERRUPTED, "outside"),
        (Ending(-9, "memory"), State.FAILED, "memory"),
        (Ending(-15, "time"), State.FAILED, "max_hours"),
        (Ending(1, ""), State.FAILED, "steadyocr: set.txt: no such folder"),
        (Ending(-9, ""), State.FAILED, "set.txt"),
    ],
)
def test_an_ending_is_put_into_words_without_a_path(tmp_path: Path, ending: Ending, state: State, words: str) -> None:
    (tmp_path / LOG_NAME).write_text("some\nsteadyocr: /srv/data/set.txt: no such folder\n\n", encoding="utf-8")
    record = Record(id="r", params={})
    lab_runs.end_run(record, ending, tmp_path)
    assert record.state is state
    assert words in record.reason
    assert "/srv" not in record.reason


def test_only_what_has_ended_early_with_a_checkpoint_resumes(tmp_path: Path) -> None:
    record = Record(id="r", params={}, state=State.CANCELLED)
    with pytest.raises(ConflictError):
        lab_runs.refuse_resume(record, tmp_path)
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "last.pt").write_bytes(b"")
    lab_runs.refuse_resume(record, tmp_path)
    for state in (State.RUNNING, State.STOPPING, State.FINISHED):
        record.state = state
        with pytest.raises(ConflictError):
            lab_runs.refuse_resume(record, tmp_path)


@pytest.mark.parametrize(
    ("kind", "made", "name"),
    [("openvino", "model.xml", "model_openvino.zip"), ("onnx", "model.onnx", "model_dynamic.onnx")],
)
def test_size_and_checksum_are_those_of_the_file_that_is_handed_out(
    tmp_path: Path, kind: str, made: str, name: str
) -> None:
    (tmp_path / "work").mkdir()
    for part in (made, "model.bin"):
        (tmp_path / "work" / part).write_bytes(part.encode())
    report = {
        "file": made,
        "sha256": hashlib.sha256(made.encode()).hexdigest(),
        "reference": "torch float32",
        "outputs": {kind: [{"max_abs_difference": 0.0}]},
    }
    (tmp_path / "work" / "parity.json").write_text(json.dumps(report), encoding="utf-8")
    record = Record(id="e", params=lab_exports.parse_export({"model": "m", "format": kind}))
    lab_exports.end_export(record, Ending(0, ""), tmp_path)
    file = lab_exports.file_of(record, tmp_path)
    assert file.name == record.facts["file"] == name
    assert record.facts["bytes"] == file.stat().st_size
    assert record.facts["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
