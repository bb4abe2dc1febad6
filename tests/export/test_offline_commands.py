"""The offline commands as a user types them."""

from __future__ import annotations

import json
import os
import shutil
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from labelled import make_folder, make_icdar
from steadyocr.cli.main import app, main
from steadyocr.cli.settings_file import set_value
from steadyocr.errors import CheckpointMismatch, ConfigError, InvalidOption, ModelCorrupt, ModelMissing
from steadyocr.runtime.manifest import BUILTIN_MODELS

pytestmark = pytest.mark.usefixtures("isolated_environment")


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=True)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return f"{result.exit_code}\n{result.output}"


@pytest.mark.parametrize(
    "command",
    ["train", "synth", "evaluate", "export", "models", "models import", "dataset", "dataset check"],
)
def test_help_of_every_command(command: str) -> None:
    assert run(*command.split(), "--help").startswith("0\n")


def test_starting_the_command_line_loads_no_heavy_library() -> None:
    import subprocess
    import sys

    code = (
        "import sys, steadyocr.cli.main; "
        "print([m for m in ('torch', 'onnx', 'onnxruntime', 'openvino', 'cv2', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "model", "--format", "openvino", "--height", "64", "--width", "64"], "fixed size"),
        (["-o", "My Model"], "--name"),
        (["-o", "model", "--name", "Mein Modell", "--format", "onnx"], "model name"),
    ],
)
def test_an_export_that_cannot_be_is_refused_before_any_work(tmp_path: Path, words: list[str], message: str) -> None:
    out = tmp_path / words[1]
    with pytest.raises(InvalidOption, match=message):
        run("export", BUILTIN_MODELS / "resnet18-db", "-o", out, *words[2:])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-m", "pp-ocrv6-small-rec"], "no detector"),
        (["-m", "pp-ocrv6-small-det", "--bin", "5"], "bin_threshold must lie between"),
        (["-m", "pp-ocrv6-small-det", "--unclip", "nan"], "unclip_ratio must lie between"),
        (["-m", "pp-ocrv6-small-det", "--json", "not/there/figures.json"], "no folder"),
    ],
)
def test_an_evaluation_that_cannot_come_out_well_is_refused_before_any_work(
    tmp_path: Path, words: list[str], message: str
) -> None:
    with pytest.raises(InvalidOption, match=message):
        run("evaluate", make_icdar(tmp_path / "set", 1), *words)


@pytest.mark.parametrize(
    ("option", "value"),
    [("--std", "0,1,1"), ("--std", "-1"), ("--std", "nan"), ("--std", "inf"), ("--mean", "nan"), ("--mean", "1,2")],
)
def test_numbers_that_no_picture_can_be_prepared_with_are_refused(tmp_path: Path, option: str, value: str) -> None:
    model = BUILTIN_MODELS / "resnet18-db" / "model.onnx"
    with pytest.raises(InvalidOption, match=option):
        run("evaluate", make_icdar(tmp_path / "set", 1), "--onnx", model, option, value)


