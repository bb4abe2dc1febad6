"""The settings file keeps its owner and its rights when a value in it is changed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from steadyocr.cli.settings_file import get_value, set_value
from steadyocr.errors import ConfigError

NOBODY = 65_534
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


@only_root
def test_a_file_stays_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "steadyocr.toml"
    path.write_text("[engines]\ncount = 1\n")
    path.chmod(0o640)
    os.chown(path, NOBODY, 12_345)
    set_value(path, "engines", "count", 2)
    status = path.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (NOBODY, 12_345, 0o640)
    assert get_value(path, "engines", "count") == 2


@only_root
def test_a_new_file_belongs_to_whom_its_folder_belongs(tmp_path: Path) -> None:
    os.chown(tmp_path, NOBODY, 12_345)
    set_value(tmp_path / "steadyocr.toml", "engines", "count", 2)
    status = (tmp_path / "steadyocr.toml").stat()
    assert (status.st_uid, status.st_gid) == (NOBODY, 12_345)


def test_a_link_stays_one_and_a_mark_of_the_encoding_is_passed_over(tmp_path: Path) -> None:
    real, link = tmp_path / "real.toml", tmp_path / "steadyocr.toml"
    real.write_text("[engines]\ncount = 1\n", encoding="utf-8-sig")
    link.symlink_to(real)
    set_value(link, "engines", "count", 2)
    assert link.is_symlink()
    assert get_value(real, "engines", "count") == 2


def test_somebody_who_may_not_give_files_away_changes_it_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuses)
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    set_value(tmp_path / "steadyocr.toml", "engines", "count", 2)
    assert get_value(tmp_path / "steadyocr.toml", "engines", "count") == 2


@pytest.mark.parametrize("text", ["", "[engines]\n", "engines = 3\n", "[other]\ncount = 1\n"])
def test_what_is_not_said(tmp_path: Path, text: str) -> None:
    path = tmp_path / "steadyocr.toml"
    assert get_value(path, "engines", "count") is None
    path.write_text(text)
    assert get_value(path, "engines", "count") is None


def test_what_is_no_toml(tmp_path: Path) -> None:
    (tmp_path / "steadyocr.toml").write_text("no")
    with pytest.raises(ConfigError):
        get_value(tmp_path / "steadyocr.toml", "engines", "count")
