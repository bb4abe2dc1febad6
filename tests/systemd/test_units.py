"""What the units say: agreed numbers, systemd's own checks of them, putting them in place."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ci_must import skipped_unless
from steadyocr.api import server
from steadyocr.cli.systemd import install_units
from steadyocr.errors import ConfigError, ConflictError
from steadyocr.ops.sizing import threads_agree
from steadyocr.ops.systemd import install as installing
from steadyocr.ops.systemd.environment import read_environment_file
from steadyocr.ops.systemd.install import install, uninstall
from steadyocr.ops.systemd.plan import START_LIMIT_BURST, STOP_MARGIN_S, Plan, Wishes, make_plan, refuse_missing_folders
from steadyocr.ops.systemd.units import ALERT, MARK, SERVICE, SOCKET, UNIT_NAMES, render_units
from steadyocr.service import lifesigns
from steadyocr.settings import Settings, load_settings
from support import call_cli

needs_analyze = skipped_unless(shutil.which("systemd-analyze") is not None, "systemd-analyze is not installed")

VARIANTS: dict[str, tuple[dict[str, Any], Wishes]] = {
    "usual": ({}, Wishes()),
    "public": ({"server": {"host": "0.0.0.0"}, "auth": {"api_keys": ["k"]}}, Wishes(memory_bytes=2 << 30, cpus=0.8)),
    "six": ({"server": {"host": "::1", "port": 80}}, Wishes(config_file=Path("/etc/steadyocr/steadyocr.toml"))),
    "user": ({"engines": {"backend": "onnxruntime"}}, Wishes(user="daemon", data_dir=Path("/srv/ocr pictures/100%"))),
    "card": ({"engines": {"device": "cuda", "backend": "torch"}}, Wishes()),
    "second card": ({"engines": {"device": "cuda:1", "backend": "onnxruntime"}}, Wishes(user="daemon")),
    "blanks": ({}, Wishes(data_dir=Path("/var/lib/ocr pictures 100%"), environment_file=Path("/etc/my ocr/100% env"))),
    "thirds": ({}, Wishes(cpus=1.33333)),
    "channels": ({}, Wishes(channels_file=Path("/etc/steadyocr/alert channels 100%"))),
}


def settings_of(values: dict[str, Any]) -> Settings:
    return load_settings(values, environ={})[0]


def plan_of(name: str = "usual", **changes: Any) -> Plan:
    values, wishes = VARIANTS[name]
    return dataclasses.replace(make_plan(settings_of(values), wishes), **changes)


def values_in(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if re.match(r"[A-Z]\w+=", line))


@pytest.fixture(params=VARIANTS)
def rendered(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A root with each variant of the units in it."""
    install(render_units(plan_of(request.param)), tmp_path, lambda _: None)
    return tmp_path / "etc/systemd/system"


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False, cwd="/"
    )


@needs_analyze
def test_systemd_has_nothing_to_say_against_them(rendered: Path) -> None:
    # Without these options it warns and still says yes.
    done = analyze("verify", "--man=no", "--recursive-errors=no", *(rendered / name for name in UNIT_NAMES))
    assert (done.returncode, done.stderr) == (0, "")


@needs_analyze
def test_systemd_finds_an_interpreter_with_a_dollar_in_its_path(tmp_path: Path) -> None:
    python = tmp_path / "a$b" / "python"
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    install(render_units(plan_of(python=python)), tmp_path, lambda _: None)
    done = analyze("verify", "--man=no", "--recursive-errors=no", tmp_path / "etc/systemd/system" / SERVICE)
    assert (done.returncode, done.stderr) == (0, "")


@needs_analyze
@pytest.mark.parametrize("unit", [SERVICE, ALERT])
def test_they_are_hardened(rendered: Path, unit: str) -> None:
    done = analyze("security", "--offline=true", "--threshold=12", rendered / unit)
    assert done.returncode == 0, done.stdout[-300:]


@pytest.mark.parametrize("name", VARIANTS)
def test_the_numbers_agree(name: str) -> None:
    plan = plan_of(name)
    service = values_in(render_units(plan)[SERVICE])
    settings = settings_of(VARIANTS[name][0])
    assert int(service["TimeoutStopSec"]) > settings.server.drain_timeout_s + 5
    assert int(service["WatchdogSec"]) > settings.engines.item_limit_s + settings.engines.heartbeat_s
    crashes_s = START_LIMIT_BURST * (int(service["RestartSec"]) + 30)
    assert int(service["StartLimitIntervalSec"]) > crashes_s, "else a start that takes 30 s to crash never counts"
    assert threads_agree(plan.engines, plan.threads, max(1, int(plan.cpus)))
    assert float(service["CPUQuota"].removesuffix("%")) == pytest.approx(plan.cpus * 100, abs=0.01)
    assert service["MemoryMax"] == str(plan.memory_bytes)


