"""Which size a picture gets for the detector: arithmetic only, so that the front can predict with it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ResizePlan:
    """Sizes before, within and after, in pixels.

    Attributes:
        width: Of the picture.
        height: Of the picture.
        content_width: Of the picture inside the network's input.
        content_height: Of the picture inside the network's input.
        padded_width: Of the network's input.
        padded_height: Of the network's input.
    """

    width: int
    height: int
    content_width: int
    content_height: int
    padded_width: int
    padded_height: int

    @property
    def scale_x(self) -> float:
        """Network pixels per picture pixel along x."""
        return self.content_width / self.width

    @property
    def scale_y(self) -> float:
        """Network pixels per picture pixel along y."""
        return self.content_height / self.height

    @property
    def effective_scale(self) -> float:
        """Network pixels per picture pixel along the longer side, at most 1."""
        return self.scale_x if self.width >= self.height else self.scale_y


def plan_resize(width: int, height: int, max_side: int, *, stride: int = 32, bucket: int | None = None) -> ResizePlan:
    """Plan the resize of a picture: never larger, ratio kept to within a pixel.

    The longer padded side is at most `max_side` rounded up to the bucket.

    Args:
        width: Of the picture, in pixels.
        height: Of the picture, in pixels.
        max_side: Longest side of the content, in pixels.
        stride: Both padded sides are multiples of this.
        bucket: A coarser step for the padded sides, a multiple of `stride`; ``None`` for the stride itself.

    Raises:
        ValueError: A size is below 1, or the bucket is not a multiple of the stride.
    """
    step = bucket if bucket is not None else stride
    if min(width, height, max_side, stride, step) < 1:
        raise ValueError("sizes must be at least 1")
    if step % stride:
        raise ValueError(f"bucket {step} is not a multiple of the stride {stride}")
    scale = min(1.0, max_side / max(width, height))
    content_width = max(1, round(width * scale))
    content_height = max(1, round(height * scale))
    return ResizePlan(
        width=width,
        height=height,
        content_width=content_width,
        content_height=content_height,
        padded_width=round_up(content_width, step),
        padded_height=round_up(content_height, step),
    )


def round_up(size: int, step: int) -> int:
    """Return the smallest multiple of a step that is not below a size."""
    return -(-size // step) * step
