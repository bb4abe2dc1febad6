"""Children of the laboratory: limits hold, and nothing of them is left."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from steadyocr.runtime import leash
from steadyocr.service import lab_child
from steadyocr.service.lab_child import Child, Limits, bound_log, end_leftover, read_tail, session_members, start_ticks
from support import in_real_time, is_running, wait_until

LIMITS = Limits(memory_bytes=512 << 20, nice=5, seconds=60)


def child(code: str, log: Path, limits: Limits = LIMITS) -> Child:
    return Child((sys.executable, "-c", code), log, dict(os.environ), limits)


def said(log: Path) -> str:
    return read_tail(log, 1 << 20).decode()


@in_real_time
async def test_it_stands_back_and_is_limited(tmp_path: Path) -> None:
    code = (
        "import os, resource, pathlib; print(os.nice(0), os.sched_getscheduler(0) == os.SCHED_BATCH, "
        "resource.getrlimit(resource.RLIMIT_DATA)[0], resource.getrlimit(resource.RLIMIT_CORE)[0], "
        "pathlib.Path('/proc/self/oom_score_adj').read_text().strip(), os.getsid(0) == os.getpid())"
    )
    running = child(code, tmp_path / "log")
    await running.start()
    ending = await running.wait()
    assert (ending.code, ending.reason) == (0, "")
    niceness = min(19, os.nice(0) + 5)
    assert said(tmp_path / "log").split() == [str(niceness), "True", str(512 << 20), "0", "900", "True"]


@in_real_time
async def test_an_allocation_beyond_the_limit_fails_in_the_child(tmp_path: Path) -> None:
    running = child("bytearray(1 << 30)", tmp_path / "log")
    await running.start()
    assert (await running.wait()).code == 1
    assert "MemoryError" in said(tmp_path / "log")


@in_real_time
async def test_all_its_processes_together_are_kept_below_the_limit(tmp_path: Path) -> None:
    helper = "import time; data = bytearray(b'x') * (60 << 20); time.sleep(60)"
    start = f"subprocess.Popen([sys.executable, '-c', {helper!r}])"
    code = f"import subprocess, sys, time\nfor _ in range(3): {start}\ntime.sleep(60)"
    running = child(code, tmp_path / "log", Limits(memory_bytes=128 << 20, nice=0, seconds=60))
    await running.start()
    assert running.pid is not None
    pid = running.pid
    ending = await running.wait()
    assert ending.reason == "memory"
    wait_until(lambda: not [member for member in session_members(pid) if is_running(member)])


@in_real_time
async def test_time_is_limited_and_a_deaf_child_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab_child, "_GRACE_S", 0.2)
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    running = child(code, tmp_path / "log", Limits(memory_bytes=512 << 20, nice=0, seconds=1.0))
    await running.start()
    ending = await running.wait()
    assert ending.reason == "time"
    assert ending.code < 0


@in_real_time
async def test_asked_to_stop_it_may_finish(tmp_path: Path) -> None:
    code = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('saved', flush=True), sys.exit(3)))\n"
        "print('up', flush=True)\ntime.sleep(60)"
    )
    running = child(code, tmp_path / "log")
    await running.start()
    waiting = asyncio.create_task(running.wait())
    await asyncio.to_thread(wait_until, lambda: "up" in said(tmp_path / "log"))
    running.ask_to_stop()
    ending = await waiting
    assert (ending.code, ending.reason) == (3, "asked")
    assert said(tmp_path / "log").split() == ["up", "saved"]


def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    """However the parent went: here it is killed."""
    log = tmp_path / "log"
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import asyncio, os, sys\n"
            "from pathlib import Path\n"
            "from steadyocr.service.lab_child import Child, Limits\n"
            "async def main():\n"
            "    code = 'import os, time; print(os.getpid(), flush=True); time.sleep(60)'\n"
            "    limits = Limits(memory_bytes=1 << 30, nice=0, seconds=60)\n"
            f"    child = Child((sys.executable, '-c', code), Path({str(log)!r}), dict(os.environ), limits)\n"
            "    await child.start()\n"
            "    await child.wait()\n"
            "asyncio.run(main())\n",
        ]
    )
    try:
        wait_until(lambda: said(log).strip())
        pid = int(said(log))
        assert is_running(pid)
    finally:
        parent.kill()
        parent.wait()
    wait_until(lambda: not is_running(pid))


@in_real_time
async def test_a_leftover_is_ended_and_a_stranger_with_its_number_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab_child, "_LOOK_S", 0.02)
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with subprocess.Popen(command, start_new_session=True) as process:  # noqa: ASYNC220
        ticks = start_ticks(process.pid)
        await end_leftover(process.pid, ticks + 1)
        await end_leftover(process.pid, 0)
        assert psutil.Process(process.pid).is_running()
        # A zombie still has its entry, so somebody has to take note of its end.
        reaper = threading.Thread(target=process.wait, name="reaper")
        reaper.start()
        await end_leftover(process.pid, ticks)
        reaper.join(10)
        assert process.returncode is not None


def test_a_log_is_cut_at_its_beginning_while_its_writer_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab_child, "_MAX_LOG_BYTES", 100)
    monkeypatch.setattr(lab_child, "_KEPT_LOG_BYTES", 10)
    log = tmp_path / "log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"x" * 90 + b"0123456789")
        bound_log(log)
        assert log.stat().st_size == 100
        writer.write(b"!")
        bound_log(log)
        writer.write(b" and on")
    assert log.read_bytes() == b"123456789! and on"
    bound_log(tmp_path / "not there")


def test_the_parent_must_be_who_it_is_said_to_be() -> None:
    started = time.monotonic()
    leashed = [sys.executable, "-m", "steadyocr.runtime.leash", "--memory", "1000000000", "--nice", "0"]
    done = subprocess.run(
        [*leashed, "--parent", "1", "--", "sleep", "30"],
        capture_output=True,
        check=False,
        timeout=20,
    )
    assert done.returncode == 1
    assert b"ended already" in done.stderr
    assert time.monotonic() - started < 20


def test_work_goes_on_where_a_sandbox_lets_nobody_stand_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    done: list[str] = []
    for name in ("nice", "sched_setscheduler"):
        monkeypatch.setattr(os, name, forbidden)
    monkeypatch.setattr(os, "execvp", lambda program, _: done.append(program))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    monkeypatch.setattr(leash, "_end_with", lambda _: None)
    monkeypatch.setattr(Path, "write_text", forbidden)
    leash.main(["--memory", "1000", "--nice", "5", "--parent", "1", "--", "train"])
    assert done == ["train"]
