"""What ``steadyocr batch`` makes of answers."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, cast

from rich.console import Console

from steadyocr.cli.batch import BatchRun, _Batch
from steadyocr.cli.batch_notes import Notes
from steadyocr.cli.batch_report import Report
from steadyocr.cli.batch_target import Answer, Target
from steadyocr.errors import NotFoundError
from steadyocr.types import OcrOptions
from support import in_real_time


class HalfGone:
    """A server that has lost one overlay."""

    async def overlay(self, job_id: str, answer: Answer) -> bytes:
        if answer.position == 0:
            raise NotFoundError("the blob is not there any more")
        return b"overlay"


@in_real_time
async def test_an_overlay_that_is_gone_is_its_own_pictures_failure(tmp_path: Path) -> None:
    run = BatchRun(sources=[], to=None, api_key=None, page_format="overlay.png", output=tmp_path, options={})
    said = io.StringIO()
    report = Report(Console(file=said))
    batch = _Batch(
        run, "overlay.png", OcrOptions(), cast("Target", HalfGone()), Notes(tmp_path.parent / "notes"), report
    )
    page: dict[str, Any] = {"text": "", "lines": []}
    for position in range(2):
        answer = Answer(
            position=position, name=f"{position}.png", state="done", kind="ocr", page=page, error=None, overlay="there"
        )
        await batch._take("job", answer, [])
    assert not (tmp_path / "0.png.overlay.png").exists()
    assert (tmp_path / "1.png.overlay.png").exists()
    assert (batch._tally.done, batch._tally.failures) == (1, {"not_found": 1})
    assert "0.png: the blob is not there any more [not_found]" in said.getvalue()
