"""This process's memory: how much it holds and how to hand it back."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import cast

from steadyocr.runtime.cpu import cgroup_folders

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# Made once: each new path enters its parts into the interpreter's table of interned strings, and an engine that asked
# after every picture saw that table double after some thousand, a megabyte that looked like a leak.
_OWN_STATM = Path("/proc/self/statm")
_OWN_STATUS = Path("/proc/self/status")
_OWN_CLEAR_REFS = Path("/proc/self/clear_refs")
_PR_SET_THP_DISABLE = 41  # linux/prctl.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGE_BYTES = 1 << 20
# For engines, which take large blocks all the time: from the heap the smaller ones of them cost less.
LARGE_FOR_ENGINES = 4 << 20
# cgroup v1 writes "no limit" as the largest page-aligned 63-bit number.
_NO_LIMIT = 1 << 60


def rss_bytes(pid: int | None = None) -> int:
    """Return the resident memory of a process (this one by default), in bytes; 0 when it is gone."""
    try:
        fields = (Path(f"/proc/{pid}/statm") if pid else _OWN_STATM).read_text().split()
    except OSError:
        return 0
    return int(fields[1]) * _PAGE_BYTES


def peak_rss_bytes() -> int:
    """Return this process's highest resident memory since :func:`reset_peak_rss`, in bytes."""
    for line in _OWN_STATUS.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def reset_peak_rss() -> None:
    """Let :func:`peak_rss_bytes` count from now on, where the kernel allows it."""
    try:
        _OWN_CLEAR_REFS.write_text("5")
    except OSError:
        return


def memory_limit_bytes(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int | None:
    """Return the tightest cgroup memory limit on the path to the root, v1 or v2, or ``None`` without one."""
    limits: list[int] = []
    for controller, name in (("", "memory.max"), ("memory", "memory.limit_in_bytes")):
        for folder in cgroup_folders(root, membership, controller):
            try:
                value = (folder / name).read_text().strip()
            except OSError:
                continue
            if value.isdigit() and int(value) < _NO_LIMIT:
                limits.append(int(value))
    return min(limits, default=None)


def machine_bytes() -> int:
    """Return the machine's memory, in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * _PAGE_BYTES


class _MallInfo(ctypes.Structure):
    """glibc's ``struct mallinfo2`` (malloc.h)."""

    _names = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    _fields_ = [(name, ctypes.c_size_t) for name in _names]


@cache
def _mallinfo2() -> Callable[[], _MallInfo] | None:
    try:
        tell = ctypes.CDLL(None).mallinfo2
    except (OSError, AttributeError):  # another C library, or glibc before 2.33
        return None
    tell.restype = _MallInfo
    return cast("Callable[[], _MallInfo]", tell)


def heap_bytes() -> int:
    """Return what is in use in the C heap, in bytes, or 0 where the C library does not tell.

    Where memory was taken and not given back, this grows; where it is in pieces, only :func:`rss_bytes` does.
    """
    tell = _mallinfo2()
    if tell is None:
        return 0
    info = tell()
    return int(info.uordblks + info.hblkhd)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # another C library: nothing to trim
        return None
    return trim


def keep_all_there_is() -> None:
    """Let the garbage collector leave alone what is there now: modules, models, all that stays to the end.

    To look through a quarter of a million objects that never go takes 35 ms, each time.
    """
    gc.collect()
    gc.freeze()


def refuse_huge_pages() -> None:
    """Have this process's memory in small pages only, where the kernel is Linux.

    In huge ones the kernel gives 2 MiB where one byte is touched, and later gathers pieces of a freed range into one
    again, so what :func:`trim` hands back returns by itself. NumPy asks for them in every array of 4 MiB, and the mark
    stays on the heap when the array has gone.
    """
    with contextlib.suppress(OSError, AttributeError):  # not Linux
        ctypes.CDLL(None).prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0)


def give_back_large_blocks(least_bytes: int = _LARGE_BYTES) -> None:
    """Have large blocks taken from the system one by one and given back as soon as they are free (glibc).

    By itself glibc takes such blocks from the heap after the first that was freed, and then keeps up to 64 MiB of freed
    ones at its top.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, least_bytes)
        library.mallopt(_M_TRIM_THRESHOLD, _LARGE_BYTES)


@cache
def _clear_attribute_cache() -> Callable[[], None] | None:
    names = ("_clear_internal_caches", "_clear_type_cache")  # CPython since 3.13, and before
    return next((getattr(sys, name) for name in names if hasattr(sys, name)), None)


def trim() -> None:
    """Collect garbage and hand freed heap pages back to the system (glibc ``malloc_trim``).

    CPython's cache of attribute lookups is emptied too. Each of its 4096 slots keeps the name that was asked for, and
    names put together while a picture is read (``chunk_IDAT``, by Pillow) take one slot after the other for thousands
    of pictures: a quarter of a megabyte that looks like a leak.
    """
    gc.collect()
    clear = _clear_attribute_cache()
    if clear is not None:
        clear()
    release = _malloc_trim()
    if release is not None:
        release(0)
