"""``steadyocr flight``: why the last engine died."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="settings file (TOML); see 'steadyocr config'", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    flight = typer.Typer(help="What happened before an engine died.", no_args_is_help=True)
    flight.command("show")(show)
    flight.command("list")(show_list)
    flight.command("dump")(dump)
    app.add_typer(flight, name="flight")


def show(
    record: Annotated[
        str | None, typer.Argument(help="number or file of a record; the last one by default", show_default=False)
    ] = None,
    last: Annotated[bool, typer.Option("--last", help="the last one, which is the default")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="the record as it was written")] = False,
    config_file: ConfigFile = None,
) -> None:
    """Explain a death in words: which picture, how much memory, which step, how long, and what came after."""
    import json

    from steadyocr.ops.flight.companion import flight_store
    from steadyocr.ops.flight.explain import explain
    from steadyocr.settings import load_settings

    if last and record is not None:
        raise typer.BadParameter("--last and a record exclude each other")
    settings, _ = load_settings(config_file=config_file)
    name, body = flight_store(settings).load(record)
    typer.echo(json.dumps(body, indent=1) if as_json else explain(name, body))


def show_list(config_file: ConfigFile = None) -> None:
    """List the records, oldest first."""
    from steadyocr.ops.flight.companion import flight_store
    from steadyocr.settings import load_settings

    settings, _ = load_settings(config_file=config_file)
    paths = flight_store(settings).paths()
    for path in paths:
        typer.echo(path.name)
    if not paths:
        typer.echo("no flight record: no engine has died yet")


def dump(config_file: ConfigFile = None) -> None:
    """Have the running service write a record now."""
    from steadyocr.ops.flight.companion import flight_store
    from steadyocr.ops.flight.request import request_record
    from steadyocr.settings import load_settings

    settings, _ = load_settings(config_file=config_file)
    typer.echo(request_record(flight_store(settings)).name)
