from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest

from steadyocr.errors import ConflictError, Draining, UndecodableImage
from steadyocr.jobs.archive_output import ArchiveWriter
from steadyocr.jobs.blobs import put_bytes
from steadyocr.jobs.local_blobs import LocalBlobs
from steadyocr.jobs.models import ItemOutcome, Job, NewItem, NewJob
from steadyocr.testing import InMemoryJobStore

CLEAN = {"code", "message", "details"}


def page(*texts: str) -> dict[str, Any]:
    quad = [[0.5, 0.0], [9.0, 0.0], [9.0, 4.0], [0.5, 4.0]]
    lines = [{"id": n, "quad": quad, "score": 0.9, "text": text, "text_score": 0.8} for n, text in enumerate(texts)]
    return {"lines": lines, "text": "\n".join(texts)}


class Shop:
    """A store and blobs with one job in them."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.store = InMemoryJobStore()
        self.blobs = LocalBlobs(folder)
        items = tuple(NewItem(input_ref=f"{n:064x}", name=name) for n, name in enumerate(names))
        self.job = self.store.submit(NewJob(items=items))

    def finish(self, outcome: ItemOutcome) -> None:
        (lease,) = self.store.claim("me")
        assert self.store.complete(lease, outcome)

    def fail(self) -> None:
        (lease,) = self.store.claim("me")
        assert self.store.fail(lease, UndecodableImage("damaged").to_wire())

    def chunks(self, *, overlays: bool = False, keep_on: bool = True) -> list[bytes]:
        job: Job = self.store.job(self.job.id)
        writer = ArchiveWriter(self.store, self.blobs, job, overlays=overlays, keep_on=lambda: keep_on)
        return list(writer.chunks())

    def archive(self, *, overlays: bool = False) -> zipfile.ZipFile:
        return zipfile.ZipFile(io.BytesIO(b"".join(self.chunks(overlays=overlays))))


def test_everything_that_was_read_is_in_it(tmp_path: Path) -> None:
    shop = Shop(tmp_path, "a.png", "b/=1.png", "c.png", "waits.png", "ready.png")
    shop.finish(ItemOutcome(result=page("first", "=2+2"), overlay_ref=put_bytes(shop.blobs, b"drawn").key))
    large = put_bytes(shop.blobs, json.dumps(page("from a blob")).encode())
    shop.finish(ItemOutcome(result_ref=large.key))
    shop.fail()
    with shop.archive(overlays=True) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [
            "results.jsonl",
            "lines.csv",
            "text/0000-a.png.txt",
            "text/0001-b_=1.png.txt",
            "overlays/0000-a.png.png",
        ]
        lines = [json.loads(line) for line in archive.read("results.jsonl").splitlines()]
        rows = list(csv.DictReader(io.StringIO(archive.read("lines.csv").decode())))
        assert archive.read("text/0000-a.png.txt") == b"first\n=2+2\n"
        assert archive.read("overlays/0000-a.png.png") == b"drawn"
    assert [line["state"] for line in lines] == ["done", "done", "failed"]
    assert lines[1]["page"] == page("from a blob")
    assert lines[2]["error"].keys() == CLEAN
    assert [(row["position"], row["file"], row["text"], row["x1"]) for row in rows] == [
        ("0", "a.png", "first", "0.5"),
        ("0", "a.png", "'=2+2", "0.5"),
        ("1", "b/=1.png", "from a blob", "0.5"),
    ]


def test_what_ends_while_it_is_made_is_in_all_of_it_or_in_none(tmp_path: Path) -> None:
    shop = Shop(tmp_path, "a.png", "b.png")
    # What does not pack, so that the first piece comes before the list is through.
    shop.finish(ItemOutcome(result=page(os.urandom(400_000).hex())))
    chunks = ArchiveWriter(shop.store, shop.blobs, shop.job, overlays=False, keep_on=lambda: True).chunks()
    parts = [next(chunks)]
    assert b"lines.csv" not in parts[0]
    parts += [next(chunks)]
    shop.finish(ItemOutcome(result=page("late")))
    with zipfile.ZipFile(io.BytesIO(b"".join([*parts, *chunks]))) as archive:
        listed = len(archive.read("results.jsonl").splitlines())
        assert listed == len(archive.namelist()) - 2


def test_it_is_given_out_while_it_is_made(tmp_path: Path) -> None:
    shop = Shop(tmp_path, *(f"{n}.png" for n in range(20)))
    for _ in range(20):
        # What does not pack.
        drawn = put_bytes(shop.blobs, os.urandom(300_000))
        shop.finish(ItemOutcome(result=page("x"), overlay_ref=drawn.key))
    chunks = shop.chunks(overlays=True)
    assert len(chunks) > 15
    assert max(map(len, chunks)) < 1_000_000


def test_a_blob_that_is_gone_costs_its_own_page_only(tmp_path: Path) -> None:
    shop = Shop(tmp_path, "a.png", "b.png")
    shop.finish(ItemOutcome(result_ref="0" * 64))
    shop.finish(ItemOutcome(result=page("b")))
    with shop.archive() as archive:
        lines = [json.loads(line) for line in archive.read("results.jsonl").splitlines()]
        assert [line["error"] and line["error"]["code"] for line in lines] == ["not_found", None]
        assert archive.namelist()[2:] == ["text/0001-b.png.txt"]


def test_an_overlay_that_is_gone_costs_itself_only_and_is_named(tmp_path: Path) -> None:
    shop = Shop(tmp_path, "a.png", "b.png")
    shop.finish(ItemOutcome(result=page("a"), overlay_ref="0" * 64))
    shop.finish(ItemOutcome(result=page("b"), overlay_ref=put_bytes(shop.blobs, b"drawn").key))
    with shop.archive(overlays=True) as archive:
        assert archive.testzip() is None
        assert archive.namelist()[4:] == ["overlays/0001-b.png.png", "overlays/missing.txt"]
        assert archive.read("overlays/missing.txt") == b"overlays/0000-a.png.png\n"


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("../../etc/passwd", "0000-_.._etc_passwd"),
        ("C:\\CON", "0000-C_CON"),
        ("a" * 200 + ".png", "0000-" + "a" * 76 + ".png"),
        ("...", "0000"),
        ("", "0000"),
        ('x<>:"|?*\ny', "0000-x_\N{REPLACEMENT CHARACTER}y"),
        ("扫描 1.png", "0000-扫描 1.png"),
    ],
)
def test_whatever_a_client_calls_a_file_it_stays_inside_its_folder(tmp_path: Path, name: str, entry: str) -> None:
    shop = Shop(tmp_path, name)
    shop.finish(ItemOutcome(result=page("a")))
    with shop.archive() as archive:
        assert archive.namelist()[-1] == f"text/{entry}.txt"


def test_a_stop_breaks_it_off(tmp_path: Path) -> None:
    shop = Shop(tmp_path, "a.png")
    shop.finish(ItemOutcome(result=page("a")))
    with pytest.raises(Draining):
        shop.chunks(keep_on=False)


def test_a_job_without_an_end_yet_is_an_archive_too(tmp_path: Path) -> None:
    with Shop(tmp_path, "a.png").archive() as archive:
        assert archive.read("results.jsonl") == b""
        assert archive.namelist() == ["results.jsonl", "lines.csv"]


def test_what_is_tried_again_meanwhile_breaks_the_download_off_instead_of_leaving_it_out(tmp_path: Path) -> None:
    shop = Shop(tmp_path, "a.png", "b.png", "c.png")
    shop.finish(ItemOutcome(result=page("first")))
    shop.fail()
    shop.finish(ItemOutcome(result=page("third")))
    writer = ArchiveWriter(shop.store, shop.blobs, shop.store.job(shop.job.id), overlays=False, keep_on=lambda: True)
    writer._last = 2
    assert [item.position for item, _ in writer._pages()] == [0, 2]
    shop.store.retry(shop.job.id)
    with pytest.raises(ConflictError):
        list(writer._pages())


def test_a_job_of_a_machine_without_a_clock_has_an_archive(tmp_path: Path) -> None:
    shop = Shop(tmp_path, "a.png")
    shop.finish(ItemOutcome(result=page("first")))
    job = dataclasses.replace(shop.store.job(shop.job.id), created_at=0.0)
    writer = ArchiveWriter(shop.store, shop.blobs, job, overlays=False, keep_on=lambda: True)
    with zipfile.ZipFile(io.BytesIO(b"".join(writer.chunks()))) as archive:
        assert archive.infolist()[0].date_time == (1980, 1, 1, 0, 0, 0)
