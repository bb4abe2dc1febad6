"""Printing tables."""

from __future__ import annotations

from rich.console import Console
from rich.table import Column, Table

# Rich cuts cells to 80 columns where it writes into a pipe; whoever reads a pipe wants all of it.
_PIPE_WIDTH = 400


def uncut(header: str) -> Column:
    """Return a column whose cells are written out whatever the width: they are what another command is given."""
    return Column(header, no_wrap=True, overflow="ignore")


def print_table(table: Table) -> None:
    """Print a table as wide as the terminal, or uncut into a pipe."""
    console = Console()
    console.print(table) if console.is_terminal else Console(width=_PIPE_WIDTH).print(table)