def test_systemd_waits_as_long_as_the_server_says_that_stopping_takes() -> None:
    assert STOP_MARGIN_S >= server.STOP_MARGIN_S


def test_data_sets_in_a_home_folder_are_shown_to_the_service() -> None:
    plan = make_plan(settings_of({"lab": {"datasets_dir": "/home/me/sets"}}), Wishes())
    assert Path("/home/me/sets") in plan.visible


def test_longer_limits_make_it_more_patient() -> None:
    settings = settings_of({"engines": {"item_limit_s": 600}, "server": {"drain_timeout_s": 120}})
    plan = make_plan(settings, Wishes())
    assert plan.watchdog_s > 600
    assert plan.stop_s > 120


@pytest.mark.parametrize(
    ("values", "wishes", "message"),
    [
        ({"server": {"port": 0}}, Wishes(), "needs a port"),
        ({"server": {"host": "ocr.example"}, "auth": {"api_keys": ["k"]}}, Wishes(), "IP address"),
        ({"server": {"host": "0.0.0.0"}}, Wishes(), "API key"),
        ({"engines": {"count": 2, "threads": 4}}, Wishes(cpus=2), "2 x 4"),
        ({"engines": {"count": 5, "threads": 1}}, Wishes(cpus=2), "5 x 1"),
        ({"engines": {"count": 1, "threads": 3}}, Wishes(cpus=2), "1 x 3"),
        ({}, Wishes(cpus=0), "--cpus"),
        ({}, Wishes(cpus=0.001), "--cpus"),
        ({}, Wishes(cpus=float("nan")), "--cpus"),
        ({}, Wishes(cpus=float("inf")), "--cpus"),
        ({}, Wishes(memory_bytes=3), "--memory"),
        ({"memory": {"budget_bytes": 2 << 30}}, Wishes(memory_bytes=1 << 30), "memory.budget_bytes"),
        ({}, Wishes(memory_bytes=1 << 60), "--memory"),
        ({}, Wishes(data_dir=Path("/srv/ocr")), "--user"),
        ({}, Wishes(data_dir=Path("/srv/a:b"), user="daemon"), "colon"),
        ({}, Wishes(channels_file=Path("channels")), "absolute"),
        ({}, Wishes(data_dir=Path("here"), user="daemon"), "absolute"),
    ],
)
def test_what_does_not_go_together_is_refused(values: dict[str, Any], wishes: Wishes, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_plan(settings_of(values), wishes)


def test_the_engines_fit_into_the_memory_that_the_unit_allows() -> None:
    plans = [make_plan(settings_of({}), Wishes(cpus=16, memory_bytes=size << 30)) for size in (2, 4)]
    assert [plan.engines for plan in plans] == [1, 4]


def test_jobs_kept_elsewhere_stay_writable() -> None:
    settings = settings_of({"jobs": {"url": "sqlite:////srv/jobs/jobs.db", "blobs": "/mnt/blobs"}})
    service = render_units(make_plan(settings, Wishes()))[SERVICE]
    assert "ReadWritePaths=/mnt/blobs\n" in service
    assert "ReadWritePaths=/srv/jobs\n" in service


@pytest.mark.parametrize("unit", [SERVICE, ALERT])
def test_state_in_a_home_or_temporary_folder_is_shown_to_the_service(unit: str) -> None:
    settings = settings_of({"jobs": {"blobs": "/var/tmp/blobs"}})
    plan = dataclasses.replace(make_plan(settings, Wishes(user="me", data_dir=Path("/home/me/ocr"))), visible=())
    text = render_units(plan)[unit]
    # Writable says nothing of a place that is hidden.
    assert "BindPaths=/home/me/ocr\nBindPaths=/var/tmp/blobs\nProtectHome=tmpfs\n" in text
    assert "ReadWritePaths" not in text


def test_folders_that_systemd_would_not_make_must_be_there(tmp_path: Path) -> None:
    settings = settings_of({"jobs": {"blobs": str(tmp_path / "blobs")}})
    refuse_missing_folders(make_plan(settings_of({}), Wishes()))
    plan = make_plan(settings, Wishes(user="me", data_dir=tmp_path / "ocr pictures"))
    for missing in ("ocr pictures", "blobs"):
        with pytest.raises(ConfigError, match=f"install -d -o me -m 0700 .*{missing}"):
            refuse_missing_folders(plan)
        (tmp_path / missing).mkdir()
    refuse_missing_folders(plan)


@pytest.mark.parametrize("user", ["nobody-of-that-name", "4000000001"])
def test_a_user_who_does_not_exist_is_refused_before_anything_is_written(
    user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[object] = []
    monkeypatch.setattr(installing, "install", lambda *given, **_: written.append(given))
    with pytest.raises(ConfigError, match=f"no user {user}.*useradd"):
        install_units(user=user)
    assert written == []
    # Another root is another machine's, with users of its own.
    install_units(user=user, root=Path("/nowhere"))
    for known in ("root", "0", None):
        install_units(user=known)
    assert len(written) == 4


def test_an_interpreter_in_a_home_folder_stays_in_reach_and_nothing_else_there() -> None:
    home = render_units(plan_of(visible=(Path("/home/eve/venv"),), homes_hidden_fully=False))[SERVICE]
    assert "ProtectHome=tmpfs\nBindReadOnlyPaths=/home/eve/venv\n" in home
    away = render_units(plan_of(visible=(), homes_hidden_fully=True))[SERVICE]
    assert "ProtectHome=yes\n" in away
    assert "BindReadOnlyPaths" not in away


def test_the_service_never_runs_without_its_socket() -> None:
    unit = values_in(render_units(plan_of())[SERVICE])
    assert unit["Requires"] == SOCKET
    assert SOCKET in unit["After"].split()


def test_what_tuning_finds_best_is_taken() -> None:
    settings = settings_of({"engines": {"count": 2, "threads": 2}})
    assert "# 2 x 2 engine threads.\n" in render_units(make_plan(settings, Wishes(cpus=2)))[SERVICE]


@pytest.mark.parametrize("name", ["card", "second card"])
def test_a_graphics_card_opens_its_devices_only(name: str) -> None:
    service = render_units(plan_of(name))[SERVICE]
    assert "PrivateDevices=yes\n" in service
    assert "BindPaths=-/dev/nvidiactl -/dev/nvidia-uvm " in service
    assert "DeviceAllow=char-nvidia* rw\n" in service
    # Its driver makes machine code, whatever library asks it to.
    assert "MemoryDenyWriteExecute" not in service
    usual = render_units(plan_of())[SERVICE]
    assert "PrivateDevices=yes\n" in usual
    assert "nvidia" not in usual


def test_an_engine_killed_for_memory_does_not_end_the_unit() -> None:
    service = values_in(render_units(plan_of())[SERVICE])
    # With control groups v1, as in the box, systemd never learns of it; with v2 it would stop the whole unit.
    assert service["OOMPolicy"] == "continue"


def test_a_start_may_take_as_long_as_the_service_asks() -> None:
    service = values_in(render_units(plan_of())[SERVICE])
    # EXTEND_TIMEOUT_USEC counts from the main process, and the first one must come before the unit's own patience ends.
    assert (service["Type"], service["NotifyAccess"]) == ("notify", "main")
    assert int(service["TimeoutStartSec"]) > lifesigns._START_EXTENSION_S > 2 * lifesigns._START_PERIOD_S


def test_alert_channels_are_handed_to_both_units() -> None:
    units = render_units(plan_of("channels"))
    for name in (SERVICE, ALERT):
        # The path is taken as it stands, so it is not quoted.
        assert "LoadCredential=channels:/etc/steadyocr/alert channels 100%%\n" in units[name]
        assert "Environment=STEADYOCR_ALERTS__CHANNELS_FILE=%d/channels\n" in units[name]
    assert not any("channels" in text for text in render_units(plan_of()).values())


@pytest.mark.parametrize(
    ("command", "content", "mode", "message"),
    [
        ("install", None, 0o600, "cannot be read"),
        ("install", "ops = json://127.0.0.1/\n", 0o644, "open to others"),
        ("install", "nonsense\n", 0o600, "line 1 of channels is no alert channel"),
        ("print", "ops = json://127.0.0.1/\n", 0o600, "which wins over --channels-file"),
    ],
)
def test_channels_that_would_not_work_are_refused(
    tmp_path: Path, command: str, content: str | None, mode: int, message: str
) -> None:
    root, environment = tmp_path / "root", tmp_path / "environment"
    root.mkdir()
    if content is not None:
        (root / "channels").write_text(content)
        (root / "channels").chmod(mode)
    environment.write_text("STEADYOCR_ALERTS__CHANNELS_FILE=/channels\n" if command == "print" else "")
    where = ["--root", str(root)] if command == "install" else []
    done = call_cli(
        "systemd", command, "--environment-file", str(environment), "--channels-file", "/channels", *where,
        data_dir=tmp_path,
    )  # fmt: skip
    assert done.returncode == 4
    assert not (root / "etc").exists()
    assert message in " ".join(done.stderr.split())


def test_installing_twice_changes_nothing_and_uninstalling_leaves_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    units = render_units(plan_of())
    install(units, tmp_path, said.append)
    folder = tmp_path / "etc/systemd/system"
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert sorted(before) == sorted(UNIT_NAMES)
    install(units, tmp_path, said.append)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert [line.rsplit(": ")[-1] for line in said] == ["written"] * 3 + ["unchanged"] * 3

    install({**units, SOCKET: units[SOCKET] + "# more\n"}, tmp_path, said.append)
    assert [line.rsplit(": ")[-1] for line in said[6:]] == ["unchanged", "written", "unchanged"]
    uninstall(UNIT_NAMES, tmp_path, said.append)
    assert list(folder.iterdir()) == []
    uninstall(UNIT_NAMES, tmp_path, said.append)
    assert said[-1].endswith("nothing to remove")


def test_units_of_somebody_else_are_neither_replaced_nor_removed(tmp_path: Path) -> None:
    folder = tmp_path / "etc/systemd/system"
    folder.mkdir(parents=True)
    (folder / SERVICE).write_text("[Service]\nExecStart=/bin/true\n")
    with pytest.raises(ConflictError, match="not written by this command"):
        install(render_units(plan_of()), tmp_path, lambda _: None)
    with pytest.raises(ConflictError, match="not written by this command"):
        uninstall(UNIT_NAMES, tmp_path, lambda _: None)
    assert [path.name for path in folder.iterdir()] == [SERVICE]


def test_a_system_without_systemd_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match="no systemd here"):
        installing._systemctl("daemon-reload")


def test_an_environment_file_is_read_as_systemd_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "environment"
    assert read_environment_file(path) == {}
    path.write_text("# a comment\n; another\n\nSTEADYOCR_SERVER__PORT=8000\nA='x y'\nB = \"q=r\"\nnonsense\n")
    assert read_environment_file(path) == {"STEADYOCR_SERVER__PORT": "8000", "A": "x y", "B": "q=r"}


def test_the_command_prints_for_the_service_not_for_this_shell(tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    environment.write_text("STEADYOCR_SERVER__PORT=8123\n")
    done = call_cli(
        "systemd", "print", "--environment-file", str(environment), "--memory", "1.5g", "--cpus", "1",
        data_dir=tmp_path, server__port="9",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "ListenStream=127.0.0.1:8123\n" in done.stdout
    assert f"MemoryMax={3 << 29}\n" in done.stdout
    assert "CPUQuota=100%\n" in done.stdout
    assert done.stdout.count(MARK) == 3


@pytest.mark.parametrize(
    ("line", "options", "message"),
    [
        ("STEADYOCR_DATA_DIR=/srv/ocr", [], "wins over --data-dir /var/lib/steadyocr"),
        ("STEADYOCR_DATA_DIR=", [], "to '', which wins over --data-dir"),
        ("STEADYOCR_DATA_DIR=/srv/ocr", ["--data-dir", "/srv/ocr/", "--user", "daemon"], ""),
        ("STEADYOCR_CONFIG=/srv/other.toml", ["--config", "{given}"], "wins over --config"),
        ("STEADYOCR_CONFIG={given}", ["--config", "{given}"], ""),
        ("STEADYOCR_CONFIG={given}", [], ""),
    ],
)
def test_an_environment_file_that_would_win_over_the_command_line_is_refused(
    tmp_path: Path, line: str, options: list[str], message: str
) -> None:
    given, environment = tmp_path / "given.toml", tmp_path / "environment"
    given.touch()
    environment.write_text(line.format(given=given) + "\n")
    done = call_cli(
        "systemd", "print", "--environment-file", str(environment), "--memory", "1.5g", "--cpus", "1",
        *(option.format(given=given) for option in options), data_dir=tmp_path,
    )  # fmt: skip
    assert done.returncode == (4 if message else 0), done.stderr
    assert message in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("option", "text", "status"),
    [("--memory", "lots", 2), ("--memory", "-1G", 2), ("--memory", "0", 4), ("--cpus", "-1", 4)],
)
def test_the_command_refuses_nonsense(tmp_path: Path, option: str, text: str, status: int) -> None:
    done = call_cli("systemd", "print", f"{option}={text}", data_dir=tmp_path)
    assert done.returncode == status
    assert option in done.stderr


def test_without_systemd_nothing_is_installed_and_what_is_there_can_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    units = render_units(plan_of())
    install(units, tmp_path, lambda _: None)
    monkeypatch.setattr(installing, "_is_own_root", lambda _: True)
    monkeypatch.setattr(installing, "_RUNS", tmp_path / "not there")
    uninstall(UNIT_NAMES, tmp_path, lambda _: None)
    with pytest.raises(ConfigError, match="--root"):
        install(units, tmp_path, lambda _: None)
    assert list((tmp_path / "etc/systemd/system").iterdir()) == []
