"""Tells clients that their jobs have ended: one loop that looks for what is due and lets each delivery go on its own.

A few are under way at the same time, and no receiver holds more than half of the places, so one that does not answer
holds up its own deliveries and nobody else's.

What is due, and how often it was tried, is in the store, so it survives whatever happens to this process; of several
nodes one takes it. A receiver may get the same delivery twice (when its answer was lost) and tells by the id.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any, Final

from steadyocr.errors import InvalidOption, SteadyOCRError
from steadyocr.jobs.async_store import AsyncJobStore
from steadyocr.jobs.config import WebhookConfig
from steadyocr.jobs.models import ENDED, Job
from steadyocr.jobs.webhook_address import parse_target
from steadyocr.jobs.webhook_models import Delivery, DeliveryOutcome, receiver_of
from steadyocr.jobs.webhook_names import Names, NamesBusy
from steadyocr.jobs.webhook_post import BadAnswer, RefusedAddress, post, signed_headers
from steadyocr.telemetry.loops import Loops

_log = logging.getLogger("steadyocr.jobs")

# The receiver says that nobody wants it any more.
_GONE: Final = 410
_JITTER: Final = 0.2


class Deliverer:
    """Sends what is due until its loop is stopped. Belongs to one event loop.

    Attributes:
        outcomes: How many tries went which way.
    """

    def __init__(self, jobs: AsyncJobStore, config: WebhookConfig) -> None:
        self.outcomes: Counter[str] = Counter()
        self._jobs = jobs
        self._config = config
        self._names = Names()
        self._under_way: Counter[str] = Counter()
        self._ended = asyncio.Event()

    def start(self, loops: Loops) -> None:
        """Start to send."""
        loops.start("job-webhooks", self._run())

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                self._ended.clear()
                delivery = await self._next()
                if delivery is not None:
                    receiver = receiver_of(delivery.url)
                    self._under_way[receiver] += 1
                    group.create_task(self._deliver(delivery, receiver))
                    continue
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._config.poll_s):
                        await self._ended.wait()

    async def _next(self) -> Delivery | None:
        """Take what is due next, if there is a place for it; receivers that hold their share of the places wait."""
        config = self._config
        if self._under_way.total() >= config.at_once:
            return None
        share = max(1, config.at_once // 2)
        busy = [receiver for receiver, count in self._under_way.items() if count >= share]
        # The lease covers the try and the time to write it down.
        lease_s = 2 * config.timeout_s + 30.0
        try:
            due = await self._jobs.run(self._jobs.store.claim_deliveries, limit=1, lease_s=lease_s, except_to=busy)
        except SteadyOCRError as error:
            _log.warning("Webhooks cannot be looked for", extra={"code": error.code})
            return None
        return due[0] if due else None

    async def _deliver(self, delivery: Delivery, receiver: str) -> None:
        try:
            outcome = await self._try(delivery)
            self.outcomes[_word(outcome)] += 1
            await self._jobs.run(self._jobs.store.settle_delivery, delivery, outcome)
            _log.info(
                "Tried a webhook",
                extra={
                    "job_id": delivery.job.id,
                    "outcome": _word(outcome),
                    "attempts": delivery.attempts,
                    "status": outcome.status,
                },
            )
        except SteadyOCRError as error:
            # It comes up again when its lease has run out, and is sent a second time.
            extra = {"job_id": delivery.job.id, "code": error.code}
            _log.warning("How a webhook went cannot be written down", extra=extra)
        finally:
            self._under_way -= Counter((receiver,))
            self._ended.set()

    async def _try(self, delivery: Delivery) -> DeliveryOutcome:
        if delivery.attempts > self._config.max_attempts:
            return DeliveryOutcome(delivered=False, problem="each try was broken off")
        try:
            async with asyncio.timeout(self._config.timeout_s):
                status = await self._send(delivery)
        except (RefusedAddress, InvalidOption):
            return DeliveryOutcome(delivered=False, problem="the address is not public and not allowed")
        except (TimeoutError, OSError, NamesBusy, BadAnswer, ValueError) as error:
            return self._failed(delivery, None, _plain(error))
        if 200 <= status < 300:
            return DeliveryOutcome(delivered=True, status=status)
        return self._failed(delivery, status, f"the answer was {status}")

    async def _send(self, delivery: Delivery) -> int:
        body = json.dumps(payload(delivery.job), ensure_ascii=False, separators=(",", ":")).encode()
        headers = signed_headers(self._config.secret, delivery.id, int(time.time()), body)
        return await post(parse_target(delivery.url), headers, body, self._names, self._config.networks)

    def _failed(self, delivery: Delivery, status: int | None, problem: str) -> DeliveryOutcome:
        again = delivery.attempts < self._config.max_attempts and status != _GONE
        wait_s = self._config.backoff_s(delivery.attempts) * random.uniform(1.0, 1.0 + _JITTER)
        return DeliveryOutcome(delivered=False, status=status, problem=problem, retry_in_s=wait_s if again else None)


def payload(ended: Job) -> dict[str, Any]:
    """Return what a receiver is told: which job, how it ended, and the client's own values."""
    data = {
        "id": ended.id,
        "state": ended.state.value,
        "total": ended.total,
        **{kind.value: getattr(ended, kind.value) for kind in ENDED},
        "created_at": ended.created_at,
        "finished_at": ended.finished_at,
        "meta": dict(ended.meta),
    }
    finished = datetime.fromtimestamp(ended.finished_at or 0.0, UTC).isoformat(timespec="milliseconds")
    return {"type": "job.finished", "timestamp": finished, "data": data}


def _word(outcome: DeliveryOutcome) -> str:
    if outcome.delivered:
        return "delivered"
    return "failed" if outcome.retry_in_s is None else "retry"


def _plain(error: Exception) -> str:
    """Say what was wrong in words of ours: the library's own may hold the address."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, NamesBusy):
        return "too many names are being looked up"
    return "the answer was not HTTP" if isinstance(error, BadAnswer) else "cannot be reached"
