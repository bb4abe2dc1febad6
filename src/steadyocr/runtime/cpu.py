"""How many threads this process may really use, and the limits it lives under.

A container or a systemd unit with ``CPUQuota`` still shows all cores of its host. Threads sized from the host fight
over the quota and every one of them is slower, so the count follows affinity and the cgroup quota, v1 and v2.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

_CGROUP_ROOT = Path("/sys/fs/cgroup")
_PROC_CGROUP = Path("/proc/self/cgroup")
_CPUINFO = Path("/proc/cpuinfo")


def available_threads(root: Path = _CGROUP_ROOT, membership: Path = _PROC_CGROUP) -> int:
    """Return how many threads can run at the same time, at least 1.

    Args:
        root: Where the cgroup file systems are mounted.
        membership: This process's cgroup membership file.
    """
    return max(1, math.floor(available_cores(root, membership) + 0.01))


def available_cores(root: Path = _CGROUP_ROOT, membership: Path = _PROC_CGROUP) -> float:
    """Return how much of the processor this process and its children may take, in cores; a quota may leave parts.

    Args:
        root: Where the cgroup file systems are mounted.
        membership: This process's cgroup membership file.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota(root, membership)
    return min(cores, quota) if quota is not None else cores


def cpu_model(cpuinfo: Path = _CPUINFO) -> str:
    """Return the processor's name, or on ARM its numbers; empty where the kernel does not tell."""
    named: dict[str, str] = {}
    for line in _read(cpuinfo).splitlines():
        key, _, value = line.partition(":")
        named.setdefault(key.strip(), value.strip())
    parts = (named.get(key, "") for key in ("model name", "stepping", "CPU implementer", "CPU part", "CPU revision"))
    return " ".join(part for part in parts if part)


def cpu_flags(cpuinfo: Path = _CPUINFO) -> frozenset[str]:
    """Return the processor's features as the kernel names them; empty where it does not tell."""
    flags: set[str] = set()
    for line in _read(cpuinfo).splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            flags.update(value.split())
    return frozenset(flags)


def bf16_is_slow(cpuinfo: Path = _CPUINFO) -> bool:
    """Whether the processor computes in bf16 and is slower for it.

    ``avx512_bf16`` without AMX has a fast multiplication and no fast conversion: the text recogniser takes 46 ms where
    float32 takes 29, the detector 158 where float32 takes 102 (2 cores, OpenVINO 2026).
    """
    flags = cpu_flags(cpuinfo)
    return "avx512_bf16" in flags and "amx_bf16" not in flags


def training_pays_in_bf16(cpuinfo: Path = _CPUINFO) -> bool:
    """Whether torch trains faster in bf16 than in float32 on this processor.

    It computes in bf16 everywhere, and emulates what a processor cannot: on AVX2 a step takes more than ten times as
    long, on AMX 0.4 times. Other processors have not been measured and get float32.
    """
    return "amx_bf16" in cpu_flags(cpuinfo)


def cpu_quota(root: Path = _CGROUP_ROOT, membership: Path = _PROC_CGROUP) -> float | None:
    """Return the tightest CPU quota on the path to the root, in cores, or ``None`` without one."""
    quotas = [*_quotas_v2(root, membership), *_quotas_v1(root, membership)]
    return min(quotas, default=None)


def _quotas_v2(root: Path, membership: Path) -> Iterator[float]:
    for folder in cgroup_folders(root, membership, ""):
        words = _read(folder / "cpu.max").split()
        if len(words) == 2 and words[0] != "max":
            yield int(words[0]) / int(words[1])


def _quotas_v1(root: Path, membership: Path) -> Iterator[float]:
    for folder in cgroup_folders(root, membership, "cpu"):
        quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
        if quota and period and int(quota) > 0:
            yield int(quota) / int(period)


def cgroup_folders(root: Path, membership: Path, controller: str) -> Iterator[Path]:
    """Yield this process's folder in a hierarchy and all folders above it.

    Args:
        root: Where the cgroup file systems are mounted.
        membership: The membership file, lines ``id:controllers:path``.
        controller: A v1 controller (``cpu``, ``memory``); empty for the v2 hierarchy.
    """
    for line in _read(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        if controller not in controllers.split(","):
            continue
        mounts = [root / controllers, root / controller] if controller else [root / "unified", root]
        mount = next((place for place in mounts if place.is_dir()), None)
        if mount is None:
            continue
        # Inside a container the mount may show the own group as its root, so a missing folder is not an error.
        folder = mount / path.lstrip("/")
        while folder != mount:
            yield folder
            folder = folder.parent
        yield mount


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
