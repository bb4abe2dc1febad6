"""What clients see of an item whose stored result is not as it should be."""

from __future__ import annotations

from pathlib import Path

from steadyocr.jobs.blobs import put_bytes
from steadyocr.jobs.local_blobs import LocalBlobs
from steadyocr.jobs.models import ItemOutcome, NewItem, NewJob
from steadyocr.jobs.result_lines import result_line
from steadyocr.testing import InMemoryJobStore


def test_a_damaged_result_is_the_error_of_its_own_line(tmp_path: Path) -> None:
    blobs, store = LocalBlobs(tmp_path), InMemoryJobStore()
    damaged, good = (put_bytes(blobs, data).key for data in (b'{"text": "cut o', b'{"text": "whole"}'))
    items = tuple(NewItem(input_ref=f"{n:064x}", name=f"{n}.png", size_bytes=1) for n in range(3))
    job = store.submit(NewJob(items=items))
    for ref in (damaged, "0" * 64, good):
        (lease,) = store.claim("me")
        store.complete(lease, ItemOutcome(result_ref=ref))
    first, second, third = (result_line(item, blobs) for item in store.results(job.id))
    assert (first["page"], first["error"]["code"]) == (None, "internal")
    assert (second["page"], second["error"]["code"]) == (None, "not_found")
    assert (third["page"], third["error"]) == ({"text": "whole"}, None)
