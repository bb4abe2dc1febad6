"""The laboratory's processes, with small programs in the place of training."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from steadyocr.errors import (
    BackendUnavailable,
    ConflictError,
    DatasetError,
    InvalidOption,
    MemoryPressure,
    ModelError,
    NotFoundError,
    NotReady,
    QueueFull,
)
from steadyocr.service import lab_adoption, lab_child, lab_datasets, lab_exports, lab_gate, lab_runs
from steadyocr.service.lab import Lab
from steadyocr.service.lab_records import Record, State
from steadyocr.settings import Settings
from support import PATIENCE_S, in_real_time, is_running

# Writes a checkpoint when it is told to stop, as training does.
TRAINING = """
import pathlib, signal, sys, time
work = pathlib.Path(sys.argv[1]); work.mkdir(exist_ok=True)
def stop(*_):
    (work / "last.pt").write_text("checkpoint"); sys.exit(130)
signal.signal(signal.SIGTERM, stop)
print("training", flush=True)
(work / "best.pt").write_text("weights")
time.sleep(float(sys.argv[2]))
"""
SET = {"dataset": "set"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab_child, "_LOOK_S", 0.02)
    monkeypatch.setattr(lab_gate, "unavailable_reason", lambda _: "")


def trains_for(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    def command(work: Path) -> list[str]:
        return [sys.executable, "-c", TRAINING, str(work), str(seconds)]

    monkeypatch.setattr(lab_runs, "train_command", lambda _dataset, _base, work, _params, _threads: command(work))
    monkeypatch.setattr(lab_runs, "resume_command", command)


async def never(name: str) -> None:
    raise AssertionError(f"changed to {name}")


@asynccontextmanager
async def laboratory(folder: Path, change: Callable[[str], Any] = never, **settings: Any) -> AsyncIterator[Lab]:
    (folder / "datasets" / "set").mkdir(parents=True, exist_ok=True)
    values = {"data_dir": folder, "lab": {"nice": 0, **settings}}
    lab = Lab(Settings.model_validate(values), change)
    await lab.load()
    try:
        yield lab
    finally:
        await lab.stop()
        await asyncio.sleep(0)  # in which those that have ended are forgotten
        assert not lab._tasks


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - what happens elsewhere
            await asyncio.sleep(0.01)


def started(lab: Lab, record: Record) -> bool:
    return (lab.runs.folder(record) / "work" / "best.pt").exists()


@in_real_time
async def test_a_run_finishes_and_there_is_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trains_for(monkeypatch, 0.3)
    async with laboratory(tmp_path) as lab:
        record = lab.start_run(SET)
        with pytest.raises(ConflictError, match="under way"):
            lab.start_run(SET)
        await until(lambda: record.state.ended)
        assert record.state is State.FINISHED
        with pytest.raises(ConflictError, match="ended already"):
            lab.cancel(lab.runs, record.id)
        lab.start_run(SET)


@in_real_time
async def test_a_cancelled_run_keeps_its_checkpoint_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trains_for(monkeypatch, 60)
    async with laboratory(tmp_path) as lab:
        record = lab.start_run(SET)
        await until(lambda: started(lab, record))
        pid = record.pid
        assert is_running(pid)
        lab.cancel(lab.runs, record.id)
        await until(lambda: record.state.ended)
        assert record.state is State.CANCELLED
        assert not is_running(pid)

        trains_for(monkeypatch, 0)
        lab.resume_run(record.id)
        await until(lambda: record.state.ended)
        assert lab.runs.get(record.id).state is State.FINISHED
        with pytest.raises(ConflictError):
            lab.resume_run(record.id)


@in_real_time
async def test_cancelled_at_once_it_never_runs_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trains_for(monkeypatch, 60)
    async with laboratory(tmp_path) as lab:
        record = lab.start_run(SET)
        lab.cancel(lab.runs, record.id)
        await until(lambda: record.state.ended)
        assert record.state is State.CANCELLED


@in_real_time
async def test_a_run_ends_with_the_service_and_resumes_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trains_for(monkeypatch, 60)
    async with laboratory(tmp_path) as lab:
        record = lab.start_run(SET)
        await until(lambda: started(lab, record))
        pid = record.pid
    assert not is_running(pid)
    trains_for(monkeypatch, 0)
    async with laboratory(tmp_path) as lab:
        found = lab.runs.get(record.id)
        assert (found.state, found.reason) == (State.INTERRUPTED, "the service was stopped while this ran")
        lab.resume_run(found.id)
        await until(lambda: found.state.ended)
        assert found.state is State.FINISHED


@in_real_time
async def test_after_a_crash_what_was_left_is_ended_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the service had been killed and its child had lived on."""
    trains_for(monkeypatch, 60)
    async with laboratory(tmp_path) as lab:
        record = lab.start_run(SET)
        await until(lambda: started(lab, record))
        async with laboratory(tmp_path) as successor:
            found = successor.runs.get(record.id)
            assert found.state is State.INTERRUPTED
            assert "the service ended" in found.reason
            assert not is_running(record.pid)
            assert lab_runs.can_resume(found, successor.runs.folder(found))


