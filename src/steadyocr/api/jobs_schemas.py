"""What the answers about jobs look like on the wire; for the OpenAPI document."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

JobStateName = Literal["queued", "running", "done", "cancelled", "expired"]
ItemStateName = Literal["queued", "leased", "done", "failed", "dead", "cancelled", "expired"]


class JobOut(BaseModel):
    """A job. Times are seconds since 1970; an archive counts as an item besides the pictures in it."""

    id: str
    state: JobStateName = Field(description="done says that all items have ended, well or not")
    priority: int
    created_at: float
    started_at: float | None
    finished_at: float | None = Field(description="null while an item waits or is being read")
    deadline: float | None = Field(description="what has not ended by then is given up; null when there is none")
    total: int = Field(description="items")
    done: int = Field(description="read")
    failed: int = Field(description="refused for what they are")
    dead: int = Field(description="given up after too many tries")
    cancelled: int
    expired: int = Field(description="not read before the deadline")
    running: int | None = Field(description="being read right now; null in lists")
    position: int | None = Field(description="items of other jobs that are taken before its last one; null in lists")
    eta_s: float | None = Field(description="seconds until it has ended, by the measured rate; null when not known")
    options: dict[str, Any]
    meta: dict[str, Any] = Field(description="as it was sent")
    stored_bytes: int


class JobsOut(BaseModel):
    """Jobs, newest first."""

    jobs: list[JobOut]
    next: str | None = Field(description="value of 'before' for the next page; null on the last one")


class ItemErrorOut(BaseModel):
    """Why an item failed, or what its last try ended with."""

    code: str
    message: str
    details: dict[str, Any]


class ItemOut(BaseModel):
    """An item."""

    position: int
    parent: int | None = Field(description="position of the archive it came from")
    name: str
    kind: Literal["read", "expand"] = Field(description="a picture, or an archive that becomes more items")
    state: ItemStateName
    size_bytes: int
    attempts: int
    started_at: float | None
    finished_at: float | None
    lines: int | None = Field(description="lines of text on it; null when not read, or when its result is a large one")
    error: ItemErrorOut | None
    overlay: str | None = Field(description="address of the overlay picture, relative to the service's root")


class ItemsOut(BaseModel):
    """Items by position."""

    items: list[ItemOut]
    next: int | None = Field(description="value of 'after' for the next page; null on the last one")


class AcceptedOut(BaseModel):
    """The answer of /batch without waiting."""

    status: Literal["accepted"]
    job_id: str
    total: int
    status_url: str
    results_url: str
