"""Skips of the suites that need system packages are failures where CI installs those."""

from __future__ import annotations

import os
import shutil

import pytest

from ci_must import ci_must, skip_or_fail, skipped_unless


@pytest.fixture
def ci_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")


@pytest.mark.usefixtures("ci_machine")
def test_ci_fails_instead_of_skipping() -> None:
    with pytest.raises(pytest.fail.Exception, match="CI must not skip this: no systemd"):
        skip_or_fail("no systemd")
    assert skipped_unless(False, "no promtool").args == (False,), "it runs, and fails by itself"


@pytest.mark.usefixtures("ci_machine")
@pytest.mark.parametrize("missing", ["CI", "root", "apt"])
def test_elsewhere_it_is_a_skip(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    if missing == "CI":
        monkeypatch.delenv("CI")
    elif missing == "root":
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
    else:
        monkeypatch.setattr(shutil, "which", lambda _: None)
    assert not ci_must()
    with pytest.raises(pytest.skip.Exception, match="no systemd"):
        skip_or_fail("no systemd")
    assert skipped_unless(False, "no promtool").args == (True,)
    assert skipped_unless(True, "no promtool").args == (False,)
