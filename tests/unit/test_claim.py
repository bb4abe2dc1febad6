"""One service at a time in a data folder."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from steadyocr.errors import ConflictError
from steadyocr.service.claim import claimed

_DIES = """
import os, pathlib, sys
from steadyocr.service.claim import claimed
with claimed(pathlib.Path(sys.argv[1])):
    os._exit(0)
"""
_LIVES = "print('here', flush=True), input()"


def test_a_second_claim_is_refused_and_names_the_first(tmp_path: Path) -> None:
    with claimed(tmp_path), pytest.raises(ConflictError, match=f"process {os.getpid()}") as refusal, claimed(tmp_path):
        pass
    assert refusal.value.details["data_dir"] == str(tmp_path)


def test_a_claim_ends_with_its_block_and_with_its_process(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "here"
    with claimed(folder):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, "others may read what pictures say"
    subprocess.run([sys.executable, "-c", _DIES, folder], check=True)
    with claimed(folder):
        assert (folder / "lock").read_text(encoding="ascii") == f"{os.getpid()}\n"


def test_children_do_not_keep_it(tmp_path: Path) -> None:
    with claimed(tmp_path):
        child = subprocess.Popen(
            [sys.executable, "-c", _LIVES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"here\n"
    try:
        with claimed(tmp_path):
            pass
    finally:
        child.communicate(b"\n")


def test_where_nothing_can_be_locked_the_service_starts_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    with claimed(tmp_path / "file" / "data"):
        assert "Nothing keeps a second service out" in caplog.text
