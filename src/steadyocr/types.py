"""Values that cross the layers. Plain Python only: the front process imports this and nothing heavier.

Coordinates are pixels of the picture **as viewed** (EXIF orientation applied), x then y, as floats; a quad runs
clockwise from its top-left corner, seen in reading direction. Sizes are (width, height).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

Point = tuple[float, float]
Quad = tuple[Point, Point, Point, Point]
Affine = tuple[tuple[float, float, float], tuple[float, float, float]]

Quality = Literal["shrink", "tile"]
DegradationReason = Literal["max_side", "memory_pressure", "engine_died"]


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """The picture that the quads belong to.

    Attributes:
        width: Width as viewed, in pixels.
        height: Height as viewed, in pixels.
        exif_orientation: The EXIF value that was applied, 1 to 8; 1 means nothing was turned.
        stored_to_viewed: 2x3 affine transform from stored pixel coordinates to viewed ones.
        format: Container format, lower case (``jpeg``, ``png``, …).
        frame: Index of the frame or page that was read.
        frames: How many the file holds.
    """

    width: int
    height: int
    exif_orientation: int = 1
    stored_to_viewed: Affine = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
    format: str = ""
    frame: int = 0
    frames: int = 1


@dataclass(frozen=True, slots=True)
class TextLine:
    """One text line.

    Attributes:
        id: Place in reading order, from 0.
        quad: Its corners.
        score: Mean text probability inside the quad, 0 to 1.
        text: What was read; empty when recognition was not asked for or nothing was read.
        text_score: Mean character probability, 0 to 1; ``None`` when recognition was not asked for.
    """

    id: int
    quad: Quad
    score: float
    text: str = ""
    text_score: float | None = None


@dataclass(frozen=True, slots=True)
class Degradation:
    """What was taken away from full quality, and why.

    Attributes:
        reason: What forced it: the request's or the default side, memory, or an engine that died of the picture at
            full size.
        steps: The steps taken, in order, as short stable words.
        effective_scale: Detector pixels per picture pixel, at most 1.
    """

    reason: DegradationReason
    steps: tuple[str, ...]
    effective_scale: float


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which model answered: manifest name, hash of its file, backend that ran it."""

    name: str
    sha256: str
    backend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OcrOptions:
    """What a caller may ask for; ``None`` means the model's own default.

    Attributes:
        bin_threshold: Probability above which a pixel counts as text, 0 to 1.
        box_threshold: Mean probability below which a quad is dropped, 0 to 1.
        unclip_ratio: How far the shrunk region is grown back (DB paper, section 3.4):
            offset = area x ratio / perimeter.
        max_side: Longest side given to the detector, in pixels; larger pictures are shrunk, ratio kept.
        quality: ``shrink`` looks once at the whole picture, ``tile`` at native scale, piece by piece.
        recognise: Whether to read the lines or only find them.
        overlay: Whether to draw the quads into the picture as well.
    """

    bin_threshold: float | None = None
    box_threshold: float | None = None
    unclip_ratio: float | None = None
    max_side: int | None = None
    quality: Quality = "shrink"
    recognise: bool = True
    overlay: bool = False

    def to_wire(self) -> dict[str, Any]:
        """Return plain values."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True)
class SideCap:
    """A side limit that the service sets below what the request asked for.

    Attributes:
        max_side: Longest side given to the detector, in pixels.
        steps: The steps of the ladder behind it, as short stable words.
        reason: Why.
    """

    max_side: int
    steps: tuple[str, ...]
    reason: DegradationReason = "memory_pressure"


@dataclass(frozen=True, slots=True)
class Page:
    """The answer for one picture.

    Attributes:
        image: The picture's size and orientation.
        lines: Text lines in reading order.
        degraded: What was taken away, or ``None``.
        timings_ms: Milliseconds by stage.
        models: The models that answered, by part (``detector``, ``recogniser``).
        options: The options in effect, every default filled in.
    """

    image: ImageInfo
    lines: tuple[TextLine, ...]
    degraded: Degradation | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)
    models: dict[str, ModelIdentity] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """All lines in reading order, one to a row."""
        return "\n".join(line.text for line in self.lines if line.text)

    def to_wire(self) -> dict[str, Any]:
        """Return the page as plain values, the shape that clients see."""
        image = dataclasses.asdict(self.image)
        return {
            "image": image,
            "lines": [dataclasses.asdict(line) for line in self.lines],
            "text": self.text,
            "degraded": dataclasses.asdict(self.degraded) if self.degraded else None,
            "timings_ms": self.timings_ms,
            "model": {part: dataclasses.asdict(model) for part, model in self.models.items()},
            "options": self.options,
        }