def test_a_file_in_the_place_of_a_folder_is_one_line_and_no_trace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "afile").write_text("")
    monkeypatch.setattr("sys.argv", ["steadyocr", "synth", "-o", str(tmp_path / "afile" / "sub")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith(f"steadyocr: {tmp_path}/afile")
    assert error.count("\n") == 1


def test_dataset_check_repairs_and_reports(tmp_path: Path) -> None:
    root = make_icdar(tmp_path / "set", 2)
    (root / "train_gts" / "1.txt").write_text("10,10,10,30,80,30,80,10,t\n1,2\n", encoding="utf-8-sig")
    first = run("dataset", "check", root)
    assert first.startswith("3\n")
    assert "1.txt:1: warning: corners run counter-clockwise [counter_clockwise]" in first
    assert "--fix would repair 2" in first
    second = run("dataset", "check", root, "--fix")
    assert second.startswith("3\n")
    assert "1 errors, 0 warnings" in second
    (root / "train_gts" / "1.txt").write_text("10,10,80,10,80,30,10,30,t\n", encoding="utf-8")
    assert run("dataset", "check", root).startswith("0\n")


def test_dataset_commands_print_names_of_another_encoding(tmp_path: Path) -> None:
    """A Chinese Windows' archive has names that no output can show; the report ended at the first."""
    root = make_folder(tmp_path / "in", 2).rename(tmp_path / os.fsdecode("中文".encode("gbk")))
    (root / "images" / "1.png").write_bytes(b"no picture")
    (root / "labels" / "0.txt").write_text("10,10,10,30,80,30,80,10,t\n", encoding="utf-8")
    said = run("dataset", "check", root, "--fix")
    assert said.startswith("3\n")
    assert "\\udcd6\\udcd0\\udcce\\udcc4/images/1.png: error: not a picture" in said
    assert "0.txt: repaired" in said
    out = tmp_path / os.fsdecode(b"\xff")
    assert "\\udcff: 1 pictures to train on" in run("dataset", "split", root, "-o", out, "--val", 0.5)


def test_dataset_split(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "in", 4)
    assert "3 pictures to train on, 1 to judge on" in run(
        "dataset", "split", root, "-o", tmp_path / "out", "--val", 0.25
    )


def test_evaluate_writes_figures_and_the_worst_pictures(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", 2)
    output = run(
        "evaluate", root, "-m", "pp-ocrv6-small-det", "--max-side", 128, "--bin", "0.2,0.3", "--threads", 1,
        "--json", tmp_path / "figures.json", "--worst", 1, "--worst-dir", tmp_path / "worst",
    )  # fmt: skip
    assert output.startswith("0\n")
    assert "mean of sets" in output
    figures = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert figures["pictures"] == 2
    assert len(figures["detectors"][0]["tried"]) == 2
    assert len(list((tmp_path / "worst" / "pp-ocrv6-small-det").iterdir())) == 1


def test_evaluate_tells_sets_and_detectors_of_one_name_apart(tmp_path: Path) -> None:
    folders = [make_icdar(tmp_path / name / "set", 2, "test") for name in "ab"]
    output = run(
        "evaluate", *folders, *["-m", "pp-ocrv6-small-det"] * 2, "--max-side", 128, "--threads", 1, "--limit", 1,
        "--json", tmp_path / "figures.json", "--worst", 2, "--worst-dir", tmp_path / "worst",
    )  # fmt: skip
    assert output.startswith("0\n")
    figures = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert list(figures["detectors"][0]["sets"]) == ["a/set", "b/set"]
    assert figures["pictures"] == 2
    names = ["pp-ocrv6-small-det", "pp-ocrv6-small-det-2"]
    assert [detector["detector"] for detector in figures["detectors"]] == names
    for name in names:
        drawn = sorted(path.name[3:] for path in (tmp_path / "worst" / name).iterdir())
        assert drawn == ["a-set-0.jpg", "b-set-0.jpg"]


def test_evaluate_refuses_what_makes_no_sense(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="name a detector"):
        run("evaluate", make_folder(tmp_path / "data", 1))
    with pytest.raises(InvalidOption, match="not a list of numbers"):
        run("evaluate", tmp_path, "-m", "pp-ocrv6-small-det", "--bin", "high")


def test_use_writes_the_settings_file_and_nothing_else(isolated_environment: Path) -> None:
    file = isolated_environment / "steadyocr.toml"
    file.parent.mkdir(parents=True)
    file.write_text("# mine\n[queue]\nmax_size = 5  # small\n", encoding="utf-8")
    assert "restart" in run("models", "use", "pp-ocrv6-small-det")
    assert file.read_text(encoding="utf-8") == (
        '# mine\n[queue]\nmax_size = 5  # small\n\n[models]\ndetector = "pp-ocrv6-small-det"\n'
    )
    run("models", "use", "pp-ocrv6-small-rec")
    assert tomllib.loads(file.read_text(encoding="utf-8"))["models"] == {
        "detector": "pp-ocrv6-small-det",
        "recogniser": "pp-ocrv6-small-rec",
    }
    with pytest.raises(ModelMissing):
        run("models", "use", "nothing")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", '[models]\ndetector = "x"\n'),
        ('models.detector = "old"\n', 'models.detector = "x"\n'),
        ('[models] # which\ndetector = "old"\n[queue]\n', '[models] # which\ndetector = "x"\n[queue]\n'),
        (
            '[a]\ndetector = "theirs"\n[models]\n[queue]\n',
            '[a]\ndetector = "theirs"\n[models]\ndetector = "x"\n[queue]\n',
        ),
    ],
)
def test_one_value_is_changed(tmp_path: Path, before: str, after: str) -> None:
    path = tmp_path / "s.toml"
    path.write_text(before, encoding="utf-8")
    set_value(path, "models", "detector", "x")
    assert path.read_text(encoding="utf-8") == after


@pytest.mark.parametrize("text", ['models = { detector = "old" }\n', "not toml", '[models]\ndetector = """\nold"""\n'])
def test_what_cannot_be_changed_safely_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "s.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError):
        set_value(path, "models", "detector", "x")
    assert path.read_text(encoding="utf-8") == text


def test_models_are_listed_and_verified(isolated_environment: Path) -> None:
    assert "pp-ocrv6-small-det" in run("models", "list")
    assert run("models", "verify").startswith("0\n")
    folder = isolated_environment / "models" / "resnet18-db"
    shutil.copytree(BUILTIN_MODELS / "resnet18-db", folder)
    remainder = folder / "finetune.npz"
    data = bytearray(remainder.read_bytes())
    data[len(data) // 2] ^= 1
    remainder.write_bytes(data)
    verified = run("models", "verify")
    assert verified.startswith("5\n")
    assert "resnet18-db: model resnet18-db: finetune.npz has sha256" in verified
    broken = isolated_environment / "models" / "mine"
    broken.mkdir(parents=True)
    (broken / "manifest.toml").write_text("name = 3", encoding="utf-8")
    assert "mine" in run("models", "list")
    output = run("models", "verify")
    assert output.startswith("5\n")
    assert "model_corrupt" in output


def test_import_use_and_serve_settings(
    isolated_environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch", reason="import needs torch, which is not installed")
    pytest.importorskip("onnx")
    from steadyocr.export import deliver
    from steadyocr.settings import load_settings
    from steadyocr.training import model
    from steadyocr.training.model import DBNet

    monkeypatch.setattr(model, "_STAGE_CHANNELS", (8, 8, 16, 16))
    monkeypatch.setattr(deliver, "SHAPES", ((1, 32, 64),))
    flat = {f"model.module.{name}": value for name, value in DBNet(16).state_dict().items()}
    torch.save(flat, tmp_path / "final.pt")
    output = run("models", "import", tmp_path / "final.pt", "--name", "theirs", "--licence", "Apache-2.0")
    assert "model.module. checkpoint" in output
    manifest = tomllib.loads((isolated_environment / "models" / "theirs" / "manifest.toml").read_text(encoding="utf-8"))
    assert manifest["input"]["channel_order"] == "BGR"
    assert manifest["input"]["mean"] == [123.68, 116.78, 103.94]
    assert manifest["input"]["std"] == [255.0, 255.0, 255.0]
    assert manifest["defaults"]["bin_threshold"] == 0.2
    run("models", "use", "theirs")
    assert load_settings()[0].models.detector == "theirs"
    assert run("models", "verify").startswith("0\n")

    (isolated_environment / "models" / "theirs" / "model.onnx").write_bytes(b"damaged")
    assert run("models", "verify").startswith("5\n")
    with pytest.raises(ModelCorrupt):
        run("models", "use", "theirs")


def test_import_refuses_bad_names_and_networks(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="import needs torch, which is not installed")
    with pytest.raises(InvalidOption, match="model name"):
        run("models", "import", tmp_path / "x.pt", "--name", "../x")
    torch.save({"backbone.layer2.0.conv2_offset.weight": torch.zeros(1)}, tmp_path / "x.pt")
    with pytest.raises(CheckpointMismatch, match="deformable"):
        run("models", "import", tmp_path / "x.pt", "--name", "x")
