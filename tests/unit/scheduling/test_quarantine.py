from __future__ import annotations

import os
from pathlib import Path

import pytest

from steadyocr.errors import NotFoundError, Quarantined
from steadyocr.scheduling.quarantine import Quarantine

RECORD = {"cause": "crash", "deaths": 2, "width": 640, "height": 480}


def test_a_condemned_picture_is_refused_with_the_reason_and_others_are_not(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "deep" / "quarantine.json")
    quarantine.check("a" * 64)
    quarantine.condemn("a" * 64, RECORD)
    quarantine.check("b" * 64)
    with pytest.raises(Quarantined, match="2 engines \\(crash\\)") as raised:
        quarantine.check("a" * 64)
    assert raised.value.details["sha256"] == "a" * 64


def test_the_list_survives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "quarantine.json"
    Quarantine(path).condemn("a" * 64, RECORD)
    again = Quarantine(path)
    assert [entry["sha256"] for entry in again.entries()] == ["a" * 64]
    assert again.entries()[0]["width"] == 640


def test_a_released_picture_is_let_in_and_stays_released(tmp_path: Path) -> None:
    path = tmp_path / "quarantine.json"
    quarantine = Quarantine(path)
    quarantine.condemn("a" * 64, RECORD)
    quarantine.release("a" * 64)
    quarantine.check("a" * 64)
    assert len(Quarantine(path)) == 0
    with pytest.raises(NotFoundError):
        quarantine.release("a" * 64)


def test_the_list_is_bounded_and_the_oldest_goes_first() -> None:
    quarantine = Quarantine(None, max_entries=3)
    for name in "abcd":
        quarantine.condemn(name * 64, RECORD)
    assert [entry["sha256"][0] for entry in quarantine.entries()] == ["b", "c", "d"]
    quarantine.condemn("b" * 64, RECORD)
    assert [entry["sha256"][0] for entry in quarantine.entries()] == ["c", "d", "b"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1, 2"])
def test_a_damaged_list_starts_empty(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "quarantine.json"
    path.write_bytes(content)
    assert len(Quarantine(path)) == 0


@pytest.mark.parametrize("content", ["null", "[]", "3", '{"a": {}}', '{"a": null}', '{"a": {"deaths": 2}}', "[" * 9999])
def test_what_is_no_list_of_ours_is_left_out(tmp_path: Path, content: str) -> None:
    path = tmp_path / "quarantine.json"
    path.write_text(content)
    quarantine = Quarantine(path)
    assert len(quarantine) == 0
    quarantine.check("a")
    quarantine.condemn("b", RECORD)
    assert [entry["sha256"] for entry in Quarantine(path).entries()] == ["b"]


def test_only_a_picture_of_a_condemned_ones_size_needs_a_look() -> None:
    quarantine = Quarantine(None)
    assert not quarantine.may_hold(100)
    quarantine.condemn("a" * 64, {**RECORD, "bytes": 100})
    assert quarantine.may_hold(100)
    assert not quarantine.may_hold(101)
    quarantine.condemn("b" * 64, RECORD)
    assert quarantine.may_hold(101), "its size is not known"


def test_a_full_disk_does_not_stop_the_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    quarantine = Quarantine(tmp_path / "quarantine.json")
    quarantine.condemn("a" * 64, RECORD)
    with pytest.raises(Quarantined):
        quarantine.check("a" * 64)
