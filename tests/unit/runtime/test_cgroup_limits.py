from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from steadyocr.runtime.cpu import available_cores, available_threads, cpu_quota
from steadyocr.runtime.memory import memory_limit_bytes

V1_UNLIMITED = "9223372036854771712"


@dataclass(frozen=True)
class Cgroups:
    """A made-up cgroup tree and the membership file of a process in it."""

    root: Path
    membership: Path

    @property
    def quota(self) -> float | None:
        return cpu_quota(self.root, self.membership)

    @property
    def memory(self) -> int | None:
        return memory_limit_bytes(self.root, self.membership)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def cgroups(folder: Path, membership: str, files: Mapping[str, str]) -> Cgroups:
    root = folder / "cgroup"
    root.mkdir()
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    path = folder / "membership"
    path.write_text(membership)
    return Cgroups(root, path)


def test_v2_quota_of_the_own_group(folder: Path) -> None:
    assert cgroups(folder, "0::/a\n", {"a/cpu.max": "150000 100000"}).quota == 1.5


@pytest.mark.parametrize(("outer", "inner", "tightest"), [("50000", "200000", 0.5), ("200000", "50000", 0.5)])
def test_v2_the_tightest_group_on_the_way_up_counts(folder: Path, outer: str, inner: str, tightest: float) -> None:
    files = {"a/cpu.max": f"{outer} 100000", "a/b/c/cpu.max": f"{inner} 100000", "x/cpu.max": "1000 100000"}
    assert cgroups(folder, "0::/a/b/c\n", files).quota == tightest


def test_v2_max_is_no_limit(folder: Path) -> None:
    made = cgroups(folder, "0::/a\n", {"a/cpu.max": "max 100000", "a/memory.max": "max"})
    assert made.quota is None
    assert made.memory is None


def test_v2_in_a_container_the_own_group_is_the_root_of_the_mount(folder: Path) -> None:
    made = cgroups(folder, "0::/docker/abc\n", {"cpu.max": "300000 100000", "memory.max": "1073741824"})
    assert made.quota == 3.0
    assert made.memory == 1 << 30


def test_v2_a_path_above_the_namespace_is_survived(folder: Path) -> None:
    made = cgroups(folder, "0::/../../other\n", {"cpu.max": "300000 100000"})
    assert made.quota == 3.0


V1_MEMBERSHIP = "7:cpu,cpuacct:/a/b\n5:memory:/m\n3:cpuset:/\n1:name=systemd:/x:y\n"


def test_v1_quota_and_memory(folder: Path) -> None:
    files = {
        "cpu,cpuacct/a/b/cpu.cfs_quota_us": "250000",
        "cpu,cpuacct/a/b/cpu.cfs_period_us": "100000",
        "memory/m/memory.limit_in_bytes": "536870912",
        "memory/memory.limit_in_bytes": V1_UNLIMITED,
    }
    made = cgroups(folder, V1_MEMBERSHIP, files)
    assert made.quota == 2.5
    assert made.memory == 512 << 20


def test_v1_under_the_short_name_of_the_controller(folder: Path) -> None:
    files = {"cpu/a/cpu.cfs_quota_us": "50000", "cpu/a/cpu.cfs_period_us": "100000"}
    assert cgroups(folder, V1_MEMBERSHIP, files).quota == 0.5


def test_v1_minus_one_and_the_huge_number_are_no_limit(folder: Path) -> None:
    files = {
        "cpu,cpuacct/a/b/cpu.cfs_quota_us": "-1",
        "cpu,cpuacct/a/b/cpu.cfs_period_us": "100000",
        "memory/m/memory.limit_in_bytes": V1_UNLIMITED,
    }
    made = cgroups(folder, V1_MEMBERSHIP, files)
    assert made.quota is None
    assert made.memory is None


def test_hybrid_v1_controllers_beside_a_v2_hierarchy(folder: Path) -> None:
    files = {
        "cpu,cpuacct/a/b/cpu.cfs_quota_us": "300000",
        "cpu,cpuacct/a/b/cpu.cfs_period_us": "100000",
        "unified/u/cgroup.procs": "",
    }
    assert cgroups(folder, f"{V1_MEMBERSHIP}0::/u\n", files).quota == 3.0


def test_hybrid_with_the_v2_hierarchy_mounted_below(folder: Path) -> None:
    made = cgroups(folder, "0::/u\n", {"unified/u/memory.max": "1000000"})
    (made.root / "memory.max").write_text("max\n")
    assert made.memory == 1_000_000


def test_no_cgroups_no_limit(folder: Path) -> None:
    made = Cgroups(folder / "nothing", folder / "nothing either")
    assert made.quota is None
    assert made.memory is None


@pytest.mark.parametrize(("quota", "available"), [("max 100000", 4), ("40000 100000", 0.4), ("800000 100000", 4)])
def test_parts_of_a_core_count(folder: Path, monkeypatch: pytest.MonkeyPatch, quota: str, available: float) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))
    made = cgroups(folder, "0::/a\n", {"a/cpu.max": quota})
    assert available_cores(made.root, made.membership) == available


@pytest.mark.parametrize(
    ("quota", "cores", "threads"),
    [
        ("max 100000", 4, 4),
        ("200000 100000", 4, 2),
        ("199999 100000", 4, 2),
        ("150000 100000", 4, 1),
        ("20000 100000", 4, 1),
        ("800000 100000", 4, 4),
    ],
)
def test_threads_follow_the_quota_and_the_affinity(
    folder: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cores: int, threads: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    made = cgroups(folder, "0::/a\n", {"a/cpu.max": quota})
    assert available_threads(made.root, made.membership) == threads
