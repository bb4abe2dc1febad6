"""The values of completion webhooks: who is told that a job has ended, and how far that is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from steadyocr.jobs.models import Job


class WebhookState(StrEnum):
    """Where a webhook stands."""

    WAITING = "waiting"
    DUE = "due"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """A job's webhook as it stands.

    Attributes:
        round: How often the job has ended; each end is told once.
        attempts: Tries of the current round.
        next_at: When it is tried next, while it is due.
        status: The last answer's HTTP status.
        problem: What was wrong with the last try, in plain words; never the address.
    """

    job_id: str
    url: str
    state: WebhookState
    round: int
    attempts: int
    next_at: float | None
    delivered_at: float | None
    status: int | None
    problem: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """The right to try one delivery, for a while.

    Attributes:
        id: The same for every try of one end of one job, so that a receiver can drop what it has had.
        token: Fencing token: only who holds the current one may say how it went.
        attempts: Tries so far, this one included.
    """

    id: str
    job: Job
    url: str
    token: str
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryOutcome:
    """How a try went.

    Attributes:
        retry_in_s: Seconds until the next try; ``None`` when there is none.
    """

    delivered: bool
    status: int | None = None
    problem: str | None = None
    retry_in_s: float | None = None


def receiver_of(url: str) -> str:
    """Return who receives a webhook: the host of its URL, in one spelling.

    Without the port: whoever does not answer at one need not answer at another either, and there are many.
    """
    place = re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0]
    host = place[: place.find("]") + 1] if place.startswith("[") else place.partition(":")[0]
    return host.lower().removesuffix(".")
