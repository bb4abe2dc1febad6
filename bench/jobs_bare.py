"""The pipeline on its own, as an engine runs it, without anything around it: what a batch is measured against.

Speaks lines: ``ready`` once its models are loaded, then for each line it is sent it reads all pictures of the folder
once and says how many seconds that took. Started by :mod:`bench.jobs`.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from steadyocr.scheduling.worker import _build_pipeline
from steadyocr.settings import Settings
from steadyocr.types import OcrOptions


def main(folder: str) -> None:
    """Read the folder's pictures whenever told to."""
    pipeline = _build_pipeline(Settings(data_dir=Path(folder).parent / "bare").scheduler_config().slot.engine)
    pictures = [path.read_bytes() for path in sorted(Path(folder).iterdir())]
    for data in pictures[:3]:
        pipeline.read(data, OcrOptions())
    print("ready", flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        for data in pictures:
            pipeline.read(data, OcrOptions())
        print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
