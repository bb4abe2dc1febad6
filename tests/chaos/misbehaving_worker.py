"""The real engine process with a weakness: pictures that end in a marker do to it what bad pictures do to engines."""

from __future__ import annotations

import ctypes
import os
import re
import time
from typing import Any

from steadyocr.pipeline.ocr import OcrPipeline
from steadyocr.scheduling import worker

_MARKER = re.compile(rb"#weakness:([a-z_]+)$")
_read = OcrPipeline.read


def read(self: OcrPipeline, data: bytes, *arguments: Any, **options: Any) -> Any:
    found = _MARKER.search(data[-32:])
    match found[1].decode() if found else "":
        case "segfault":
            ctypes.string_at(0)
        case "exit":
            os._exit(9)
        case "hang":
            time.sleep(3600)
        case "memory_error":
            raise MemoryError
        case "bug":
            raise RuntimeError("a fault of ours")
    return _read(self, data, *arguments, **options)


if __name__ == "__main__":
    OcrPipeline.read = read  # type: ignore[method-assign]
    raise SystemExit(worker.main())
