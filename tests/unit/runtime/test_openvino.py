from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("openvino", reason="OpenVINO is for x86")

# Where the thread's stack for signals lies, after each of three sessions that come and go.
SCRIPT = """
import ctypes
import faulthandler
import gc

import numpy as np

from steadyocr.runtime.base import SessionOptions
from steadyocr.runtime.manifest import BUILTIN_MODELS
from steadyocr.runtime.openvino import OpenVINOSession


class Stack(ctypes.Structure):
    _fields_ = [("at", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


def place():
    stack = Stack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
    return stack.at


faulthandler.enable()
held = []
for _ in range(3):
    held.append(OpenVINOSession(BUILTIN_MODELS / "resnet18-db" / "model.onnx", SessionOptions(threads=1)))
    held[-1].run(np.zeros((1, 3, 32, 32), np.float32))
    print(place())
    del held[:-1]
    gc.collect()
    print(place())
"""


def test_sessions_that_come_and_go_leave_the_stack_for_signals_in_place() -> None:
    """Loaded for each session anew, the library's plugin left it in memory that was free; a signal then killed."""
    ran = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    places = ran.stdout.split()
    assert len(places) == 6
    assert len(set(places)) == 1
