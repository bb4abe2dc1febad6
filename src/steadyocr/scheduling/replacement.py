"""Changing what all engines are told, one after the other, while they serve; all or none."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from steadyocr.errors import SteadyOCRError
from steadyocr.scheduling.config import EngineConfig
from steadyocr.scheduling.slot import Slot

_log = logging.getLogger("steadyocr.replacement")


async def replace_engines(
    slots: Sequence[Slot], after: EngineConfig, before: EngineConfig, room: Callable[[], bool]
) -> None:
    """Give every slot an engine with another configuration; each new engine proves itself before an old one leaves.

    Without memory for one more, the old one leaves first, and comes back should the new one not prove itself: with one
    engine, pictures wait meanwhile for as long as a start takes.

    Args:
        slots: All places.
        after: What engines are told from now on.
        before: What they were told until now; what all go back to when one of the new engines fails.
        room: Whether memory allows one engine more for the time of a swap.

    Raises:
        SteadyOCRError: Why a new engine could not be had; nothing is changed. An engine that is at work for too long
            goes back when it is done.
    """
    changed: list[Slot] = []
    try:
        for slot in slots:
            await slot.adopt(after, in_place=not room())
            changed.append(slot)
    except SteadyOCRError as error:
        _log.warning("The engines stay as they were: a new one failed", extra={"reason": error.message})
        for slot in changed:
            await _go_back(slot, before, room)
        raise


async def _go_back(slot: Slot, before: EngineConfig, room: Callable[[], bool]) -> None:
    try:
        await slot.adopt(before, in_place=not room())
    except SteadyOCRError as error:
        _log.warning("An engine goes back later", extra={"slot": slot.index, "reason": error.message})
        await slot.insist(before)
