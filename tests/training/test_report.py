"""What the laboratory is told about a data set."""

from __future__ import annotations

from pathlib import Path

from labelled import make_icdar
from steadyocr.training.report import report_of


def test_that_there_is_nothing_to_judge_by_is_noted(tmp_path: Path) -> None:
    make_icdar(tmp_path)
    report = report_of(tmp_path)
    assert (report["pictures"], report["usable"], report["notes"]) == (3, True, 1)
    (noted,) = report["problems"]
    assert (noted["file"], noted["severity"]) == ("test_list.txt", "note")
    assert "dataset split" in noted["message"]
    make_icdar(tmp_path, split="test")
    assert report_of(tmp_path)["problems"] == []
