"""``steadyocr doctor`` as a command, and one tiny tuning with real engines."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from steadyocr.cli.main import app
from steadyocr.cli.sizes import parse_bytes
from steadyocr.errors import InvalidOption
from steadyocr.ops.doctor import measuring
from steadyocr.ops.doctor.measuring import PICTURES, EngineMeasurer, default_candidate, sides
from steadyocr.ops.doctor.tuning import Candidate, Measurement
from steadyocr.runtime import cpu
from steadyocr.settings import load_settings
from support import call_cli, in_real_time, run_cli


def test_a_sound_installation_passes(tmp_path: Path) -> None:
    done = run_cli("doctor", data_dir=tmp_path, server__port="0")
    assert done.returncode == 0, done.stdout
    assert "fail" not in [line.split()[0] for line in done.stdout.splitlines()]


def test_a_planted_fault_is_named_with_what_to_do_and_the_exit_code_tells(tmp_path: Path) -> None:
    done = call_cli("doctor", "--json", data_dir=tmp_path, server__port="0", models__detector="gone")
    report = json.loads(done.stdout)
    assert (done.returncode, report["status"]) == (1, "fail")
    (failed,) = [check for check in report["checks"] if check["status"] == "fail"]
    assert failed["name"] == "models"
    assert failed["advice"]


def test_a_misspelt_setting_is_found_in_words(tmp_path: Path) -> None:
    (tmp_path / "steadyocr.toml").write_text("[queue]\nmax_sise = 3\n")
    done = call_cli("doctor", data_dir=tmp_path)
    assert done.returncode == 1
    assert "did you mean queue.max_size?" in done.stdout
    assert "→" in done.stdout


def test_warnings_count_when_asked_to(tmp_path: Path) -> None:
    wide = {"engines__count": "64", "engines__threads": "8", "server__port": "0"}
    assert call_cli("doctor", data_dir=tmp_path, **wide).returncode == 0
    assert call_cli("doctor", "--strict", data_dir=tmp_path, **wide).returncode == 1


@pytest.mark.parametrize(
    ("text", "size"),
    [("900M", 900 << 20), ("2G", 2 << 30), ("1.5GiB", 3 << 29), ("3g", 3 << 30), ("1T", 1 << 40), ("4096", 4096)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_bytes(text, "--memory") == size


@pytest.mark.parametrize("text", ["", "M", "-1G", "1T5", "many"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(InvalidOption, match="--memory"):
        parse_bytes(text, "--memory")


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


class Box:
    """``steadyocr doctor`` on a made-up machine with two cores, in this process.

    Attributes:
        rates: Pictures a second at 1280 pixels, by candidate; 1 for those that are not here.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rates: dict[Candidate, float] = {}
        self.folder, self.file = folder, folder / "steadyocr.toml"
        monkeypatch.setattr(measuring, "EngineMeasurer", lambda *_: self.measure)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
        monkeypatch.setattr(cpu, "cpu_quota", lambda *_: None)
        monkeypatch.setenv("STEADYOCR_DATA_DIR", str(folder))
        monkeypatch.setenv("STEADYOCR_SERVER__PORT", "0")

    async def measure(self, candidate: Candidate, max_side: int, seconds: float) -> Measurement:
        rate = self.rates.get(candidate, 1.0)
        return Measurement(
            candidate=candidate,
            max_side=max_side,
            pictures=100,
            seconds=100 / rate,
            p50_s=0.1,
            p95_s=0.1 * max_side / 960,
            memory_bytes=1,
        )

    def run(self, *words: str) -> str:
        done = CliRunner().invoke(app, ["doctor", *words])
        return f"{done.exit_code}\n{done.output}"

    def tune(self, *words: str) -> str:
        return self.run("--tune", "--seconds", "10", *words)

    def written(self) -> dict[str, Any]:
        return tomllib.loads(self.file.read_text()) if self.file.exists() else {}

    def cores(self) -> str:
        report = json.loads(self.run("--json").split("\n", 1)[1])
        (found,) = [check["status"] for check in report["checks"] if check["name"] == "cores"]
        return str(found)


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Box:
    return Box(tmp_path, monkeypatch)


def test_settings_that_were_measured_best_are_written(box: Box) -> None:
    box.rates = {Candidate(2, 1): 9.0}
    box.file.write_text("# ours\n[engines]\nretire_items = 7\n")
    assert box.tune("--dry-run").startswith("0\n")
    assert "count" not in box.file.read_text()
    assert box.tune("--p95", "0.1", "--memory", "1G").startswith("0\n")
    assert box.file.read_text().startswith("# ours\n")
    assert box.written() == {"engines": {"retire_items": 7, "count": 2, "threads": 1}, "models": {"max_side": 960}}
    record = json.loads((box.folder / "tuning.json").read_text())
    assert record["met"]
    assert len(record["table"]) >= 4
    assert box.tune("--p95", "0.0001").startswith("1\n")
    assert box.written()["models"] == {"max_side": 960}


@pytest.mark.parametrize("best", [Candidate(2, 2), Candidate(2, 1), Candidate(1, 1)])
def test_what_tuning_writes_the_doctor_and_the_service_accept(box: Box, best: Candidate) -> None:
    box.rates = {best: 9.0}
    box.tune()
    assert box.written() == {"engines": {"count": best.engines, "threads": best.threads}}
    assert box.cores() == "ok"
    config = load_settings()[0].scheduler_config()
    assert (config.engines, config.slot.engine.threads) == (best.engines, best.threads)


def test_defaults_that_win_are_not_pinned(box: Box) -> None:
    said = box.tune()
    assert box.written() == {}
    assert "The settings stay as they are" in said
    box.rates = {Candidate(1, 2): 9.0}
    box.tune()
    assert box.written() == {}


def test_what_an_earlier_tuning_wrote_is_automatic_again_when_the_defaults_win(box: Box) -> None:
    box.rates = {Candidate(2, 1): 9.0}
    box.tune("--p95", "0.1")
    assert box.written() == {"engines": {"count": 2, "threads": 1}, "models": {"max_side": 960}}
    box.rates = {Candidate(1, 2): 9.0}
    box.tune()
    assert box.written() == {"engines": {"count": 0, "threads": 0}, "models": {"max_side": 0}}
    config = load_settings()[0].scheduler_config()
    assert (config.engines, config.slot.engine.threads, box.cores()) == (1, 2, "ok")
