"""``steadyocr config``: every setting, its value, its origin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from steadyocr.settings import ENV_PREFIX, load_settings

# A program that reads the output wants one line for each setting.
_UNFOLDED_COLUMNS = 1000


def print_settings(config_file: Path | None) -> None:
    """Print the settings in effect as a table."""
    settings, origins = load_settings(config_file=config_file)
    columns = (Column(title, overflow="fold") for title in ("setting", "value", "origin", "environment name"))
    table = Table(*columns, box=None, pad_edge=False)
    for name, value in _leaves(settings.model_dump(mode="json")):
        environment_name = ENV_PREFIX + name.upper().replace(".", "__")
        table.add_row(name, str(value), origins.of(name), environment_name)
    console = Console()
    if not console.is_terminal:
        console.width = _UNFOLDED_COLUMNS
    console.print(table)


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
