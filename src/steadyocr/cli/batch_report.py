"""What somebody who watches a batch sees: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

_LINE_EVERY_S: Final = 5.0


class Report:
    """Says on standard error how far it is, within its context.

    Args:
        console: Where to; a bar is drawn if it is a terminal.
        clock: Seconds.
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
        )
        bar = self._console.is_terminal
        self._bar = Progress(*columns, console=self._console, transient=True, disable=not bar)
        self._task = self._bar.add_task("sending", total=None, note="")
        self._clock = clock
        self._next_line = clock() + _LINE_EVERY_S
        self._lines = not bar

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """Say something beside the progress."""
        self._bar.console.print(text, markup=False, soft_wrap=True)

    def show(self, *, total: int, ended: int, failed: int, eta_s: float | None) -> None:
        """Show how far it is. Lines come no oftener than every few seconds."""
        note = ", ".join(filter(None, [f"{failed} failed" if failed else "", _left(eta_s)]))
        self._bar.update(self._task, description="reading", total=total, completed=ended, note=note)
        if self._lines and self._clock() >= self._next_line:
            self._next_line = self._clock() + _LINE_EVERY_S
            self.say(f"{ended}/{total}" + (f", {note}" if note else ""))


def _left(eta_s: float | None) -> str:
    if not eta_s:
        return ""
    if eta_s < 60:
        return f"about {max(1, round(eta_s))} s left"
    return f"about {round(eta_s / 60)} min left" if eta_s < 5400 else f"about {eta_s / 3600:.1f} h left"
