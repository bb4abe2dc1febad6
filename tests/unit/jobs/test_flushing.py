from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from steadyocr.errors import InsufficientStorage
from steadyocr.jobs.blobs import Blob
from steadyocr.jobs.flushing import Flushing
from steadyocr.jobs.local_blobs import LocalBlobs


def test_a_large_file_that_comes_after_a_failure_is_closed_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = LocalBlobs(tmp_path)

    def full(contents: Sequence[bytes | bytearray]) -> list[Blob]:
        raise InsufficientStorage("full")

    monkeypatch.setattr(blobs, "put_many", full)
    writers = [blobs.writer(10) for _ in range(3)]
    with Flushing(blobs) as flushing:
        for writer in writers[:2]:
            flushing.add(("small", b"s"))
            flushing.add_written("large", writer)
        flushing.add(("small", b"s"))
        with pytest.raises(InsufficientStorage):
            flushing.add_written("large", writers[2])
    assert list((tmp_path / "unfinished").iterdir()) == []
