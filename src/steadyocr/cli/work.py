"""``steadyocr work``: a node that works jobs off and takes nothing in."""

from __future__ import annotations

import asyncio
import faulthandler
from pathlib import Path
from typing import Annotated, Any

import typer

_PORT = 7861

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="settings file (TOML); see 'steadyocr config'", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("work")(work)


def work(
    host: Annotated[str, typer.Option(help="address of the probes and metrics")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="port of the probes and metrics; 0 takes a free one")] = _PORT,
    config_file: ConfigFile = None,
) -> None:
    """Work batch jobs off until SIGTERM or Ctrl-C, beside other nodes on the same jobs.url and jobs.blobs.

    Nothing is taken in here: only /livez, /readyz and /metrics answer. On SIGTERM the items in hand go back to the
    queue at once; after a kill or a cut line other nodes take them over when the lease (jobs.lease_s) has run out.
    """
    from steadyocr.api.node import create_node_app
    from steadyocr.api.server import serve
    from steadyocr.ops.companions import COMPANIONS
    from steadyocr.settings import load_settings
    from steadyocr.telemetry import logging as logs

    overrides: dict[str, Any] = {"server": {"host": host, "port": port}}
    settings, _ = load_settings(overrides, config_file=config_file)
    logs.configure(settings.logging.format, settings.logging.level, settings.log_files())
    faulthandler.enable()
    asyncio.run(serve(settings, make_app=create_node_app, companions=COMPANIONS))
