"""Whose memory it was: marks of living engines and the kernel's figure over ended children."""

from __future__ import annotations

import os

from flight_support import MIB, FakeKernel
from steadyocr.ops.flight.memory_watch import MemoryWatch, Peak, children_peak_bytes, high_water_bytes


def test_the_kernels_figure_counts_when_this_engine_made_it_grow() -> None:
    kernel = FakeKernel()
    watch = kernel.watch()
    kernel.marks = {1: 500 * MIB, 2: 300 * MIB, 3: 400 * MIB}
    watch.look([1, 2, 3])
    kernel.largest_child = 2000 * MIB
    assert watch.ended(1) == Peak(2000 * MIB, exact=True)
    assert watch.ended(2) == Peak(300 * MIB, exact=False), "the figure is the other's"
    kernel.marks = {}
    watch.look([3])
    watch.ended_on_purpose(2)
    kernel.largest_child = 3000 * MIB
    watch.look([])
    assert watch.ended(3) == Peak(400 * MIB, exact=False), "a replaced engine made it grow"
    assert watch.ended(None) == watch.ended(99) == Peak(0, exact=False)


def test_what_other_children_of_the_front_took_is_not_an_engines() -> None:
    kernel = FakeKernel()
    watch = kernel.watch()
    kernel.marks = {1: 500 * MIB, 2: 400 * MIB}
    watch.look([1], idle=[2])
    # A run of the laboratory ends, while both engines live.
    kernel.largest_child = 3000 * MIB
    watch.look([1], idle=[2])
    del kernel.marks[1]
    watch.look([], idle=[2])
    assert watch.ended(1) == Peak(500 * MIB, exact=False)


def test_an_engine_that_is_gone_and_not_yet_told_of_keeps_its_figure() -> None:
    kernel = FakeKernel()
    watch = kernel.watch()
    kernel.marks = {1: 500 * MIB, 2: 400 * MIB}
    watch.look([1], idle=[2])
    del kernel.marks[1]
    kernel.largest_child = 2000 * MIB
    for _ in range(10):
        watch.look([2])
    assert watch.ended(1) == Peak(2000 * MIB, exact=True)


def test_an_engine_that_was_never_at_work_has_no_peak_of_its_own_but_its_end_counts() -> None:
    kernel = FakeKernel()
    watch = kernel.watch()
    kernel.marks = {1: 500 * MIB}
    watch.look([], idle=[1, 7])
    kernel.marks = {}
    watch.look([], idle=[1])
    assert watch.ended(1) == Peak(0, exact=False)
    watch.look([], idle=[1])
    kernel.largest_child = 900 * MIB
    watch.look([])
    kernel.marks = {3: 300 * MIB}
    watch.look([3])
    assert watch.ended(3) == Peak(300 * MIB, exact=False), "one that was told of holds nothing up"


def test_an_engine_whose_end_is_never_told_is_given_up() -> None:
    kernel = FakeKernel()
    watch = kernel.watch()
    kernel.marks = {1: 500 * MIB, 2: 400 * MIB}
    watch.look([1, 2])
    del kernel.marks[1]
    for _ in range(200):
        watch.look([2])
    kernel.largest_child = 2000 * MIB
    watch.look([2])
    assert watch.ended(2) == Peak(400 * MIB, exact=False)


def test_what_the_real_kernel_says() -> None:
    assert high_water_bytes(os.getpid()) > 10 * MIB
    assert high_water_bytes(2**22 + 1) == 0
    assert children_peak_bytes() >= 0


def test_memory_of_processes_is_bounded() -> None:
    watch = MemoryWatch(lambda pid: pid, lambda: 0)
    watch.look(range(1, 10_000))
    assert len(watch._seen) == 256
