"""The front process never imports a picture or inference library, and so never decodes a picture."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support import KnownPicture, RunningServer

HEAVY = ("cv2", "PIL", "numpy", "openvino", "onnxruntime", "torch", "rapidocr")


def loaded_after(code: str) -> list[str]:
    report = f"import sys\n{code}\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.split()


def heavy_files(pid: int) -> set[str]:
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    paths = {line.split(maxsplit=5)[5] for line in lines if "/" in line}
    return {path for path in paths if any(f"/{name}" in path or f"lib{name}" in path for name in HEAVY)}


def test_the_check_itself_sees_a_heavy_import() -> None:
    assert loaded_after("import numpy, cv2") == ["cv2", "numpy"]


@pytest.mark.parametrize(
    "module", ["steadyocr.api.server", "steadyocr.service", "steadyocr.cli.main", "steadyocr.cli.ocr"]
)
def test_importing_the_front_loads_nothing_heavy(module: str) -> None:
    assert loaded_after(f"import {module}") == []


def test_a_front_that_has_served_maps_nothing_heavy(server: RunningServer, english: KnownPicture) -> None:
    server.ocr(english.data)
    server.client.get("/healthz").raise_for_status()
    assert heavy_files(server.engine_pid()) != set(), "the check must see them where they are"
    assert heavy_files(server.pid) == set()