@in_real_time
async def test_a_run_killed_from_outside_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trains_for(monkeypatch, 60)
    async with laboratory(tmp_path) as lab:
        record = lab.start_run(SET)
        await until(lambda: started(lab, record))
        os.kill(record.pid, signal.SIGKILL)
        await until(lambda: record.state.ended)
        assert record.state is State.FAILED
        assert lab.runs.get(record.id).ended_at is not None


@in_real_time
async def test_what_cannot_be_started_is_refused_and_leaves_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trains_for(monkeypatch, 60)
    async with laboratory(tmp_path) as lab:
        for dataset in ("other", "..", "../set", "set/..", "/etc", ".", "set\0"):
            with pytest.raises(NotFoundError):
                lab.start_run({"dataset": dataset})
        monkeypatch.setattr(lab_gate, "free_memory_bytes", lambda: 1 << 20)
        with pytest.raises(MemoryPressure):
            lab.start_run(SET)
        with pytest.raises(MemoryPressure):
            lab.start_export({"model": "resnet18-db"})
        monkeypatch.setattr(lab_gate, "unavailable_reason", lambda _: "torch is not installed")
        for start in (lab.start_run, lab.start_export):
            with pytest.raises(BackendUnavailable, match="torch"):
                start({})
        assert lab.runs.newest_first() == lab.exports.newest_first() == []
        assert lab.runs.folder(Record(id="", params={})).exists() is False


@in_real_time
async def test_what_has_just_begun_counts_with_what_it_is_going_to_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trains_for(monkeypatch, 60)
    async with laboratory(tmp_path) as lab:
        needed = lab_gate.training_bytes(8, 640) + lab_gate.export_bytes()
        free = needed + lab._settings.lab.min_free_memory_bytes - (64 << 20)
        monkeypatch.setattr(lab_gate, "free_memory_bytes", lambda: free)
        record = lab.start_run({**SET, "batch_size": 8, "crop_size": 640})
        with pytest.raises(MemoryPressure):
            lab.start_export({"model": "resnet18-db"})
        await until(lambda: started(lab, record))
        with pytest.raises(MemoryPressure):
            lab.start_export({"model": "resnet18-db"})
        lab.cancel(lab.runs, record.id)
        await until(lambda: record.state.ended and not lab._reserved)
        monkeypatch.setattr(lab_exports, "commands", lambda *_: [[sys.executable, "-c", ""]])
        lab.start_export({"model": "resnet18-db"})


def test_without_the_packages_there_is_a_reason_and_no_import(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    settings = Settings().lab
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "torch" else object())
    assert "torch" in lab_gate.unavailable_reason(settings)
    assert "onnx" not in lab_gate.unavailable_reason(settings)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
    assert lab_gate.unavailable_reason(settings) == ""
    off = settings.model_copy(update={"enabled": False})
    assert "switched off" in lab_gate.unavailable_reason(off)


