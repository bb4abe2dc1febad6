from __future__ import annotations

import contextlib
import io
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from steadyocr.errors import EmptyInput, InvalidRequest, PayloadTooLarge
from steadyocr.jobs.archive_input import unpack
from steadyocr.jobs.config import ArchiveLimits
from steadyocr.jobs.local_blobs import LocalBlobs
from steadyocr.jobs.models import NewItem

LIMITS = ArchiveLimits(max_entries=20, max_entry_bytes=3_000_000, max_total_bytes=8_000_000, max_ratio=100)


@pytest.fixture
def blobs(tmp_path: Path) -> LocalBlobs:
    return LocalBlobs(tmp_path)


def zip_of(*entries: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in entries:
            with warnings.catch_warnings(action="ignore", category=UserWarning):
                archive.writestr(name, content)
    return stream.getvalue()


def unpacked(data: bytes, blobs: LocalBlobs, limits: ArchiveLimits = LIMITS) -> list[NewItem]:
    return unpack(io.BytesIO(data), limits, blobs)


def codes(items: list[NewItem]) -> list[str | None]:
    return [None if item.error is None else item.error["code"] for item in items]


def edited(data: bytes, edit: Callable[[bytearray, int], None]) -> bytes:
    """Change the first entry of the directory."""
    raw = bytearray(data)
    edit(raw, data.index(b"PK\x01\x02"))
    return bytes(raw)


def test_files_become_items_in_order(blobs: LocalBlobs) -> None:
    items = unpacked(zip_of(("b/发票.png", b"one"), ("b/", b""), ("a.png", b"two"), ("b/发票.png", b"three")), blobs)
    assert [(item.name, item.size_bytes) for item in items] == [("b/发票.png", 3), ("a.png", 3), ("b/发票.png", 5)]
    assert codes(items) == [None] * 3
    with blobs.open(items[2].input_ref or "") as stream:
        assert stream.read() == b"three"


def test_what_file_managers_add_is_left_out(blobs: LocalBlobs) -> None:
    data = zip_of(
        ("__MACOSX/._a.png", b"x"), ("d/.DS_Store", b"x"), ("Thumbs.db", b"x"), ("d/._b.png", b"x"), ("a", b"x")
    )
    assert [item.name for item in unpacked(data, blobs)] == ["a"]


@pytest.mark.parametrize(
    "name",
    [
        "../a.png",
        "a/../../b.png",
        "/etc/passwd",
        "..\\a.png",
        "C:\\a.png",
        "c:a.png",
        "a/..",
        "a\nb.png",
        "\\\\host\\a",
    ],
)
def test_names_that_lead_elsewhere_are_refused_one_by_one(blobs: LocalBlobs, name: str) -> None:
    assert codes(unpacked(zip_of((name, b"x"), ("good.png", b"y")), blobs)) == ["invalid_request", None]


def test_links_are_refused(blobs: LocalBlobs) -> None:
    link = zipfile.ZipInfo("link.png")
    link.external_attr = 0o120777 << 16
    assert codes(unpacked(zip_of((link, b"/etc/passwd"), ("a", b"x")), blobs)) == ["invalid_request", None]


def test_encrypted_files_are_refused(blobs: LocalBlobs) -> None:
    def encrypt(raw: bytearray, at: int) -> None:
        raw[at + 8] |= 1

    assert codes(unpacked(edited(zip_of(("a", b"x"), ("b", b"y")), encrypt), blobs)) == ["invalid_request", None]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unusual_packing_is_refused(blobs: LocalBlobs, method: int) -> None:
    assert codes(unpacked(zip_of(("a", b"x"), method=method), blobs)) == ["unsupported_media_type"]


def test_archives_in_archives_are_refused(blobs: LocalBlobs) -> None:
    inner = zip_of(("a", b"x"))
    assert codes(unpacked(zip_of(("inner.png", inner), ("b", b"y")), blobs)) == ["unsupported_media_type", None]


def test_empty_files_are_refused_one_by_one(blobs: LocalBlobs) -> None:
    assert codes(unpacked(zip_of(("a", b""), ("b", b"y")), blobs)) == ["empty_input", None]


def test_a_large_file_is_refused_and_its_neighbours_are_not(blobs: LocalBlobs) -> None:
    data = zip_of(("big", bytes(3_000_001)), ("b", b"y"), method=zipfile.ZIP_STORED)
    assert codes(unpacked(data, blobs)) == ["payload_too_large", None]


def test_a_bomb_is_refused_by_its_ratio(blobs: LocalBlobs) -> None:
    assert codes(unpacked(zip_of(("bomb", bytes(2_900_000)), ("b", bytes(900_000))), blobs)) == [
        "payload_too_large",
        None,
    ]


def test_too_much_in_all_is_refused_before_anything_is_stored(blobs: LocalBlobs) -> None:
    data = zip_of(*((f"{n}", bytes(2_900_000)) for n in range(3)))
    with pytest.raises(PayloadTooLarge):
        unpacked(data, blobs)
    assert blobs.usage_bytes() == 0


def test_too_many_files_are_refused_before_they_are_listed(blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch) -> None:
    data = zip_of(*((f"{n}", b"x") for n in range(21)))
    monkeypatch.setattr(zipfile, "ZipFile", None)
    with pytest.raises(PayloadTooLarge):
        unpacked(data, blobs)


def test_a_directory_larger_than_announced_is_refused(blobs: LocalBlobs) -> None:
    data = bytearray(zip_of(*((f"{n}" * 9, b"x") for n in range(2000))))
    end = data.rindex(b"PK\x05\x06")
    struct.pack_into("<HH", data, end + 8, 1, 1)
    with pytest.raises(PayloadTooLarge):
        unpacked(bytes(data), blobs)


def test_overlapping_files_are_refused(blobs: LocalBlobs) -> None:
    data = bytearray(zip_of(("a", b"x" * 100), ("b", b"y" * 100)))
    second = data.rindex(b"PK\x01\x02")
    struct.pack_into("<L", data, second + 42, 0)
    with pytest.raises(InvalidRequest, match="overlap"):
        unpacked(bytes(data), blobs)


def test_a_damaged_file_is_refused_and_its_neighbours_are_not(blobs: LocalBlobs) -> None:
    data = bytearray(zip_of(("a", b"x" * 100), ("b", b"y" * 50), method=zipfile.ZIP_STORED))
    data[data.index(b"x" * 100) + 5] ^= 1
    assert codes(unpacked(bytes(data), blobs)) == ["undecodable_image", None]


def test_a_file_that_is_larger_than_it_says_is_refused(blobs: LocalBlobs) -> None:
    def lie(raw: bytearray, at: int) -> None:
        struct.pack_into("<L", raw, at + 24, 5)

    assert codes(unpacked(edited(zip_of(("a", b"x" * 100_000)), lie), blobs)) == ["undecodable_image"]


@pytest.mark.parametrize(
    "data",
    [b"", b"not a zip", b"PK\x05\x06", zip_of(("a", b"x"))[:-10], b"PK\x03\x04" + bytes(90)],
    # Named: a zip holds the time of day, and every test process must collect the same names.
    ids=["empty", "text", "short end", "cut", "zeros"],
)
def test_what_is_no_archive_is_refused(blobs: LocalBlobs, data: bytes) -> None:
    with pytest.raises(InvalidRequest):
        unpacked(data, blobs)


def test_every_cut_and_flip_gives_a_typed_answer(blobs: LocalBlobs) -> None:
    data = zip_of(("a.png", b"x" * 300), ("b.png", bytes(range(200))))
    for at in range(0, len(data), 3):
        for broken in (data[:at], data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]):
            with contextlib.suppress(InvalidRequest, PayloadTooLarge, EmptyInput):
                unpacked(broken, blobs)


def test_an_archive_without_files_is_empty(blobs: LocalBlobs) -> None:
    for data in (zip_of(), zip_of(("folder/", b""))):
        with pytest.raises(EmptyInput):
            unpacked(data, blobs)


def test_unpacking_stops_when_nobody_wants_it(blobs: LocalBlobs) -> None:
    answers = iter([True, True, False])
    data = zip_of(*((f"{n}", b"x") for n in range(9)))
    assert len(unpack(io.BytesIO(data), LIMITS, blobs, keep_on=lambda: next(answers))) == 2
