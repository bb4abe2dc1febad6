"""Each check of what is installed and configured, well and with a planted fault."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from steadyocr.errors import ConfigError, SteadyOCRError
from steadyocr.jobs.database import open_database
from steadyocr.ops.doctor import examine, installation
from steadyocr.ops.doctor.findings import Finding, Status
from steadyocr.ops.doctor.spelling import environment_name, known_settings, misspelt_variables, nearest
from steadyocr.runtime import loader
from steadyocr.runtime.nvml import DeviceMemory
from steadyocr.settings import Settings, load_settings

GIB = 1 << 30


def settings_with(tmp_path: Path, **sections: dict[str, Any]) -> Settings:
    return load_settings(sections, environ={"STEADYOCR_DATA_DIR": str(tmp_path)})[0]


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        ("[queue]\nmax_size = 3\n", Status.OK, ""),
        ("\ufeff[queue]\nmax_size = 3\n", Status.OK, ""),
        ("[queue]\nmaxsize = 3\n", Status.FAIL, "queue.maxsize (did you mean queue.max_size?)"),
        ("[engine]\ncount = 3\n", Status.FAIL, "engine.count (did you mean engines.count?)"),
        ("[zebra]\nstripes = 3\n", Status.FAIL, "zebra.stripes"),
        ("not toml", Status.FAIL, "not valid TOML"),
    ],
)
def test_names_in_the_settings_file(tmp_path: Path, text: str, status: Status, said: str) -> None:
    path = tmp_path / "steadyocr.toml"
    path.write_text(text)
    finding = installation.settings_file(path)
    assert (finding.status, said in finding.message) == (status, True), finding


def test_a_settings_file_that_is_not_there(tmp_path: Path) -> None:
    assert installation.settings_file(tmp_path / "gone.toml").status is Status.FAIL
    assert installation.settings_file(None).status is Status.OK


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("STEADYOCR_QUEUE_MAX_SIZE", "STEADYOCR_QUEUE__MAX_SIZE"),
        ("STEADYOCR_SERVER__PROT", "STEADYOCR_SERVER__PORT"),
        ("STEADY_OCR_SERVER__PORT", "STEADYOCR_SERVER__PORT"),
        ("steadyocr_data_dir", "STEADYOCR_DATA_DIR"),
        ("STEADYOCR_CONFG", "STEADYOCR_CONFIG"),
        ("STEADYOCR_AUTH__API_KEY", "STEADYOCR_AUTH__API_KEYS"),
    ],
)
def test_a_misspelt_variable_is_found_with_what_was_meant(name: str, meant: str) -> None:
    assert list(misspelt_variables({name: "1", "PATH": "/bin"})) == [(name, meant)]
    finding = installation.environment({name: "1"})
    assert (finding.status, f"did you mean {meant}?" in finding.message) == (Status.FAIL, True)


def test_the_variables_of_commands_are_no_misspelt_settings() -> None:
    assert list(misspelt_variables({"STEADYOCR_CONFIG": "x", "STEADYOCR_API_KEY": "x"})) == []


@pytest.mark.parametrize("name", ["STEADYOCR_server__port", "STEADYOCR_Server__Port"])
def test_a_setting_in_small_letters_is_known_since_the_service_obeys_it(name: str) -> None:
    assert load_settings(environ={name: "7867"})[0].server.port == 7867
    assert list(misspelt_variables({name: "7867"})) == []


@pytest.mark.parametrize("name", ["STEADYOCR_config", "STEADYOCR_api_key"])
def test_a_name_that_is_no_setting_is_refused_in_small_letters_as_by_the_service(name: str) -> None:
    with pytest.raises(ConfigError):
        load_settings(environ={name: "x"})
    assert list(misspelt_variables({name: "x"})) == [(name, name.upper())]


def test_every_right_name_is_accepted() -> None:
    names = [environment_name(setting) for setting in known_settings()]
    assert len(names) > 50
    assert installation.environment(dict.fromkeys([*names, "STEADYOCR_CONFIG"], "1")).status is Status.OK
    assert nearest("nothing like any of them", names) == ""


def test_values_out_of_range_and_an_open_door(tmp_path: Path) -> None:
    def wrong() -> Settings:
        raise ConfigError("queue.max_size: too small")

    finding, none = installation.values(wrong)
    assert (finding.status, none) == (Status.FAIL, None)
    finding, _ = installation.values(lambda: settings_with(tmp_path, server={"host": "0.0.0.0"}))
    assert (finding.status, "API key" in finding.message) == (Status.FAIL, True)
    finding, right = installation.values(lambda: settings_with(tmp_path))
    assert (finding.status, right is not None) == (Status.OK, True)


def test_models_that_serve(tmp_path: Path) -> None:
    assert installation.models(settings_with(tmp_path)).status is Status.OK
    missing = installation.models(settings_with(tmp_path, models={"detector": "no-such-model"}))
    assert (missing.status, "no-such-model" in missing.message) == (Status.FAIL, True)


def test_a_model_file_that_was_changed(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "mine"
    folder.mkdir(parents=True)
    (folder / "manifest.toml").write_text(
        'name = "mine"\ntask = "detection"\nlicence = "x"\nsource = "x"\n'
        f'[file]\npath = "model.onnx"\nsha256 = "{"0" * 64}"\n'
        '[input]\nchannel_order = "RGB"\nmean = [0.0, 0.0, 0.0]\nstd = [1.0, 1.0, 1.0]\n'
    )
    (folder / "model.onnx").write_bytes(b"changed")
    finding = installation.models(settings_with(tmp_path, models={"detector": "mine"}))
    assert (finding.status, "damaged or was replaced" in finding.message) == (Status.FAIL, True)


@pytest.mark.parametrize(
    ("device", "card", "status"),
    [
        ("cpu", None, Status.OK),
        ("cuda", None, Status.FAIL),
        ("cuda:1", DeviceMemory(used=GIB, total=8 * GIB), Status.OK),
    ],
)
def test_the_accelerator(tmp_path: Path, device: str, card: DeviceMemory | None, status: Status) -> None:
    settings = settings_with(tmp_path, engines={"device": device})
    assert installation.device(settings, lambda: card, lambda *_: "").status is status


@pytest.mark.parametrize(
    ("engines", "missing", "status"),
    [
        ({"device": "cuda"}, "torch", Status.FAIL),
        ({"device": "cuda", "backend": "torch"}, "onnx", Status.FAIL),
        ({"device": "cuda", "backend": "openvino"}, "", Status.FAIL),
        ({"device": "cpu", "backend": "onnxruntime"}, "onnxruntime", Status.FAIL),
        ({"device": "cpu", "backend": "onnxruntime"}, "", Status.OK),
    ],
)
def test_a_library_that_the_engines_would_not_find(
    tmp_path: Path, engines: dict[str, Any], missing: str, status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "_installed", lambda package: package != missing)

    def problem(backend: str, device: str) -> str:
        try:
            loader.refuse_blind_library(cast("loader.Backend", backend), device)
        except SteadyOCRError as error:
            return error.message
        return ""

    settings = settings_with(tmp_path, engines=engines)
    finding = installation.device(settings, lambda: DeviceMemory(used=GIB, total=8 * GIB), problem)
    assert finding.status is status, finding


def test_the_library_is_asked_in_a_process_of_its_own(tmp_path: Path) -> None:
    assert installation.device(settings_with(tmp_path, engines={"backend": "onnxruntime"})).status is Status.OK
    settings = settings_with(tmp_path, engines={"device": "cuda", "backend": "openvino"})
    finding = installation.device(settings, lambda: DeviceMemory(used=GIB, total=8 * GIB))
    assert (finding.status, "runs on the CPU only" in finding.message) == (Status.FAIL, True), finding


def unit(**facts: str) -> str:
    usual = {"LoadState": "loaded", "ActiveState": "active", "UnitFileState": "enabled", "NRestarts": "0"}
    return "\n".join(f"{key}={value}" for key, value in {**usual, **facts}.items())


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        (unit(), Status.OK, "active"),
        (unit(LoadState="not-found"), Status.WARN, "not installed"),
        (unit(ActiveState="failed", Result="start-limit-hit"), Status.FAIL, "start-limit-hit"),
        (unit(UnitFileState="disabled"), Status.WARN, "not enabled"),
        (
            unit(ActiveState="activating", SubState="auto-restart", NRestarts="500", Result="exit-code"),
            Status.FAIL,
            "500 restarts, exit-code",
        ),
        (None, Status.WARN, "does not answer"),
    ],
)
def test_the_unit(answer: str | None, status: Status, said: str) -> None:
    finding = installation.systemd(lambda: answer, running=True)
    assert (finding.status, said in finding.message) == (status, True), finding


def test_a_machine_without_systemd() -> None:
    assert installation.systemd(lambda: None, running=False).status is Status.OK


def database_at(tmp_path: Path) -> Path:
    path = tmp_path / "jobs" / "jobs.db"
    path.parent.mkdir(parents=True)
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE job (id TEXT)")
    connection.executemany("INSERT INTO job VALUES (?)", [(str(number) * 100,) for number in range(1000)])
    connection.commit()
    connection.close()
    return path


def test_the_job_database_is_looked_at_and_not_touched(tmp_path: Path) -> None:
    assert "will be made" in installation.job_database(settings_with(tmp_path)).message
    assert list(tmp_path.iterdir()) == []
    path = database_at(tmp_path)
    before = path.read_bytes()
    assert installation.job_database(settings_with(tmp_path)).status is Status.OK
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["a#b", "a?b", "a%", "a%41", "图片"])
def test_the_job_database_of_a_folder_with_signs_of_a_url_in_its_name(tmp_path: Path, name: str) -> None:
    path = database_at(tmp_path / name)
    path.write_bytes(b"this is not a database" * 100)
    assert installation.job_database(settings_with(tmp_path / name)).status is Status.FAIL
    path.unlink()
    path.parent.rmdir()
    database_at(tmp_path / name)
    assert installation.job_database(settings_with(tmp_path / name)).status is Status.OK
    shutil.rmtree(tmp_path / name)
    open_database(settings_with(tmp_path / name).jobs.database_url(tmp_path / name)).close()
    assert path.is_file()
    assert [one.name for one in tmp_path.iterdir()] == [name], "another file was opened, and so made"


def test_a_job_database_of_a_newer_version_is_no_use_to_this_one(tmp_path: Path) -> None:
    settings = settings_with(tmp_path)
    open_database(settings.jobs.database_url(tmp_path)).close()
    assert installation.job_database(settings).status is Status.OK
    connection = sqlite3.connect(tmp_path / "jobs" / "jobs.db")
    connection.execute("INSERT INTO schema_version (version, name) VALUES (1000, 'later')")
    connection.commit()
    connection.close()
    finding = installation.job_database(settings)
    assert (finding.status, "newer version" in finding.message) == (Status.FAIL, True), finding


@pytest.mark.parametrize("shut", ["jobs", "jobs/jobs.db"])
def test_a_job_database_that_can_be_read_and_not_written(
    tmp_path: Path, shut: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database_at(tmp_path)
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path / shut and may(path, mode))
    finding = installation.job_database(settings_with(tmp_path))
    assert (finding.status, "cannot be written" in finding.message) == (Status.FAIL, True), finding


@pytest.mark.parametrize(
    ("lines", "mode", "status", "said"),
    [
        (None, 0, Status.OK, "none"),
        ("ops = json://hook/s3cr3t\n", 0o600, Status.OK, "ops"),
        ("ops = json://hook/s3cr3t\n", 0o644, Status.FAIL, "chmod 600"),
        ("nonsense s3cr3t\n", 0o600, Status.FAIL, "no alert channel"),
    ],
)
def test_alert_channels(tmp_path: Path, lines: str | None, mode: int, status: Status, said: str) -> None:
    path = tmp_path / "channels"
    if lines is not None:
        path.write_text(lines)
        path.chmod(mode)
    settings = settings_with(tmp_path, alerts={} if lines is None else {"channels_file": path})
    findings = {one.name: one for one in examine.examine(lambda: settings, None, {})}
    finding = findings["alerts"]
    assert (finding.status, said in finding.message) == (status, True), finding
    assert "s3cr3t" not in repr(finding)


@pytest.mark.parametrize("damage", [b"this is not a database" * 100, None])
def test_a_damaged_job_database(tmp_path: Path, damage: bytes | None) -> None:
    path = database_at(tmp_path)
    data = bytearray(path.read_bytes())
    data[8192:12288] = b"\xff" * 4096
    path.write_bytes(damage or bytes(data))
    assert installation.job_database(settings_with(tmp_path)).status is Status.FAIL


def test_a_database_server_that_is_not_there(tmp_path: Path) -> None:
    settings = settings_with(tmp_path, jobs={"url": "postgresql://someone:hidden-word@127.0.0.1:1/jobs"})
    finding = installation.job_database(settings)
    assert (finding.status, "hidden-word" in repr(finding)) == (Status.FAIL, False)
    assert installation.job_database(settings_with(tmp_path, jobs={"url": "no url"})).status is Status.FAIL


def test_a_check_that_breaks_does_not_hide_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(_: Settings) -> Finding:
        raise RuntimeError("boom")

    monkeypatch.setattr(installation, "models", breaks)
    load: Callable[[], Settings] = lambda: settings_with(tmp_path)  # noqa: E731
    findings = {finding.name: finding for finding in examine.examine(load, None, {})}
    assert (findings["models"].status, "boom" in findings["models"].message) == (Status.FAIL, True)
    assert {"job database", "systemd", "python", "disk", "job pictures"} <= set(findings)


def test_with_wrong_settings_the_machine_is_checked_all_the_same() -> None:
    def wrong() -> Settings:
        raise ConfigError("no")

    findings = [finding.name for finding in examine.examine(wrong, None, {})]
    assert "python" in findings
    assert "models" not in findings
