"""What an engine does about its memory after an item, on a process whose memory the test decides."""

from __future__ import annotations

from typing import Any, cast

import pytest

from steadyocr.pipeline.ocr import OcrPipeline
from steadyocr.runtime import memory
from steadyocr.scheduling.config import EngineConfig
from steadyocr.scheduling.housekeeping import Housekeeping

_MIB = 1 << 20
_BASELINE = 200 * _MIB
_SLACK = 32 * _MIB


class Process:
    """Holds what it must keep, and scratch memory that trimming or releasing gives back."""

    def __init__(self) -> None:
        self.kept, self.loose, self.scratch = _BASELINE, 0, 0
        self.trims = self.releases = 0

    @property
    def rss(self) -> int:
        return self.kept + self.loose + self.scratch

    def trim(self) -> None:
        self.trims += 1
        self.loose = 0

    def release_memory(self) -> None:
        self.releases += 1
        self.loose, self.scratch = self.loose + self.scratch, 0


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Process:
    process = Process()
    monkeypatch.setattr(memory, "rss_bytes", lambda: process.rss)
    monkeypatch.setattr(memory, "trim", process.trim)
    return process


@pytest.fixture
def housekeeping(process: Process) -> Housekeeping:
    config = EngineConfig(detector="d", recogniser="r", memory_slack_bytes=_SLACK)
    made = Housekeeping(cast("OcrPipeline", process), config)
    process.trims = process.releases = 0
    return made


def finish(housekeeping: Housekeeping, kind: str, **message: Any) -> dict[str, Any]:
    return housekeeping.finish({"kind": kind, **message})


def test_what_a_picture_leaves_is_given_back_and_both_figures_told(
    housekeeping: Housekeeping, process: Process
) -> None:
    process.loose, process.scratch = 50 * _MIB, 100 * _MIB
    report = finish(housekeeping, "run")
    assert (process.releases, report["rss_bytes"]) == (1, _BASELINE)
    assert report["heap_bytes"] > 0


def test_scratch_within_the_slack_stays(housekeeping: Housekeeping, process: Process) -> None:
    process.loose, process.scratch = 50 * _MIB, _SLACK
    assert finish(housekeeping, "run")["rss_bytes"] == _BASELINE + _SLACK
    assert process.releases == 0


def test_while_more_waits_nothing_is_tidied_or_told_of_the_heap(housekeeping: Housekeeping, process: Process) -> None:
    process.scratch = 100 * _MIB
    report = finish(housekeeping, "run", keep_scratch=True)
    assert report["untidy"]
    assert "heap_bytes" not in report
    assert process.trims == 0


def test_a_sliders_work_is_not_tidied_up_after(housekeeping: Housekeeping, process: Process) -> None:
    process.loose = _SLACK
    finish(housekeeping, "postprocess")
    assert process.trims == 0
    process.loose += 1
    finish(housekeeping, "postprocess")
    assert process.trims == 1


def test_kernels_compiled_since_the_start_do_not_make_a_sliders_work_untidy(
    housekeeping: Housekeeping, process: Process
) -> None:
    process.kept += 2 * _SLACK
    finish(housekeeping, "run")
    process.trims = 0
    process.loose = _SLACK
    finish(housekeeping, "postprocess")
    assert process.trims == 0


def test_what_was_kept_for_an_item_that_does_not_come_is_given_back(
    housekeeping: Housekeeping, process: Process
) -> None:
    process.scratch = 100 * _MIB
    assert finish(housekeeping, "run", keep_scratch=True)["untidy"]
    report = housekeeping.rest()
    assert (report["untidy"], report["rss_bytes"]) == (False, _BASELINE)
    process.trims = 0
    housekeeping.rest()
    assert process.trims == 0, "there is nothing to tidy"
