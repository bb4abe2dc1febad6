"""The measurements for a card run without one, as far as a CPU goes: on the day that there is a card they must."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "onnx")), reason="the torch backend is not here"
)


def test_each_part_says_what_it_measured_or_why_not() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.gpu", "--device", "cpu", "--quick"],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["what"] for row in rows] == [
        "golden",
        "environment",
        "size",
        "in_a_row",
        "batch",
        "batch",
        "full_card",
        "dead_card",
        "graphs",
    ]
    assert not [row for row in rows if "failed" in row]
    assert rows[0]["ok"]
    assert rows[2]["lines"] == 2
    assert [row["what"] for row in rows if "skipped" in row] == ["full_card", "dead_card", "graphs"]
