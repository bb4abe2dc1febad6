"""What companions do again and again, without a fault in it reaching the service."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

AFTER_FAULT_S: Final = 30.0


async def repeat(step: Callable[[], Awaitable[None]], period_s: float, log: logging.Logger, fault: str) -> None:
    """Repeat a step for ever. A fault in it is logged: a loop that died would make the service unready.

    Args:
        step: What is done.
        period_s: Pause after each time, in seconds.
        log: Where a fault is told.
        fault: What is said then.
    """
    while True:
        try:
            await step()
        except Exception:
            log.exception(fault)
            await asyncio.sleep(AFTER_FAULT_S)
        await asyncio.sleep(period_s)
