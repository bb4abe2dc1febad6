"""What was seen of the memory of engines at work."""

from __future__ import annotations

import os

from flight_support import MIB, FakeKernel
from steadyocr.ops.flight.memory_watch import MemoryWatch, high_water_bytes


def test_the_last_mark_seen_is_kept_until_the_end_is_told() -> None:
    kernel = FakeKernel()
    watch = kernel.watch()
    kernel.marks = {1: 500 * MIB, 2: 300 * MIB}
    watch.look([1, 2])
    kernel.marks = {1: 600 * MIB}
    watch.look([1, 2])
    assert (watch.ended(1), watch.ended(2)) == (600 * MIB, 300 * MIB)
    assert (watch.ended(1), watch.ended(None), watch.ended(99)) == (0, 0, 0)


def test_what_the_real_kernel_says() -> None:
    assert high_water_bytes(os.getpid()) > 10 * MIB
    assert high_water_bytes(2**22 + 1) == 0


def test_memory_of_processes_is_bounded() -> None:
    watch = MemoryWatch(lambda pid: pid)
    watch.look(range(1, 10_000))
    assert [watch.ended(pid) for pid in (9_999, 9_744, 9_743)] == [9_999, 9_744, 0]
