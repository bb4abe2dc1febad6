"""Whether the engines get on with their work, as far as the front can tell without asking them for more."""

from __future__ import annotations

import asyncio
from typing import Final

from steadyocr.scheduling.items import WorkItem
from steadyocr.scheduling.scheduler import Scheduler
from steadyocr.scheduling.slot import SlotConfig

# Ending an engine that has passed a limit takes a moment.
_MARGIN_S: Final = 5.0


def gets_on(scheduler: Scheduler, completed_before: int) -> bool:
    """Whether something was finished, or an engine has somebody's work in hand and is within its limits.

    A golden run in hand says nothing: its verdict does. Past its limits an engine is killed by its slot; one that
    still works then proves only that nobody watches it.

    Args:
        scheduler: Whose engines.
        completed_before: What its ``completed`` was before.
    """
    if scheduler.completed > completed_before:
        return True
    limits = scheduler.config.slot
    now = asyncio.get_running_loop().time()
    items = (slot.item for slot in scheduler.slots if slot.item is not None)
    in_hand = (item for item in items if item.course.in_hand and item.kind != "golden")
    return any(now < _limit_at(item, limits) + _MARGIN_S for item in in_hand)


def _limit_at(item: WorkItem, limits: SlotConfig) -> float:
    began = item.course.started_at or 0.0
    if item.suspect:
        # It may take its time, whoever waits: a hasty deadline must not hide what it does to engines.
        return began + limits.item_limit_s
    return min(began + limits.item_limit_s, max(item.deadline, began) + limits.kill_grace_s)
