"""Whether the laboratory may start something now: packages, memory, and the environment of its processes."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Final

from steadyocr.errors import InvalidOption, MemoryPressure
from steadyocr.runtime.cpu import available_threads, training_pays_in_bf16
from steadyocr.scheduling.governor import detect_budget_bytes
from steadyocr.scheduling.pressure import read_signals
from steadyocr.service.lab_child import Limits
from steadyocr.settings.page import LabSettings

_PACKAGES: Final = ("torch", "onnx", "pyclipper")
# Decoded pictures that training keeps.
PICTURE_CACHE_MB: Final = 256
# Resident memory without those pictures: fixed, and for each pixel of the crops in hand. Measured with the ResNet-18
# detector on a CPU. In bf16 0.68 GB with one crop of 320 x 320, 1.08 with two and 1.29 with four of 640 x 640; in
# float32 1.01, 1.60 and 2.53 GB, 3.57 with eight of 640 x 640 and 3.90 with four of 960 x 960.
_TRAIN_BYTES_BF16: Final = (700 << 20, 450)
_TRAIN_BYTES_F32: Final = (960 << 20, 1000)
_EXPORT_BYTES: Final = 1500 << 20


def unavailable_reason(settings: LabSettings) -> str:
    """Why there is no laboratory here; empty when there is. Looks the packages up without running their code."""
    if not settings.enabled:
        return "fine-tuning and export are switched off (lab.enabled)"
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed, which serving does not need: pip install 'steadyocr[training]'"
    return ""


def training_bytes(batch_size: int, crop_size: int) -> int:
    """Predict what a training process will hold, in bytes."""
    fixed, per_pixel = _TRAIN_BYTES_BF16 if training_pays_in_bf16() else _TRAIN_BYTES_F32
    return (PICTURE_CACHE_MB << 20) + fixed + batch_size * crop_size * crop_size * per_pixel


def export_bytes() -> int:
    """Predict what an exporting process will hold, in bytes."""
    return _EXPORT_BYTES


def refuse_short_memory(settings: LabSettings, needed_bytes: int, growing_bytes: int = 0) -> None:
    """Refuse what would not fit.

    Args:
        settings: The limits.
        needed_bytes: What it will hold.
        growing_bytes: What runs already will take beyond what it holds now.

    Raises:
        InvalidOption: It never will, by the configuration.
        MemoryPressure: It does not now.
    """
    if needed_bytes > settings.max_memory_bytes:
        raise InvalidOption(
            f"this needs about {_in_gb(needed_bytes)}, and lab.max_memory_bytes allows "
            f"{_in_gb(settings.max_memory_bytes)}; a smaller batch needs less",
            option="batch_size",
        )
    available = free_memory_bytes() - growing_bytes
    if needed_bytes + settings.min_free_memory_bytes > available:
        raise MemoryPressure(
            f"memory is short: this needs about {_in_gb(needed_bytes)} and {_in_gb(max(0, available))} are free, of "
            f"which {_in_gb(settings.min_free_memory_bytes)} belong to serving; try a smaller batch, or later",
            retry_after_s=60.0,
            needed_bytes=needed_bytes,
            available_bytes=max(0, available),
        )


def free_memory_bytes() -> int:
    """Return what is free under the tightest limit, in bytes."""
    return int(detect_budget_bytes() * (1.0 - read_signals().used))


def threads_of(settings: LabSettings) -> int:
    """Return how many threads one process gets."""
    return settings.threads or max(1, available_threads() // 2)


def limits_of(settings: LabSettings) -> Limits:
    """Return what one process may take."""
    return Limits(memory_bytes=settings.max_memory_bytes, nice=settings.nice, seconds=settings.max_hours * 3600.0)


def environment_of(data_dir: Path, threads: int) -> dict[str, str]:
    """Return the environment of a process: ours without its settings and keys, with the folder of models."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("STEADYOCR_")}
    count = str(threads)
    return {
        **inherited,
        "STEADYOCR_DATA_DIR": str(data_dir),
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        # Threads that wait for work sleep: spinning ones take the cores that serving needs, and the trainer's own.
        "OMP_WAIT_POLICY": "PASSIVE",
        "MALLOC_ARENA_MAX": "2",
        "PYTHONUNBUFFERED": "1",
        # A plain log, not a terminal's.
        "NO_COLOR": "1",
        "COLUMNS": "160",
    }


def _in_gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
