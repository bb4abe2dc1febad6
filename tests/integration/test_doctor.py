"""``steadyocr doctor`` as a command, and one tiny tuning with real engines."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from steadyocr.cli.doctor import parse_bytes
from steadyocr.errors import InvalidOption
from steadyocr.ops.doctor.measuring import PICTURES, EngineMeasurer, default_candidate, sides
from steadyocr.ops.doctor.tuning import Candidate
from steadyocr.settings import load_settings
from support import in_real_time, run_cli


def test_a_sound_installation_passes(tmp_path: Path) -> None:
    done = run_cli("doctor", data_dir=tmp_path, server__port="0")
    assert done.returncode == 0, done.stdout
    assert "fail" not in [line.split()[0] for line in done.stdout.splitlines()]


def test_a_planted_fault_is_named_with_what_to_do_and_the_exit_code_tells(tmp_path: Path) -> None:
    done = run_cli("doctor", "--json", data_dir=tmp_path, server__port="0", models__detector="gone")
    report = json.loads(done.stdout)
    assert (done.returncode, report["status"]) == (1, "fail")
    (failed,) = [check for check in report["checks"] if check["status"] == "fail"]
    assert failed["name"] == "models"
    assert failed["advice"]


def test_a_misspelt_setting_is_found_in_words(tmp_path: Path) -> None:
    (tmp_path / "steadyocr.toml").write_text("[queue]\nmax_sise = 3\n")
    done = run_cli("doctor", data_dir=tmp_path)
    assert done.returncode == 1
    assert "did you mean queue.max_size?" in done.stdout
    assert "→" in done.stdout


def test_warnings_count_when_asked_to(tmp_path: Path) -> None:
    wide = {"engines__count": "64", "engines__threads": "8", "server__port": "0"}
    assert run_cli("doctor", data_dir=tmp_path, **wide).returncode == 0
    assert run_cli("doctor", "--strict", data_dir=tmp_path, **wide).returncode == 1


@pytest.mark.parametrize(("text", "size"), [("900M", 900 << 20), ("2G", 2 << 30), ("1.5GiB", 3 << 29), ("4096", 4096)])
def test_sizes(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1G", "1T5", "many"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(InvalidOption):
        parse_bytes(text)


def test_the_pictures_to_measure_with_are_shipped() -> None:
    assert len(list(PICTURES.glob("*.png"))) == 3


@in_real_time
async def test_real_engines_are_measured(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "small.png").write_bytes((PICTURES / "receipt.png").read_bytes())
    settings, _ = load_settings({"logging": {"level": "error"}}, environ={"STEADYOCR_DATA_DIR": str(tmp_path)})
    assert sides(settings)[0] == 1280
    assert default_candidate(settings).engines >= 1
    measured = await EngineMeasurer(settings, pictures)(Candidate(1, 2), 320, 0.1)
    assert (measured.candidate, measured.max_side) == (Candidate(1, 2), 320)
    assert measured.pictures >= 1
    assert measured.memory_bytes > 100 << 20
    assert 0 < measured.p50_s <= measured.p95_s


def test_settings_that_were_measured_best_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from steadyocr.cli.main import app
    from steadyocr.ops.doctor import measuring
    from steadyocr.ops.doctor.tuning import Measurement

    class Fake:
        def __init__(self, *_: object) -> None: ...

        async def __call__(self, candidate: Candidate, max_side: int, seconds: float) -> Measurement:
            rate = 9.0 if candidate == Candidate(2, 1) else 1.0
            return Measurement(
                candidate=candidate,
                max_side=max_side,
                pictures=100,
                seconds=100 / rate,
                p50_s=0.1,
                p95_s=0.1 * max_side / 960,
                memory_bytes=1,
            )

    monkeypatch.setattr(measuring, "EngineMeasurer", Fake)
    monkeypatch.setattr(measuring, "default_candidate", lambda _: Candidate(1, 2))
    monkeypatch.setattr("steadyocr.runtime.cpu.available_threads", lambda: 2)
    monkeypatch.setenv("STEADYOCR_DATA_DIR", str(tmp_path))
    (tmp_path / "steadyocr.toml").write_text("# ours\n[engines]\nretire_items = 7\n")
    dry = CliRunner().invoke(app, ["doctor", "--tune", "--seconds", "10", "--dry-run"])
    assert dry.exit_code == 0, dry.output
    assert "count" not in (tmp_path / "steadyocr.toml").read_text()
    done = CliRunner().invoke(app, ["doctor", "--tune", "--seconds", "10", "--p95", "0.1", "--memory", "1G"])
    assert done.exit_code == 0, done.output
    text = (tmp_path / "steadyocr.toml").read_text()
    assert text.startswith("# ours\n")
    assert tomllib.loads(text) == {
        "engines": {"retire_items": 7, "count": 2, "threads": 1},
        "models": {"max_side": 960},
    }
    record = json.loads((tmp_path / "tuning.json").read_text())
    assert record["met"]
    assert len(record["table"]) >= 4
    impossible = CliRunner().invoke(app, ["doctor", "--tune", "--seconds", "10", "--p95", "0.0001"])
    assert impossible.exit_code == 1
    assert tomllib.loads((tmp_path / "steadyocr.toml").read_text())["models"] == {"max_side": 960}
