"""``steadyocr doctor``: checks this machine and configuration, and finds the settings that suit them best."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steadyocr.cli.exit_codes import ExitCode
from steadyocr.cli.sizes import parse_bytes
from steadyocr.errors import ConfigError

if TYPE_CHECKING:
    from steadyocr.ops.doctor.findings import Finding
    from steadyocr.ops.doctor.tuning import Measurement, Verdict
    from steadyocr.settings import Settings

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}
_MIB = 1 << 20

ConfigFile = Annotated[Path | None, typer.Option("--config", help="settings file (TOML)", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(
    tune: Annotated[
        bool, typer.Option("--tune", help="measure which engines, threads and side suit this machine")
    ] = False,
    p95: Annotated[
        float | None, typer.Option(help="with --tune: seconds that 95 % of the pictures may take", show_default=False)
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="with --tune: most memory of all processes, like 900M", show_default=False)
    ] = None,
    seconds: Annotated[float, typer.Option(min=5, max=3600, help="with --tune: time for measuring")] = 120.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="with --tune: write nothing")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="warnings count as failures")] = False,
    config_file: ConfigFile = None,
) -> None:
    """Say what is wrong with this machine or configuration and what to do; exit code 1 when something fails."""
    memory_bytes = parse_bytes(memory, "--memory") if memory else None
    if tune:
        raise typer.Exit(_tune(p95, memory_bytes, seconds, write=not dry_run, as_json=as_json, config_file=config_file))
    raise typer.Exit(_examine(as_json=as_json, strict=strict, config_file=config_file))


def _examine(*, as_json: bool, strict: bool, config_file: Path | None) -> ExitCode:
    from steadyocr.ops.doctor.examine import examine
    from steadyocr.ops.doctor.findings import Status, worst
    from steadyocr.settings import load_settings

    findings: list[Finding] = []
    path = _settings_path(config_file)
    for finding in examine(lambda: load_settings(config_file=config_file)[0], path, os.environ):
        findings.append(finding)
        if not as_json:
            _print(finding)
    status = worst(findings)
    if as_json:
        typer.echo(json.dumps({"status": status.value, "checks": [one.to_wire() for one in findings]}, indent=1))
    bad = status is Status.FAIL or (strict and status is Status.WARN)
    return ExitCode.FAILED if bad else ExitCode.OK


def _print(finding: Finding) -> None:
    mark = typer.style(f"{finding.status.value:4}", fg=_COLOURS[finding.status.value])
    typer.echo(f"{mark}  {finding.name:14} {finding.message}")
    if finding.advice and finding.status.value != "ok":
        typer.echo(f"{'':22}→ {finding.advice}")


def _settings_path(config_file: Path | None) -> Path | None:
    """Return the settings file in use, also when what is in it is wrong."""
    from steadyocr.settings.load import config_path

    try:
        return config_path(config_file, os.environ)
    except ConfigError:
        return config_file


def _tune(
    p95_s: float | None,
    memory_bytes: int | None,
    seconds: float,
    *,
    write: bool,
    as_json: bool,
    config_file: Path | None,
) -> ExitCode:
    from steadyocr.ops.doctor.measuring import EngineMeasurer, default_candidate, default_side, sides
    from steadyocr.ops.doctor.outcome import record_of, wanted_settings
    from steadyocr.ops.doctor.tuning import Tuner, Wishes, candidates
    from steadyocr.runtime.cpu import available_threads
    from steadyocr.settings import load_settings
    from steadyocr.telemetry import logging as logs

    settings, _ = load_settings({"logging": {"level": "warning"}}, config_file=config_file)
    logs.configure(settings.logging.format, settings.logging.level)
    tried = candidates(available_threads(), default_candidate(settings))
    wishes = Wishes(p95_s=p95_s, memory_bytes=memory_bytes)
    if not as_json:
        typer.echo(f"Measuring for about {seconds:.0f} s; leave the machine alone meanwhile.\n{_HEADER}")
    tuner = Tuner(EngineMeasurer(settings), wishes, seconds, (lambda _: None) if as_json else _print_measurement)
    verdict = asyncio.run(tuner.run(tried, sides(settings)))
    wanted = wanted_settings(verdict, default_side(settings))
    table = json.dumps(record_of(verdict, wishes, wanted), indent=1)
    if as_json:
        typer.echo(table)
    else:
        _print_verdict(verdict)
    if write and verdict.met:
        _write(wanted, table, settings, config_file, quiet=as_json)
    return ExitCode.OK if verdict.met else ExitCode.FAILED


_HEADER = "engines x threads   side   pictures/s    p50      p95      memory   pictures"


def _print_measurement(one: Measurement) -> None:
    typer.echo(
        f"{one.candidate!s:>17}  {one.max_side:5}  {one.per_s:10.2f}  {one.p50_s:6.2f} s {one.p95_s:6.2f} s"
        f"  {one.memory_bytes / _MIB:5.0f} MiB  {one.pictures:7}"
    )


def _print_verdict(verdict: Verdict) -> None:
    one = verdict.chosen
    typer.echo(
        f"\n{'Best' if verdict.met else 'Nearest'}: engines.count {one.candidate.engines}, "
        f"engines.threads {one.candidate.threads}, side {one.max_side}: {verdict.reason}."
    )


def _write(wanted: dict[str, int], table: str, settings: Settings, config_file: Path | None, *, quiet: bool) -> None:
    from steadyocr.cli.settings_file import get_value, set_value
    from steadyocr.ops.doctor.spelling import environment_name
    from steadyocr.ops.files import write_whole

    path = _settings_path(config_file) or settings.data_dir / "steadyocr.toml"
    changed = False
    for name, value in wanted.items():
        section, key = name.split(".")
        # What is not there is automatic already.
        if (get_value(path, section, key) or 0) != value:
            set_value(path, section, key, value)
            changed = True
        if not quiet and os.environ.get(environment_name(name), str(value)) != str(value):
            typer.echo(f"The environment variable {environment_name(name)} is set and is stronger.", err=True)
    table_file = settings.data_dir / "tuning.json"
    write_whole(table_file, table + "\n")
    if not quiet:
        done = f"Written to {path}; restart the service to use it." if changed else "The settings stay as they are."
        typer.echo(f"{done} The table is in {table_file}.")
