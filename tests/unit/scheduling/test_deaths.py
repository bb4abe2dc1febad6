from __future__ import annotations

from pathlib import Path

import pytest

from steadyocr.scheduling.deaths import EXIT_UNSOUND, Death, DeathCause, classify, is_stopped, memory_kills


@pytest.mark.parametrize(
    ("exit_code", "killed_by_us", "out_of_memory", "cause", "blamed"),
    [
        (-11, False, False, DeathCause.CRASH, True),
        (-6, False, False, DeathCause.CRASH, True),
        (-8, False, False, DeathCause.CRASH, True),
        (1, False, False, DeathCause.EXIT, True),
        (EXIT_UNSOUND, False, False, DeathCause.UNSOUND, True),
        (0, False, False, DeathCause.EXIT, True),
        (-9, False, True, DeathCause.OUT_OF_MEMORY, True),
        (-9, False, False, DeathCause.OUTSIDE, False),
        (-15, False, False, DeathCause.OUTSIDE, False),
        (-1, False, True, DeathCause.OUTSIDE, False),
        (-9, True, False, DeathCause.HANG, True),
        (None, True, False, DeathCause.HANG, True),
    ],
)
def test_who_is_blamed_for_which_death(
    exit_code: int | None, killed_by_us: bool, out_of_memory: bool, cause: DeathCause, blamed: bool
) -> None:
    found = classify(exit_code, killed_by_us=killed_by_us, out_of_memory=out_of_memory)
    assert found is cause
    assert Death(found, exit_code, "detect").blames_the_item is blamed


def test_a_death_is_told_in_words() -> None:
    assert str(Death(DeathCause.CRASH, -11, "detect")) == "crash in stage detect (signal SIGSEGV)"
    assert str(Death(DeathCause.EXIT, 3, None)) == "exit (exit code 3)"
    assert str(Death(DeathCause.HANG, None, "decode")) == "hang in stage decode (unknown)"
    assert str(Death(DeathCause.OUTSIDE, -40, None)) == "outside (signal 40)", "real-time signals have no name"


def test_only_silence_makes_an_overdue_run_suspicious() -> None:
    assert Death(DeathCause.OVERDUE, -9, "detect", silent=True).casts_suspicion
    assert not Death(DeathCause.OVERDUE, -9, "detect", silent=True).blames_the_item
    assert not Death(DeathCause.OVERDUE, -9, "detect").casts_suspicion
    assert not Death(DeathCause.OUTSIDE, -9, "detect", silent=True).casts_suspicion
    assert Death(DeathCause.CRASH, -11, "detect").casts_suspicion


@pytest.mark.parametrize(("state", "stopped"), [("T", True), ("t", True), ("S", False), ("R", False), ("Z", False)])
def test_who_is_stopped_from_outside_is_seen(tmp_path: Path, state: str, stopped: bool) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/stat").write_text(f"7 (a (T) name) {state} 1 2 3\n")
    assert is_stopped(7, tmp_path) is stopped
    assert not is_stopped(8, tmp_path)
    assert not is_stopped(None, tmp_path)


def test_memory_kills_are_counted_in_both_cgroup_versions_and_on_the_machine(tmp_path: Path) -> None:
    membership = tmp_path / "cgroup"
    membership.write_text("4:memory:/box\n0::/service\n")
    for folder, name, text in (
        ("root/memory/box", "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
        ("root/service", "memory.events", "low 0\noom 5\noom_kill 2\noom_group_kill 0\n"),
    ):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / name).write_text(text)
    vmstat = tmp_path / "vmstat"
    vmstat.write_text("nr_free_pages 1\noom_kill 7\n")
    assert memory_kills(tmp_path / "root", membership, vmstat) == 12
    assert memory_kills(tmp_path / "nothing", tmp_path / "nothing", tmp_path / "nothing") == 0
