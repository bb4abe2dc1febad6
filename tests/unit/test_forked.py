"""What begins in a copy of a process with everything imported is as if it had been started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import forked
from support import PATIENCE_S

TELLS = """
import atexit, os, sys
atexit.register(lambda: print("at exit"))
print(sys.argv[1:], os.environ["SAID"], os.getcwd(), os.getsid(0) == os.getpid(), "steadyocr.api.server" in sys.modules)
print(sys.stdin.read(), file=sys.stderr)
import beside
sys.exit(beside.CODE)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "beside.py").write_text("CODE = 7")
    script = tmp_path / "tells.py"
    script.write_text(TELLS)
    return script


def test_a_script_has_its_arguments_environment_streams_folder_session_and_end(script: Path) -> None:
    folder = script.parent
    process = forked.start(
        [sys.executable, str(script), "one", "two words"],
        env={"SAID": "so"},
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert isinstance(process, forked.ForkedPopen)
    out, said = process.communicate("asked", timeout=30)
    assert out == f"['one', 'two words'] so {folder} True True\nat exit\n"
    assert said == "asked\n"
    assert process.returncode == 7


def test_what_was_not_given_is_inherited(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAID", "here")
    monkeypatch.chdir(script.parent)
    process = forked.start(
        [sys.executable, str(script)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert out.decode() == f"[] here {script.parent} False True\nat exit\n"


def test_one_that_is_killed_is_seen_to_be(tmp_path: Path) -> None:
    script = tmp_path / "waits.py"
    script.write_text("import signal\nsignal.pause()")
    process = forked.start([sys.executable, str(script)])
    assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(PATIENCE_S) == -signal.SIGKILL


def test_a_fault_in_a_script_is_told_where_it_belongs(tmp_path: Path) -> None:
    script = tmp_path / "fails.py"
    script.write_text("1 / 0")
    process = forked.start([sys.executable, str(script)], stderr=subprocess.PIPE, text=True)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert said.endswith("ZeroDivisionError: division by zero\n")
    assert process.returncode == 1


def test_what_is_no_script_is_started_as_always() -> None:
    process = forked.start([sys.executable, "-c", "import sys; sys.exit(3)"])
    assert not isinstance(process, forked.ForkedPopen)
    assert process.wait(PATIENCE_S) == 3
