"""``steadyocr alerts``: trying the channels, telling of a failed unit, looking at what waits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="settings file (TOML); see 'steadyocr config'", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    alerts = typer.Typer(help="Alerts to chat robots, mail and webhooks.", no_args_is_help=True)
    alerts.command("test")(send_test)
    alerts.command("unit-failed")(tell_unit_failed)
    alerts.command("list")(show_alerts)
    app.add_typer(alerts, name="alerts")


def send_test(config_file: ConfigFile = None) -> None:
    """Send a test message to every channel and say which worked; exit code 11 when one did not."""
    from steadyocr.cli.alert_actions import try_channels

    raise typer.Exit(try_channels(config_file, typer.echo))


def tell_unit_failed(
    unit: Annotated[str, typer.Argument(help="name of the systemd unit that failed")],
    config_file: ConfigFile = None,
) -> None:
    """Tell that systemd gave the service up; what cannot be sent waits for the next start."""
    from steadyocr.cli.alert_actions import unit_failed

    raise typer.Exit(unit_failed(unit, config_file, typer.echo))


def show_alerts(config_file: ConfigFile = None) -> None:
    """Print the channels, the open incidents and the notices that wait to be sent."""
    from steadyocr.cli.alert_actions import print_alerts

    print_alerts(config_file, typer.echo)
