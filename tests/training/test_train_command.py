"""``steadyocr train`` from a folder to a model that serves, with few channels so that it takes seconds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training needs torch, which is not installed")
pytest.importorskip("onnx", reason="model folders need onnx, which is not installed")

from typer.testing import CliRunner

from labelled import make_icdar
from steadyocr.cli.main import app
from steadyocr.errors import ConfigError, InvalidOption, ModelMissing
from steadyocr.export import deliver
from steadyocr.runtime.manifest import load_manifest
from steadyocr.training import model
from steadyocr.training.config import Source, TrainConfig

SMALL = ("--crop-size", "64", "--batch-size", "2", "--crops-per-picture", "1", "--workers", "0", "--threads", "1")


@pytest.fixture(autouse=True)
def small_network(monkeypatch: pytest.MonkeyPatch, isolated_environment: Path) -> None:
    monkeypatch.setattr(model, "_STAGE_CHANNELS", (8, 8, 16, 16))
    monkeypatch.setattr(deliver, "SHAPES", ((1, 32, 64),))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    make_icdar(tmp_path / "data", 2)
    return make_icdar(tmp_path / "data", 1, "test")


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def config_of(folder: Path) -> dict[str, object]:
    values: dict[str, object] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return values


def test_train_import_and_train_on(data: Path, tmp_path: Path, isolated_environment: Path) -> None:
    first = tmp_path / "first"
    output = run("train", data, "-o", first, "--from-scratch", "--inner-channels", 8, "--epochs", 1, *SMALL)
    assert "random weights" in output
    assert "best H-mean" in output
    assert config_of(first)["optimiser"]["lr"] == 0.007  # type: ignore[index]

    run("models", "import", first / "best.pt", "--name", "mine")
    run("models", "use", "mine")
    manifest = load_manifest(isolated_environment / "models" / "mine")
    assert manifest.verified_file().is_file()

    # The model in use is where the next fine-tuning starts, whatever its width.
    second = tmp_path / "second"
    output = run("train", data, "-o", second, "--epochs", 1, *SMALL)
    assert f"starting from {manifest.folder}" in output
    assert config_of(second)["inner_channels"] == 8
    curve = [json.loads(line) for line in (second / "curve.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["step"] for row in curve if "hmean" in row] == [0, 1]

    output = run("train", "-o", second, "--resume")
    assert "finished at step 1" in output


def test_run_folder_is_not_overwritten_and_must_be_there_to_resume(data: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="never overwritten"):
        run("train", data, "-o", tmp_path / "full", "--from-scratch", "--inner-channels", 8, *SMALL)
    with pytest.raises(ConfigError, match="nothing to resume"):
        run("train", "-o", tmp_path / "full", "--resume")


def test_folder_and_start_must_exist(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="name the folder"):
        run("train", "-o", tmp_path / "run")
    for command in (("train", data, "--init"), ("export",)):
        with pytest.raises(ModelMissing, match="no model named nothing-of-this-name; known: "):
            run(*command, "nothing-of-this-name", "-o", tmp_path / "run")
        with pytest.raises(ModelMissing, match=r"nowhere\.pt: no such checkpoint"):
            run(*command, tmp_path / "nowhere.pt", "-o", tmp_path / "run")


def test_synth_refuses_unknown_kinds(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="unknown kind"):
        run("synth", "-o", tmp_path / "out", "--kinds", "moonlight")


def test_what_cannot_be_judged_keeps_the_thresholds_it_started_with(tmp_path: Path, isolated_environment: Path) -> None:
    train_only = make_icdar(tmp_path / "train-only", 2)
    first, second = tmp_path / "first", tmp_path / "second"
    run("train", train_only, "-o", first, "--from-scratch", "--inner-channels", 8, "--epochs", 1, *SMALL)
    thresholds = ("--bin-threshold", 0.2, "--box-threshold", 0.4, "--unclip-ratio", 0.7)
    run("export", first / "best.pt", "-o", tmp_path / "base", *thresholds)
    run("train", train_only, "-o", second, "--init", tmp_path / "base", "--epochs", 1, *SMALL)
    for file in ("best.pt", "last.pt"):
        run("models", "import", second / file, "--name", "mine", "--replace")
        kept = load_manifest(isolated_environment / "models" / "mine").defaults
        assert (kept.bin_threshold, kept.box_threshold, kept.unclip_ratio) == (0.2, 0.4, 0.7)
    # What has a name is exported by it.
    run("export", "mine", "-o", tmp_path / "again")
    assert load_manifest(tmp_path / "again").defaults == kept


def test_resumed_run_takes_the_options_that_may_change_and_refuses_the_others(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run("train", data, "-o", folder, "--from-scratch", "--inner-channels", 8, "--epochs", 1, *SMALL)
    for options, named in (((data,), "FOLDER"), (("--lr", 0.1, "--seed", 1), "--lr, --seed")):
        with pytest.raises(InvalidOption, match=f"leave {named} out"):
            run("train", *options, "-o", folder, "--resume")
        with pytest.raises(InvalidOption, match=f"leave {named} out"):
            run("train", *options, "-o", tmp_path / "new", "--train-config", folder / "config.json")
    assert "finished at step 2" in run("train", "-o", folder, "--resume", "--epochs", 2, "--cache-mb", 7)
    values = config_of(folder)
    assert (values["epochs"], values["cache_bytes"], values["crop_size"]) == (2, 7 << 20, 64)
    changed = run("train", "-o", tmp_path / "new", "--train-config", folder / "config.json", "--max-minutes", 9)
    assert "finished at step 2" in changed
    assert config_of(tmp_path / "new")["max_minutes"] == 9


def test_run_is_resumed_from_any_folder(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    monkeypatch.chdir(tmp_path)
    run("train", data.name, "-o", "run", "--from-scratch", "--inner-channels", 8, "--epochs", 1, *SMALL)
    monkeypatch.chdir(folder)
    assert "finished at step 1" in run("train", "-o", folder, "--resume")


def test_negative_seeds_are_refused(data: Path, tmp_path: Path) -> None:
    for words in (("synth", "-o", tmp_path / "out"), ("train", data, "-o", tmp_path / "run", "--from-scratch")):
        result = CliRunner().invoke(app, [*map(str, words), "--seed", "-1"])
        assert (result.exit_code, "--seed" in result.output) == (2, True), result.output
    with pytest.raises(ConfigError, match="seed"):
        TrainConfig(sources=(Source(path=str(data)),), seed=-1)
