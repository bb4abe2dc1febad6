"""What a process holds, as the C library and the kernel tell it."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from steadyocr.runtime import memory

_MIB = 1 << 20


def test_the_heap_grows_with_what_is_taken_and_shrinks_with_what_is_given_back() -> None:
    before = memory.heap_bytes()
    small, large = [bytearray(20_000) for _ in range(1000)], bytearray(64 * _MIB)
    held = memory.heap_bytes() - before
    assert 80 * _MIB < held < 90 * _MIB
    del small, large
    assert memory.heap_bytes() - before < 2 * _MIB


def test_without_a_c_library_that_tells_the_heap_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_mallinfo2", lambda: None)
    assert memory.heap_bytes() == 0


def test_resident_memory_is_what_was_touched() -> None:
    # What other tests left free in this process would be taken first.
    memory.trim()
    before = memory.rss_bytes()
    memory.reset_peak_rss()
    taken = bytearray(64 * _MIB)
    taken[:: 1 << 12] = b"x" * len(taken[:: 1 << 12])
    assert memory.rss_bytes() - before > 60 * _MIB
    del taken
    memory.trim()
    assert memory.rss_bytes() - before < 16 * _MIB
    assert memory.peak_rss_bytes() - before > 60 * _MIB


def test_a_process_that_is_gone_holds_nothing() -> None:
    assert memory.rss_bytes(2**22 + 1) == 0


def test_asking_after_oneself_leaves_nothing_in_the_interpreters_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new path interns its parts, and an engine asks after every picture."""
    monkeypatch.setattr(memory, "Path", None)
    memory.reset_peak_rss()
    assert 0 < memory.rss_bytes() <= memory.peak_rss_bytes() * 1.01


def test_names_that_were_asked_for_go_with_the_rest() -> None:
    """The interpreter keeps them in its cache of attributes, where they looked like a leak."""
    memory.trim()
    before = sys.getallocatedblocks()
    for name in [f"name {number}" for number in range(3000)]:
        getattr(memory, name, None)
    assert sys.getallocatedblocks() - before > 250, "they are not kept, or there is nothing to mend"
    memory.trim()
    assert sys.getallocatedblocks() - before < 50


_COMES_AND_GOES = """
import sys
from steadyocr.runtime import memory
if sys.argv[1] == "back":
    memory.give_back_large_blocks()
before = memory.rss_bytes()
for megabytes in (20, 15):
    block = b"x" * (megabytes << 20)
    del block
print(memory.rss_bytes() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has its own ways")
def test_large_blocks_go_back_at_once() -> None:
    def kept(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", _COMES_AND_GOES, how], check=True, capture_output=True, text=True)
        return int(done.stdout)

    assert kept("by itself") > 10 << 20, "the second one is kept, or there is nothing to mend"
    assert kept("back") < 1 << 20