@in_real_time
async def test_an_export_runs_its_commands_until_one_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def commands(_source: Path, folder: Path, *_: Any) -> list[list[str]]:
        def say(word: str, status: int) -> list[str]:
            return [sys.executable, "-c", f"import sys; print('{word}', flush=True); sys.exit({status})"]

        return [say("first", 0), say("second", 3), say("third", 0)]

    monkeypatch.setattr(lab_exports, "commands", commands)
    async with laboratory(tmp_path) as lab:
        record = lab.start_export({"model": "resnet18-db"})
        with pytest.raises(ConflictError):
            lab.start_export({"model": "resnet18-db"})
        await until(lambda: record.state.ended)
        assert (record.state, record.reason) == (State.FAILED, "second")
        with pytest.raises(NotFoundError):
            lab_exports.file_of(record, lab.exports.folder(record))
        with pytest.raises(NotFoundError):
            lab.start_export({"model": "../../secret"})


class Changes:
    """Stands for the commands that import and note a model, and for the engines."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failing: str = "") -> None:
        self.done: list[str] = []
        self._failing = failing

        async def command(_: Any, _folder: Path, *words: str) -> None:
            await self.step(" ".join((words[1], words[-1 if words[1] == "use" else 4])))

        monkeypatch.setattr(lab_adoption.Adoption, "_command", command)

    async def change(self, name: str) -> None:
        await self.step(f"swap {name}")

    async def step(self, what: str) -> None:
        await asyncio.sleep(0)
        if what.startswith(self._failing or "\0"):
            raise ModelError("the golden picture was misread")
        self.done.append(what)


def serves(record: Record) -> bool:
    return bool(record.facts.get("use", {}).get("state") == "done")


async def finished_run(lab: Lab) -> Record:
    record = lab.start_run(SET)
    await until(lambda: record.state.ended)
    return record


@in_real_time
async def test_weights_are_imported_swapped_in_and_written_down_in_this_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trains_for(monkeypatch, 0)
    changes = Changes(monkeypatch)
    async with laboratory(tmp_path, changes.change) as lab:
        record = await finished_run(lab)
        lab.use_run(record.id, "mine")
        with pytest.raises(ConflictError, match="already"):
            lab.use_run(record.id, "mine")
        await until(lambda: record.facts.get("use", {}).get("state") == "done")
        assert changes.done == ["import mine", "swap mine", "use mine"]
        before = "pp-ocrv6-small-det"
        assert record.facts["use"] == {"state": "done", "model": "mine", "reason": "", "before": before}
        for name in ("../mine", "Mine", "", "resnet18-db", "x" * 65):
            with pytest.raises(InvalidOption):
                lab.use_run(record.id, name or " ")


@in_real_time
async def test_the_detector_from_before_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trains_for(monkeypatch, 0)
    changes = Changes(monkeypatch)
    async with laboratory(tmp_path, changes.change) as lab:
        first, second = await finished_run(lab), await finished_run(lab)
        with pytest.raises(ConflictError, match="serves"):
            lab.go_back(first.id)
        for record, name in ((first, "one"), (second, "two")):
            lab.use_run(record.id, name)
            await until(functools.partial(serves, record))
        assert not lab.can_go_back(first), "it does not serve any more"
        changes.done.clear()
        lab.go_back(second.id)
        with pytest.raises(ConflictError, match="already"):
            lab.use_run(first.id, "one")
        await until(lambda: second.facts["use"] == {"state": "done", "model": "one", "reason": "", "before": ""})
        assert changes.done == ["swap one", "use one"]
        assert not lab.can_go_back(second)


@in_real_time
async def test_weights_that_serve_are_not_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trains_for(monkeypatch, 0)
    changes = Changes(monkeypatch)
    async with laboratory(tmp_path, changes.change) as lab:
        record = await finished_run(lab)
        first = f"lab-{record.id}"
        for _ in range(3):
            record.facts.pop("use", None)
            lab.use_run(record.id, None)
            await until(lambda: serves(record))
            assert lab.can_go_back(record)
        swaps = [what.removeprefix("swap ") for what in changes.done if what.startswith("swap")]
        assert swaps == [first, f"{first}-2", first]
        with pytest.raises(ConflictError, match="serves now"):
            lab.use_run(record.id, first)


@in_real_time
async def test_a_model_of_others_is_not_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trains_for(monkeypatch, 0)
    changes = Changes(monkeypatch)
    for name in ("my-rec", "theirs", "one"):
        (tmp_path / "models" / name).mkdir(parents=True)
    async with laboratory(tmp_path, changes.change) as lab:
        models = lab._settings.models.model_copy(update={"recogniser": "my-rec"})
        lab._adoption._settings = lab._settings.model_copy(update={"models": models})
        first, second = await finished_run(lab), await finished_run(lab)
        for name in ("my-rec", "theirs", "one"):
            with pytest.raises(ConflictError, match="name"):
                lab.use_run(first.id, name)
        assert changes.done == []
        (tmp_path / "models" / "one").rmdir()
        wishes = ((first, "one"), (second, "two"), (first, "one"), (first, None), (second, None))
        for record, wish in wishes:
            lab.use_run(record.id, wish)
            await until(functools.partial(serves, record))
            (tmp_path / "models" / str(record.facts["use"]["model"])).mkdir(exist_ok=True)
            record.facts["use"] = {**record.facts["use"], "state": "failed"}
        # What served before is not this run's, although its record names it.
        second.facts["use"] = {"state": "done", "model": "one", "reason": "", "before": ""}
        for record, name in ((second, "one"), (second, f"lab-{first.id}"), (first, "two")):
            with pytest.raises(ConflictError, match="another model"):
                lab.use_run(record.id, name)


@in_real_time
async def test_only_what_is_the_runs_own_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trains_for(monkeypatch, 0)
    given: list[tuple[str, ...]] = []

    async def command(_: Any, _folder: Path, *words: str) -> None:
        given.append(words)

    changes = Changes(monkeypatch)
    monkeypatch.setattr(lab_adoption.Adoption, "_command", command)
    async with laboratory(tmp_path, changes.change) as lab:
        record = await finished_run(lab)
        for name in ("mine", None, "mine"):
            record.facts.pop("use", None)
            lab.use_run(record.id, name)
            await until(lambda: serves(record))
    imports = [words for words in given if words[1] == "import"]
    assert ["--replace" in words for words in imports] == [False, True, True]


@in_real_time
async def test_memory_is_kept_for_weights_that_are_being_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trains_for(monkeypatch, 0)
    go_on = asyncio.Event()

    async def command(*_: object) -> None:
        await go_on.wait()

    monkeypatch.setattr(lab_adoption.Adoption, "_command", command)
    monkeypatch.setattr(lab_exports, "commands", lambda *_: [[sys.executable, "-c", ""]])
    async with laboratory(tmp_path, Changes(monkeypatch).change) as lab:
        monkeypatch.setattr(lab_adoption.Adoption, "_command", command)
        record = await finished_run(lab)
        floor = lab._settings.lab.min_free_memory_bytes
        monkeypatch.setattr(lab_gate, "free_memory_bytes", lambda: floor + round(1.5 * lab_gate.export_bytes()))
        lab.use_run(record.id, "mine")
        await asyncio.sleep(0)
        with pytest.raises(MemoryPressure):
            lab.start_export({"model": "resnet18-db"})
        go_on.set()
        await until(lambda: serves(record) and not lab._reserved)
        lab.start_export({"model": "resnet18-db"})


@pytest.mark.parametrize(("failing", "done"), [("import", []), ("swap", ["import mine"])])
def test_a_model_that_does_not_serve_is_not_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, done: list[str]
) -> None:
    @in_real_time
    async def scenario() -> None:
        trains_for(monkeypatch, 0)
        changes = Changes(monkeypatch, failing)
        async with laboratory(tmp_path, changes.change) as lab:
            record = await finished_run(lab)
            lab.use_run(record.id, "mine")
            await until(lambda: record.facts.get("use", {}).get("state") == "failed")
            assert changes.done == done
            assert "golden" in record.facts["use"]["reason"]

    scenario()


@in_real_time
async def test_a_stronger_setting_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trains_for(monkeypatch, 0)
    monkeypatch.setenv("STEADYOCR_MODELS__DETECTOR", "another")
    changes = Changes(monkeypatch)
    async with laboratory(tmp_path, changes.change) as lab:
        record = await finished_run(lab)
        lab.use_run(record.id, "mine")
        await until(lambda: record.facts.get("use", {}).get("state") == "done")
        assert changes.done == ["import mine", "swap mine"]
        assert "STEADYOCR_MODELS__DETECTOR" in record.facts["use"]["reason"]


@in_real_time
async def test_the_next_run_starts_from_what_serves_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trains_for(monkeypatch, 0)
    changes = Changes(monkeypatch)
    monkeypatch.setattr(lab_runs, "base_models", lambda _: dict.fromkeys(("resnet18-db", "mine"), tmp_path))
    async with laboratory(tmp_path, changes.change) as lab:
        assert lab.default_base() == "resnet18-db"
        record = await finished_run(lab)
        lab.use_run(record.id, "mine")
        await until(lambda: record.facts.get("use", {}).get("state") == "done")
        assert lab.default_base() == "mine"


@in_real_time
async def test_a_change_cut_off_by_the_end_of_the_service_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trains_for(monkeypatch, 0)
    async with laboratory(tmp_path) as lab:
        record = await finished_run(lab)
        record.facts["use"] = {"state": "swapping", "model": "mine", "reason": ""}
        lab.runs.save(record)
    async with laboratory(tmp_path) as lab:
        assert lab.runs.get(record.id).facts["use"]["state"] == "failed"


@in_real_time
async def test_data_sets_are_the_folders_of_one_folder(tmp_path: Path) -> None:
    async with laboratory(tmp_path) as lab:
        root = tmp_path / "datasets"
        for name in ("数据", ".hidden"):
            (root / name).mkdir()
        (root / "file").write_bytes(b"")
        assert lab.datasets.names() == ["set", "数据"]
        for name in ("..", ".hidden", "file", "set/../set", str(root / "set"), ""):
            with pytest.raises(NotFoundError):
                await lab.datasets.report(name)
        with pytest.raises(DatasetError) as error:
            await lab.datasets.report("set")
        assert str(tmp_path) not in error.value.message


@in_real_time
async def test_reports_that_wait_are_few_and_one_that_nobody_waits_for_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids: list[int] = []

    class SlowChild(lab_child.Child):
        def __init__(self, command: Sequence[str], *rest: Any) -> None:
            super().__init__((sys.executable, "-c", "import time; time.sleep(60)"), *rest)

        async def start(self) -> None:
            await super().start()
            pids.append(self.pid or 0)

    async with laboratory(tmp_path) as lab:
        with monkeypatch.context() as slow:
            slow.setattr(lab_datasets, "Child", SlowChild)
            waiting = [asyncio.create_task(lab.report("set")) for _ in range(lab_datasets._MAX_REPORTS)]
            await until(lambda: pids and lab.datasets._reports == len(waiting))
            with pytest.raises(QueueFull):
                await lab.report("set")
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            assert len(pids) == 1
            await until(lambda: not is_running(pids[0]))
        with pytest.raises(DatasetError):
            await lab.report("set")


@in_real_time
async def test_where_there_is_no_laboratory_no_data_set_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab_gate, "unavailable_reason", lambda _: "switched off")
    async with laboratory(tmp_path) as lab:
        with pytest.raises(BackendUnavailable, match="switched off"):
            await lab.report("set")


@in_real_time
async def test_a_process_whose_record_the_disk_does_not_take_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trains_for(monkeypatch, 60)
    async with laboratory(tmp_path) as lab:
        pids: list[int] = []

        def refuse(record: Record) -> bool:
            pids.append(record.pid)
            return False

        monkeypatch.setattr(lab.runs, "save", refuse)
        record = lab.start_run(SET)
        await until(lambda: record.state.ended)
        assert record.state is State.FAILED
        assert "does not take its record" in record.reason
        assert pids[0]
        assert not is_running(pids[0])
        assert lab.start_run(SET).id != record.id, "the next one is not held up"


@in_real_time
async def test_nothing_begins_before_what_an_earlier_process_left_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trains_for(monkeypatch, 0.01)
    (tmp_path / "datasets" / "set").mkdir(parents=True)
    lab = Lab(Settings.model_validate({"data_dir": tmp_path, "lab": {"nice": 0}}), never)
    with pytest.raises(NotReady):
        lab.start_run(SET)
    await lab.load()
    lab.start_run(SET)
    await lab.stop()
