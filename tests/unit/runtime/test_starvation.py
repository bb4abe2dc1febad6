"""Hanging and starving look alike from outside; these are the four ways to be silent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from steadyocr.runtime.starvation import CpuClock
from support import wait_until


@contextmanager
def process(code: str) -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen([sys.executable, "-c", f"print(flush=True)\n{code}"], stdout=subprocess.PIPE)
    try:
        assert started.stdout is not None
        started.stdout.readline()
        yield started
    finally:
        started.kill()
        started.wait()
        if started.stdout is not None:
            started.stdout.close()


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_who_sleeps_is_not_starved() -> None:
    with process("import time; time.sleep(99)") as sleeper:
        wait_until(lambda: state_of(sleeper.pid) == "S")
        clock = CpuClock(sleeper.pid)
        time.sleep(0.05)
        assert not clock.starved()


def test_who_is_stopped_is_not_starved() -> None:
    with process("while True: pass") as stopped:
        os.kill(stopped.pid, signal.SIGSTOP)
        wait_until(lambda: state_of(stopped.pid) == "T")
        clock = CpuClock(stopped.pid)
        time.sleep(0.05)
        assert not clock.starved()


def test_who_has_gone_or_never_was_is_not_starved() -> None:
    with process("while True: pass") as gone:
        clock = CpuClock(gone.pid)
    assert not clock.starved()
    assert not CpuClock(None).starved()


@pytest.fixture
def told(tmp_path: Path) -> Path:
    """What the system tells about a process 7 with two threads, one of them asleep."""
    tell(tmp_path, "R", 0)
    tell(tmp_path / "7" / "task", "S", 0, "8")
    tell(tmp_path / "7" / "task", "R", 0)
    return tmp_path


def tell(folder: Path, state: str, ticks: int, name: str = "7") -> None:
    (folder / name).mkdir(parents=True, exist_ok=True)
    fields = [state, *["0"] * 10, str(ticks), "0", *["0"] * 30]
    (folder / name / "stat").write_text(f"{name} (odd) name) " + " ".join(fields))


def passed(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + seconds)


def test_who_wants_to_run_and_gets_no_core_is_starved(told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = CpuClock(7, told)
    passed(monkeypatch, 10)
    tell(told, "R", 4 * os.sysconf("SC_CLK_TCK"))
    assert clock.starved()
    tell(told, "R", 6 * os.sysconf("SC_CLK_TCK"))
    assert not clock.starved(), "it had its share and is silent all the same"
    clock.restart()
    passed(monkeypatch, 10)
    assert clock.starved(), "counted from the restart"


def test_under_a_small_quota_who_has_got_most_of_it_is_not_starved(told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = CpuClock(7, told, core_share=0.4)
    passed(monkeypatch, 10)
    tell(told, "R", 3 * os.sysconf("SC_CLK_TCK"))
    assert not clock.starved(), "it cannot ever have had half a core"
    tell(told, "R", 1 * os.sysconf("SC_CLK_TCK"))
    assert clock.starved(), "others took most of its share"


def test_who_waits_for_its_pages_is_starved_too(told: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = CpuClock(7, told)
    passed(monkeypatch, 10)
    tell(told / "7" / "task", "S", 0)
    assert not clock.starved()
    tell(told / "7" / "task", "D", 0, "8")
    assert clock.starved()
