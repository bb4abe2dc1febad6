"""A run that is stopped and taken up again must be the run that was never stopped."""

from __future__ import annotations

import contextlib
import json
import resource
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which is not installed")

from labelled import make_folder  # noqa: E402
from steadyocr.detection.postprocess import PostprocessParams  # noqa: E402
from steadyocr.errors import ConfigError, ConflictError, InsufficientStorage  # noqa: E402
from steadyocr.training import checkpoint, loop, model  # noqa: E402
from steadyocr.training.config import OptimiserConfig, Source, TrainConfig, ValidationConfig  # noqa: E402
from steadyocr.training.dialects import read_weights  # noqa: E402
from steadyocr.training.loop import train  # noqa: E402
from steadyocr.training.rundir import Curve, open_run_folder, write_config  # noqa: E402
from steadyocr.training.validation import Verdict  # noqa: E402


@pytest.fixture(autouse=True)
def thin_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same network with few channels: what is tested here does not depend on its width."""
    monkeypatch.setattr(model, "_STAGE_CHANNELS", (8, 8, 16, 16))


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    folder = str(make_folder(tmp_path / "data", 2))
    return TrainConfig(
        sources=(Source(path=folder),),
        inner_channels=8,
        crop_size=64,
        batch_size=2,
        epochs=4,
        num_workers=0,
        log_every_steps=1,
        optimiser=OptimiserConfig(warmup_steps=1),
        validation=ValidationConfig(sources=(Source(path=folder),), every_steps=2, max_side=96),
    )


class StopAfter:
    """Says stop when asked for the ``count``-th time."""

    def __init__(self, count: int) -> None:
        self.left = count

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def test_two_epochs_and_two_more_are_four(config: TrainConfig, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(config, whole).finished

    first = train(config, parts, should_stop=StopAfter(2))
    assert (first.step, first.finished) == (2, False)
    second = train(config, parts, resume=True)
    assert (second.step, second.finished) == (4, True)

    one, two = checkpoint.load(whole / "last.pt"), checkpoint.load(parts / "last.pt")
    for part in ("model", "ema"):
        assert all(torch.equal(one[part][name], two[part][name]) for name in one[part])
    moments_one, moments_two = one["optimiser"]["state"], two["optimiser"]["state"]
    assert all(torch.equal(moments_one[i][k], moments_two[i][k]) for i in moments_one for k in moments_one[i])
    assert one["best_hmean"] == two["best_hmean"]
    assert curve(whole) == curve(parts)


def curve(folder: Path) -> list[dict[str, object]]:
    rows = [json.loads(line) for line in (folder / "curve.jsonl").read_text(encoding="utf-8").splitlines()]
    clocked = {"elapsed_s", "eta_s", "crops_per_s"}
    return [{key: value for key, value in row.items() if key not in clocked} for row in rows]


@pytest.mark.parametrize("validate_every", [0, 3])
def test_every_step_is_in_some_point_of_the_loss(config: TrainConfig, tmp_path: Path, validate_every: int) -> None:
    """A run shorter than a window, and what is left of a window at the end of an epoch or of the run."""
    validation = replace(config.validation, every_steps=validate_every)
    train(replace(config, log_every_steps=5, epochs=2, validation=validation), tmp_path / "run")
    steps = [row["step"] for row in curve(tmp_path / "run") if "total" in row]
    assert steps == ([1, 2] if validate_every == 0 else [2])


def test_run_folder_is_never_overwritten(config: TrainConfig, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="never overwritten"):
        train(config, folder)
    with pytest.raises(ConfigError, match="nothing to resume"):
        train(config, folder, resume=True)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_folder_of_a_run_killed_before_its_first_checkpoint_counts_as_empty(tmp_path: Path) -> None:
    for name in ("config.json", "curve.jsonl", ".last.pt.123.tmp"):
        (tmp_path / name).write_text("x", encoding="utf-8")
    with open_run_folder(tmp_path, resume=False):
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    with open_run_folder(tmp_path, resume=False):
        pass  # a lock that nobody holds is in nobody's way


def test_resume_clears_half_written_files_away(tmp_path: Path) -> None:
    for name in ("config.json", "last.pt", ".last.pt.123.tmp"):
        (tmp_path / name).write_text("x", encoding="utf-8")
    with open_run_folder(tmp_path, resume=True):
        assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", "config.json", "last.pt"]


def test_second_run_is_kept_out_of_a_folder_and_deletes_nothing(config: TrainConfig, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    asked = []

    def intrude() -> bool:
        (folder / ".best.pt.1.tmp").write_bytes(b"being written")
        with pytest.raises(ConflictError, match="another process"):
            train(config, folder, resume=True)
        (folder / "last.pt").rename(folder / ".last.pt.2.tmp")  # a run that has saved nothing yet
        with pytest.raises(ConflictError, match="another process"):
            train(config, folder)
        asked.append((folder / ".best.pt.1.tmp").is_file())
        return True

    train(config, folder, should_stop=intrude)
    assert asked == [True]


def test_run_killed_while_its_start_is_judged_can_be_resumed(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(replace(config, epochs=1), tmp_path / "first")
    tuned = replace(config, epochs=1, init_weights=str(tmp_path / "first" / "best.pt"))
    save = checkpoint.save_atomically

    def killed_after_best(values: dict[str, object], path: Path) -> None:
        save(values, path)
        if path.name == "best.pt":
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save_atomically", killed_after_best)
    with pytest.raises(KeyboardInterrupt):
        train(tuned, tmp_path / "second")
    monkeypatch.undo()
    monkeypatch.setattr(model, "_STAGE_CHANNELS", (8, 8, 16, 16))
    assert train(tuned, tmp_path / "second", resume=True).finished
    train(tuned, tmp_path / "third", should_stop=StopAfter(0))
    assert train(tuned, tmp_path / "third", resume=True).finished
    for folder in ("second", "third"):
        assert [row["step"] for row in curve(tmp_path / folder) if "hmean" in row] == [0, 1]


@pytest.fixture
def killed_early(config: TrainConfig, tmp_path: Path) -> Path:
    """A run folder as older versions left it: what was judged first is there, what could be resumed is not."""
    folder = tmp_path / "killed"
    train(replace(config, epochs=1), tmp_path / "first")
    tuned = replace(config, init_weights=str(tmp_path / "first" / "best.pt"))
    train(tuned, folder, should_stop=StopAfter(0))
    (folder / "last.pt").unlink()
    return folder


def test_folder_with_nothing_but_a_judged_start_counts_as_empty(config: TrainConfig, killed_early: Path) -> None:
    assert checkpoint.load(killed_early / "best.pt")["step"] == 0
    with pytest.raises(ConfigError, match=r"nothing to resume.*start without resume"):
        train(config, killed_early, resume=True)
    within = replace(config, init_weights=str(killed_early / "best.pt"))
    with pytest.raises(ConfigError, match="name another folder"):
        train(within, killed_early)  # it would be deleted before it is read
    assert train(replace(config, epochs=1), killed_early).finished


@pytest.mark.parametrize("trained", ["weights", "curve", "unknown"])
def test_best_weights_without_a_checkpoint_are_kept_and_their_use_is_told(
    config: TrainConfig, killed_early: Path, trained: str
) -> None:
    best = killed_early / "best.pt"
    if trained == "weights":
        checkpoint.save_atomically({**checkpoint.load(best), "step": 3}, best)
    elif trained == "curve":
        with (killed_early / "curve.jsonl").open("a", encoding="utf-8") as file:
            file.write('{"step": 5, "total": 1.0}\n')
    else:
        best.write_bytes(b"cut off")
    before = {path: path.read_bytes() for path in killed_early.iterdir()}
    for resume in (False, True):
        with pytest.raises(ConfigError, match=r"last\.pt.*--init .*best\.pt.*another folder") as caught:
            train(config, killed_early, resume=resume)
        assert "start without resume" not in caught.value.message
    assert {path: path.read_bytes() for path in killed_early.iterdir()} == before


def test_start_weights_are_the_first_to_be_judged(config: TrainConfig, tmp_path: Path) -> None:
    train(replace(config, epochs=1), tmp_path / "first")
    tuned = replace(config, epochs=1, init_weights=str(tmp_path / "first" / "best.pt"))
    train(tuned, tmp_path / "second", should_stop=StopAfter(0))
    assert curve(tmp_path / "second")[0]["step"] == 0
    assert "hmean" in curve(tmp_path / "second")[0]
    with pytest.raises(ConfigError, match="inner_channels"):
        train(replace(tuned, inner_channels=4), tmp_path / "third")


def test_time_bound_run_ends_with_rate_near_zero(config: TrainConfig, tmp_path: Path) -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 3.0
        return now[0]

    bounded = replace(config, epochs=1000, max_minutes=1.5)
    outcome = train(bounded, tmp_path / "run", clock=clock)
    rows = curve(tmp_path / "run")
    assert outcome.finished
    assert outcome.step < 100
    rates = [float(str(row["lr"])) for row in rows if "total" in row]
    assert rates[-1] < 0.25 * max(rates)


def test_last_checkpoint_has_the_thresholds_of_the_best(config: TrainConfig, tmp_path: Path) -> None:
    validation = replace(config.validation, bin_thresholds=(0.1, 0.15), unclip_ratios=(0.6, 0.9))
    config = replace(config, validation=validation)
    train(config, tmp_path / "run", should_stop=StopAfter(3))
    train(config, tmp_path / "run", resume=True, should_stop=StopAfter(0))
    best, last = (read_weights(tmp_path / "run" / name) for name in ("best.pt", "last.pt"))
    assert best.bin_threshold in validation.bin_thresholds
    assert (last.bin_threshold, last.unclip_ratio) == (best.bin_threshold, best.unclip_ratio)


def test_checkpoint_of_an_older_version_is_read(config: TrainConfig, tmp_path: Path) -> None:
    train(config, tmp_path / "run", should_stop=StopAfter(1))
    values = checkpoint.load(tmp_path / "run" / "last.pt")
    del values["validation"]
    checkpoint.save_atomically(values, tmp_path / "run" / "last.pt")
    assert read_weights(tmp_path / "run" / "last.pt").bin_threshold == 0.3
    assert train(config, tmp_path / "run", resume=True).finished


def test_resumed_run_has_the_weight_decay_of_its_configuration(config: TrainConfig, tmp_path: Path) -> None:
    train(config, tmp_path / "run", should_stop=StopAfter(1))
    stronger = replace(config, optimiser=replace(config.optimiser, weight_decay=0.5))
    train(stronger, tmp_path / "run", resume=True, should_stop=StopAfter(1))
    groups = checkpoint.load(tmp_path / "run" / "last.pt")["optimiser"]["param_groups"]
    assert [group["weight_decay"] for group in groups] == [0.5, 0.0]


def test_another_kind_of_optimiser_cannot_go_on(config: TrainConfig, tmp_path: Path) -> None:
    train(config, tmp_path / "run", should_stop=StopAfter(1))
    before = (tmp_path / "run" / "last.pt").read_bytes()
    other = replace(config, optimiser=replace(config.optimiser, kind="sgd"))
    with pytest.raises(ConfigError, match=r"optimiser\.kind.*adamw"):
        train(other, tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "last.pt").read_bytes() == before


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a disk that fills up in the middle of a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_checkpoint_that_finds_no_room_is_told_by_name_and_the_one_before_stays(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save_atomically({"step": 1}, path)
    for tensors in ([torch.zeros(100_000)], [torch.zeros(10)] * 2000):
        with files_of_at_most(50_000), pytest.raises(InsufficientStorage, match=r"last\.pt: .*full"):
            checkpoint.save_atomically({str(number): tensor.clone() for number, tensor in enumerate(tensors)}, path)
    assert checkpoint.load(path) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_checkpoint_that_cannot_be_written_is_told_by_name(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file") as caught:
        checkpoint.save_atomically({}, tmp_path / "gone" / "last.pt")
    assert caught.value.filename == str(tmp_path / "gone" / "last.pt")


def test_a_curve_that_finds_no_room_is_told_by_name(tmp_path: Path) -> None:
    curve_file = Curve(tmp_path, 0)
    with files_of_at_most(50), pytest.raises(InsufficientStorage, match=r"curve\.jsonl: .*full"):
        curve_file.append({"step": 1, "why": "x" * 100})
    with files_of_at_most(50), pytest.raises(InsufficientStorage, match=r"config\.json: .*full"):
        write_config(tmp_path, {"why": "x" * 100})


def test_a_run_goes_on_without_room_for_a_checkpoint_and_ends_where_the_last_has_none(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    save = checkpoint.save_atomically
    tried: list[int] = []
    full: set[int] = {1}

    def short_of_room(values: dict[str, object], path: Path) -> None:
        if path.name == "last.pt":
            tried.append(int(str(values["step"])))
            if tried[-1] in full:
                raise InsufficientStorage(f"{path.name}: full")
        save(values, path)

    monkeypatch.setattr(checkpoint, "save_atomically", short_of_room)
    often = replace(config, epochs=2, checkpoint_minutes=0.0, validation=ValidationConfig())
    assert train(often, tmp_path / "run").finished
    assert tried == [0, 1, 2, 2]
    assert "last.pt: full" in caplog.text
    full.add(2)
    with pytest.raises(InsufficientStorage):
        train(often, tmp_path / "other")


def test_worse_weights_do_not_replace_the_best_that_a_kill_kept_from_the_checkpoint(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, save = tmp_path / "run", checkpoint.save_atomically
    hmeans = [0.8, 0.5, 0.6]

    def judge(*_: object, **__: object) -> Verdict:
        return Verdict(hmeans.pop(0), {}, PostprocessParams())

    def killed_after_best(values: dict[str, object], path: Path) -> None:
        save(values, path)
        if path.name == "best.pt":
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "validate", judge)
    with monkeypatch.context() as dying:
        dying.setattr(checkpoint, "save_atomically", killed_after_best)
        with pytest.raises(KeyboardInterrupt):
            train(config, folder)
    assert checkpoint.load(folder / "last.pt")["step"] == 0
    before = (folder / "best.pt").read_bytes()
    assert train(config, folder, resume=True).best_hmean == 0.8
    assert hmeans == []
    assert (folder / "best.pt").read_bytes() == before
    assert checkpoint.load(folder / "last.pt")["validation"]["hmean"] == 0.8
