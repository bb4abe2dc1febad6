"""``steadyocr systemd``: the service under systemd, fitted to this machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steadyocr.cli.sizes import parse_bytes
from steadyocr.errors import ConfigError

if TYPE_CHECKING:
    from steadyocr.ops.systemd.plan import Plan

_DATA_DIR = Path("/var/lib/steadyocr")
_ENVIRONMENT_FILE = Path("/etc/steadyocr/environment")
_CHANNELS_SETTING = "STEADYOCR_ALERTS__CHANNELS_FILE"

User = Annotated[
    str | None, typer.Option(help="run as this user [one that exists only while it runs]", show_default=False)
]
DataDir = Annotated[Path, typer.Option(help="folder of all state")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="settings file [DATA_DIR/steadyocr.toml]", show_default=False)
]
EnvironmentFile = Annotated[Path, typer.Option(help="STEADYOCR_… lines for keys; only root need be able to read it")]
ChannelsFile = Annotated[
    Path | None,
    typer.Option(
        help="alert channels, one a line; handed over at each start, only root need be able to read it",
        show_default=False,
    ),
]
Memory = Annotated[
    str | None, typer.Option(help="limit of the whole service, like 3G [80 % of the machine]", show_default=False)
]
Cpus = Annotated[float | None, typer.Option(help="quota in cores [all that there are]", show_default=False)]
Root = Annotated[Path, typer.Option(help="write below this folder instead, and leave systemd alone")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    systemd = typer.Typer(help="Run as a systemd service: socket, watchdog, limits, sandbox.", no_args_is_help=True)
    systemd.command("print")(print_units)
    systemd.command("install")(install_units)
    systemd.command("uninstall")(uninstall_units)
    app.add_typer(systemd, name="systemd")


def print_units(
    user: User = None,
    data_dir: DataDir = _DATA_DIR,
    config_file: ConfigFile = None,
    environment_file: EnvironmentFile = _ENVIRONMENT_FILE,
    channels_file: ChannelsFile = None,
    memory: Memory = None,
    cpus: Cpus = None,
) -> None:
    """Print the units fitted to this machine."""
    from steadyocr.ops.systemd.units import render_units

    units = render_units(_plan(user, data_dir, config_file, environment_file, channels_file, memory, cpus))
    typer.echo("\n".join(f"# {name}\n{text}" for name, text in units.items()), nl=False)


def install_units(
    user: User = None,
    data_dir: DataDir = _DATA_DIR,
    config_file: ConfigFile = None,
    environment_file: EnvironmentFile = _ENVIRONMENT_FILE,
    channels_file: ChannelsFile = None,
    memory: Memory = None,
    cpus: Cpus = None,
    root: Root = Path("/"),
    start: Annotated[bool, typer.Option(help="enable and start it as well")] = True,
) -> None:
    """Write the units, enable and start them. A second time changes nothing."""
    from steadyocr.ops.alerts.channels import load_channels
    from steadyocr.ops.systemd.install import install
    from steadyocr.ops.systemd.plan import refuse_missing_folders, refuse_unknown_user
    from steadyocr.ops.systemd.units import render_units
    from steadyocr.settings.alerts import AlertSettings

    plan = _plan(user, data_dir, config_file, environment_file, channels_file, memory, cpus)
    if root.resolve() == Path("/"):
        refuse_unknown_user(plan)
        refuse_missing_folders(plan)
    if channels_file is not None:
        # Now, and not at the next start: systemd starts nothing whose credential is missing.
        load_channels(AlertSettings(channels_file=root / channels_file.absolute().relative_to("/")))
    install(render_units(plan), root, typer.echo, start=start)


def uninstall_units(root: Root = Path("/")) -> None:
    """Stop the service and remove its units. State and settings stay."""
    from steadyocr.ops.systemd.install import uninstall
    from steadyocr.ops.systemd.units import UNIT_NAMES

    uninstall(UNIT_NAMES, root, typer.echo)


def _plan(
    user: str | None,
    data_dir: Path,
    config_file: Path | None,
    environment_file: Path,
    channels_file: Path | None,
    memory: str | None,
    cpus: float | None,
) -> Plan:
    from steadyocr.ops.systemd.environment import read_environment_file
    from steadyocr.ops.systemd.plan import Wishes, make_plan
    from steadyocr.settings import load_settings

    said = read_environment_file(environment_file)
    _refuse_overruling(environment_file, said, "STEADYOCR_DATA_DIR", "--data-dir", data_dir)
    if config_file is not None:
        _refuse_overruling(environment_file, said, "STEADYOCR_CONFIG", "--config", config_file.absolute())
    # What the service will see, not what this shell has.
    environ = {**said, "STEADYOCR_DATA_DIR": str(data_dir)}
    if channels_file is not None and _CHANNELS_SETTING in environ:
        raise ConfigError(f"{environment_file} sets {_CHANNELS_SETTING}, which wins over --channels-file; take it out")
    settings, _ = load_settings(config_file=config_file, environ=environ)
    wishes = Wishes(
        user=user,
        data_dir=data_dir,
        config_file=config_file.absolute() if config_file else None,
        environment_file=environment_file,
        channels_file=channels_file.absolute() if channels_file else None,
        memory_bytes=parse_bytes(memory, "--memory") if memory else None,
        cpus=cpus,
    )
    return make_plan(settings, wishes)


def _refuse_overruling(file: Path, said: Mapping[str, str], name: str, option: str, path: Path) -> None:
    """Refuse an environment file that names another path than the units: systemd lets the file win."""
    if name in said and Path(said[name]) != path:
        raise ConfigError(
            f"{file} sets {name} to {said[name]!r}, which wins over {option} {path}; take it out, or make them agree"
        )
