"""Long work in a thread, which nobody can call off: it asks between two steps whether it is wanted still."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

KeepOn = Callable[[], bool]


def always() -> bool:
    """Go on to the end."""
    return True


def while_wanted(steps: Iterable[T], keep_on: KeepOn) -> Iterator[T]:
    """Go through the steps until they are not wanted any more."""
    return itertools.takewhile(lambda _: keep_on(), steps)
