"""The real engine process with a weakness: pictures that end in a marker do to it what bad pictures do to engines."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import time
from pathlib import Path
from typing import Any

from steadyocr.pipeline.ocr import OcrPipeline
from steadyocr.runtime.base import DeviceMemoryError
from steadyocr.scheduling import worker

_MARKER = re.compile(rb"#weakness:([a-z_]+)$")
_read = OcrPipeline.read
_met: set[str] = set()


def eat_memory() -> None:
    """Take memory until there is none; the bound stands for the machine's, so that the machine itself is spared."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (512 << 20), before[1]))
    try:
        eaten = []
        while True:
            eaten.append(b"\1" * (16 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


_detect = OcrPipeline._detect
_hungry: list[OcrPipeline] = []


def read(self: OcrPipeline, data: bytes, *arguments: Any, **options: Any) -> Any:
    found = _MARKER.search(data[-32:])
    match found[1].decode() if found else "":
        case "segfault":
            ctypes.string_at(0)
        case "exit":
            os._exit(9)
        case "hang" | "nap" | "doze" as kind:
            # A nap is long enough to be met at work, without a sign of life meanwhile; a doze, for others to do much.
            time.sleep({"hang": 3600, "nap": 0.3, "doze": 6}[kind])
        case "loop":
            # Native code that computes for ever and lets no other thread run.
            re.match(r"(a+)+$", "a" * 64 + "b")
        case "hog":
            eat_memory()
        case "device_memory" if "device_memory" not in _met:
            _met.add("device_memory")
            raise DeviceMemoryError("the accelerator has not enough memory for this picture")
        case "memory_hog":
            _hungry.append(self)
        case "memory_error":
            raise MemoryError
        case "bug":
            raise RuntimeError("a fault of ours")
    return _read(self, data, *arguments, **options)


def detect(self: OcrPipeline, *arguments: Any, **options: Any) -> Any:
    """Eat memory in the middle of the work: until the kernel ends it, or like a native library where a limit is set."""
    kept = []
    while _hungry:
        try:
            kept.append(b"x" * (16 << 20))
        except MemoryError:
            os.abort()
    return _detect(self, *arguments, **options)


if __name__ == "__main__":
    OcrPipeline.read = read  # type: ignore[method-assign]
    OcrPipeline._detect = detect  # type: ignore[method-assign]
    raise SystemExit(worker.main())
