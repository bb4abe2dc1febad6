"""What an engine process is told when it starts. Plain values, no inference library in sight."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Configuration of one engine process.

    Attributes:
        detector: Name of the detection model.
        recogniser: Name of the recognition model.
        user_models: Folder of the user's own models, or ``None``.
        backend: Inference library.
        precision: ``auto`` uses bf16 where the CPU is faster with it.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        device_memory_share: Of the card's memory, that one engine may take, from 0 to 1.
        threads: Threads of one inference.
        core_share: What it can count on of one core while all engines work: less than 1 under a small quota.
        max_bytes: Largest encoded picture, in bytes.
        max_pixels: Largest picture, in pixels.
        max_side_ratio: Longest side over shortest.
        memory_slack_bytes: After an item the engine may hold this much more than after warm-up before it gives
            scratch memory back.
        scratch_bytes: Likewise, while more work waits. Giving back and taking again costs a quarter of the time of a
            page full of text.
        cache_dir: Folder for measurements of this machine, or ``None``.
        log_level: Threshold of the engine's log lines.
    """

    detector: str
    recogniser: str
    user_models: str | None = None
    backend: Literal["auto", "openvino", "onnxruntime", "torch"] = "auto"
    precision: Literal["auto", "f32"] = "auto"
    device: str = "cpu"
    device_memory_share: float = 1.0
    threads: int = 1
    core_share: float = 1.0
    max_bytes: int = 32 << 20
    max_pixels: int = 64_000_000
    max_side_ratio: float = 100.0
    memory_slack_bytes: int = 32 << 20
    scratch_bytes: int = 512 << 20
    cache_dir: str | None = None
    log_level: str = "info"

    def to_wire(self) -> dict[str, Any]:
        """Return plain values."""
        return dataclasses.asdict(self)
