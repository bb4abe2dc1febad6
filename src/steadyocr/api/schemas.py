"""What answers look like on the wire; for the OpenAPI document. Answers themselves pass through unparsed."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

Point = tuple[float, float]


class ImageOut(BaseModel):
    """The picture that the quads belong to, as viewed."""

    width: int = Field(description="pixels, EXIF orientation applied")
    height: int
    exif_orientation: int = Field(description="the value that was applied; 1 means nothing was turned")
    stored_to_viewed: tuple[tuple[float, float, float], tuple[float, float, float]] = Field(
        description="2x3 affine transform from stored to viewed pixel coordinates"
    )
    format: str
    frame: int
    frames: int


class LineOut(BaseModel):
    """One text line, in reading order."""

    id: int
    quad: tuple[Point, Point, Point, Point] = Field(description="clockwise from top-left, pixels as viewed")
    score: float = Field(description="mean text probability inside the quad")
    text: str
    text_score: float | None = Field(description="mean character probability; null without recognition")


class DegradationOut(BaseModel):
    """What was taken away from full quality."""

    reason: str
    steps: list[str]
    effective_scale: float = Field(description="detector pixels per picture pixel")


class ModelOut(BaseModel):
    """A model that answered."""

    name: str
    sha256: str
    backend: str


class PageOut(BaseModel):
    """The answer for one picture."""

    image: ImageOut
    lines: list[LineOut]
    text: str
    degraded: DegradationOut | None
    timings_ms: dict[str, float]
    model: dict[str, ModelOut]
    options: dict[str, Any]
    request_id: str
    map_id: str | None = Field(None, description="with keep_map only; null where it could not be kept")
    history_id: str | None = Field(None, description="with keep only; null where it could not be kept")


class ProblemOut(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str = Field(description="stable; react to this")
    request_id: str
    retryable: bool
