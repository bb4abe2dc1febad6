"""``steadyocr config``: every setting, its value, its origin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from steadyocr.settings import ENV_PREFIX, load_settings


def print_settings(config_file: Path | None) -> None:
    """Print the settings in effect as a table."""
    settings, origins = load_settings(config_file=config_file)
    table = Table("setting", "value", "origin", "environment name", box=None, pad_edge=False)
    for name, value in _leaves(settings.model_dump(mode="json")):
        environment_name = ENV_PREFIX + name.upper().replace(".", "__")
        table.add_row(name, str(value), origins.of(name), environment_name)
    Console(soft_wrap=True).print(table)


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
