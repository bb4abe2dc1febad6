"""Checks of what is installed and configured: settings, environment, models, device, systemd, job database."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from steadyocr.errors import ConfigError, SteadyOCRError
from steadyocr.jobs.migrations import MIGRATIONS
from steadyocr.ops.alerts.channels import load_channels
from steadyocr.ops.doctor.findings import Finding, fail, ok, warn
from steadyocr.ops.doctor.spelling import misspelt_settings, misspelt_variables
from steadyocr.runtime.manifest import find_model
from steadyocr.runtime.nvml import DeviceMemory, DeviceMonitor
from steadyocr.settings import Settings

_UNIT: Final = "steadyocr.service"
_SYSTEMCTL_S: Final = 10.0
_DATABASE_S: Final = 5
# Torch is large, and its disk may be cold.
_LIBRARY_S: Final = 120.0
_GIB: Final = 1 << 30


def settings_file(path: Path | None) -> Finding:
    """Check the names in the settings file."""
    if path is None:
        return ok("settings file", "none; defaults and environment only")
    try:
        wrong = list(misspelt_settings(path))
    except OSError as error:
        return fail("settings file", f"{path} cannot be read: {error.strerror}", "check the path and its permissions")
    except ValueError as error:
        return fail("settings file", f"{path} is not valid TOML: {error}", "correct that line")
    if wrong:
        names = ", ".join(_meant(name, meant) for name, meant in wrong)
        return fail("settings file", f"{path}: no such setting: {names}", "'steadyocr config' lists all there are")
    return ok("settings file", str(path))


def environment(environ: Mapping[str, str]) -> Finding:
    """Check the names of environment variables that look like ours."""
    wrong = list(misspelt_variables(environ))
    if wrong:
        names = ", ".join(_meant(name, meant) for name, meant in wrong)
        return fail("environment", f"no such setting: {names}", "'steadyocr config' lists all names")
    count = sum(name.startswith("STEADYOCR_") for name in environ)
    return ok("environment", f"{count} variables of ours, all known")


def _meant(name: str, meant: str) -> str:
    return f"{name} (did you mean {meant}?)" if meant else name


def values(load: Callable[[], Settings]) -> tuple[Finding, Settings | None]:
    """Check that the settings can be used; returns them as well."""
    try:
        settings = load()
        settings.refuse_open_door()
    except ConfigError as error:
        return fail("settings", error.message, "correct them; the checks that need them follow then"), None
    return ok("settings", "values are within their ranges"), settings


def models(settings: Settings) -> Finding:
    """Check that the files of the models that serve are there and whole."""
    parts = (settings.models.detector, settings.models.recogniser)
    try:
        for name in parts:
            find_model(name, settings.data_dir / "models").verified_file()
    except SteadyOCRError as error:
        return fail("models", error.message, "install the package again, or 'steadyocr models use' another one")
    return ok("models", f"{', '.join(parts)}: files match their hashes")


def device(
    settings: Settings,
    read: Callable[[], DeviceMemory | None] | None = None,
    library_problem: Callable[[str, str], str] | None = None,
) -> Finding:
    """Check that the accelerator that is asked for can be seen, by the driver and by the inference library."""
    name = settings.engines.device
    card = None
    if name != "cpu":
        monitor = DeviceMonitor(name)
        try:
            card = (read or monitor.read)()
        finally:
            monitor.close()
        if card is None:
            return fail(
                "device",
                f"{name} is asked for, but the driver shows no such card",
                "install the NVIDIA driver and the [torch] extra, or set engines.device to cpu",
            )
    problem = (library_problem or _library_problem)(settings.engines.backend, name)
    if problem:
        return fail("device", problem, "no engine starts so; the [torch] extra brings what a card needs")
    used = f": {card.used / _GIB:.1f} of {card.total / _GIB:.1f} GiB in use" if card else ""
    return ok("device", f"{name}{used}")


def _library_problem(backend: str, name: str) -> str:
    """Ask in a process of its own: what is installed may crash, and takes long to load."""
    done = subprocess.run(  # noqa: S603 - our own module, with names out of the settings' choices
        [sys.executable, "-m", "steadyocr.runtime.library_check", backend, name],
        capture_output=True,
        text=True,
        timeout=_LIBRARY_S,
        check=False,
    )
    if done.returncode == 0:
        return ""
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return done.stdout.strip() or f"the inference library cannot be loaded: {last}"


def alerts(settings: Settings) -> Finding:
    """Check that the alert channels can be used: the service does not start with others. Sends nothing."""
    try:
        channels = load_channels(settings.alerts)
    except ConfigError as error:
        return fail("alerts", error.message, "correct it: the service does not start so")
    if not channels:
        return ok("alerts", "none; nobody is told")
    names = ", ".join(channel.name for channel in channels)
    return ok("alerts", f"{names}; 'steadyocr alerts test' tries them")


def systemd(
    ask: Callable[[], str | None] | None = None, running: bool = Path("/run/systemd/system").is_dir()
) -> Finding:
    """Check the unit, where systemd runs this machine."""
    if not running:
        return ok("systemd", "does not run this machine")
    answer = (ask or _ask_systemctl)()
    if answer is None:
        return warn("systemd", "does not answer", "try 'systemctl status'")
    facts = dict(line.split("=", 1) for line in answer.splitlines() if "=" in line)
    if facts.get("LoadState") != "loaded":
        return warn("systemd", "the unit is not installed", "'steadyocr systemd install' starts it at every boot")
    state, result = facts.get("ActiveState", "unknown"), facts.get("Result", "")
    if state == "failed":
        return fail(
            "systemd",
            f"the unit has failed ({result})",
            "read 'journalctl -u steadyocr' and 'steadyocr flight show', then 'systemctl reset-failed steadyocr'",
        )
    if facts.get("SubState") == "auto-restart":
        return fail(
            "systemd",
            f"the unit ends again and again ({facts.get('NRestarts', '0')} restarts, {result})",
            "read 'journalctl -u steadyocr' and 'steadyocr flight show'",
        )
    if facts.get("UnitFileState") not in ("enabled", "enabled-runtime", "static", "indirect", "generated"):
        return warn("systemd", f"the unit is {state} but not enabled", "'systemctl enable steadyocr' for every boot")
    return ok("systemd", f"the unit is {state}, {facts.get('NRestarts', '0')} restarts")


def _ask_systemctl() -> str | None:
    program = shutil.which("systemctl")
    if program is None:
        return None
    properties = "LoadState,ActiveState,SubState,UnitFileState,Result,NRestarts"
    try:
        done = subprocess.run(  # noqa: S603 - a program of the system, with fixed arguments
            [program, "show", _UNIT, "-p", properties],
            capture_output=True,
            text=True,
            timeout=_SYSTEMCTL_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def job_database(settings: Settings) -> Finding:
    """Check that the job database can be reached. Changes nothing: not even an old schema."""
    try:
        url = make_url(settings.jobs.database_url(settings.data_dir))
    except ArgumentError:
        return fail("job database", "jobs.url is not a database URL", "write sqlite:////FILE or postgresql://…")
    if url.get_backend_name() == "sqlite":
        return _sqlite(Path(url.database or ""))
    try:
        engine = create_engine(url.set(drivername="postgresql+psycopg"), connect_args={"connect_timeout": _DATABASE_S})
        try:
            with engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        finally:
            engine.dispose()
    except ImportError:
        return fail("job database", "the PostgreSQL driver is missing", "install the [postgres] extra")
    except SQLAlchemyError as error:
        # The first line says what is wrong; the driver's text never has the password in it.
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        return fail("job database", f"{url.host or 'the server'} does not let us in: {reason}", "check jobs.url")
    return ok("job database", f"PostgreSQL on {url.host or 'this machine'} answers")


def _sqlite(path: Path) -> Finding:
    if not path.exists():
        return ok("job database", f"{path} will be made at the first start")
    for place in (path.parent, path):
        # SQLite writes its journal beside the file.
        if not os.access(place, os.W_OK):
            return fail("job database", f"{place} cannot be written", "give it to the service's user (chown)")
    try:
        # As a URI, in which the path's own signs mean nothing.
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_DATABASE_S)
        try:
            verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            version = _schema_version(connection)
        finally:
            connection.close()
    except sqlite3.Error as error:
        return fail("job database", f"{path}: {error}", "check its permissions, or restore it from a backup")
    if verdict != "ok":
        return fail("job database", f"{path} is damaged: {verdict}", "stop the service and restore it from a backup")
    if version > MIGRATIONS[-1].version:
        return fail(
            "job database",
            f"{path} was written by a newer version of steadyocr (schema {version})",
            "install that version again, or move the file away: jobs are refused so",
        )
    return ok("job database", f"{path}, {path.stat().st_size / (1 << 20):.1f} MiB, whole")


def _schema_version(connection: sqlite3.Connection) -> int:
    known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'schema_version'").fetchone()
    row = connection.execute("SELECT max(version) FROM schema_version").fetchone() if known else None
    return int(row[0] or 0) if row else 0
