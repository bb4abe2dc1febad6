from __future__ import annotations

import contextlib
import io
import struct
import tracemalloc
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


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("发票 2024.png".encode("gbk"), "发票 2024.png"),
        ("合同/第一頁镕.png".encode("gb18030"), "合同/第一頁镕.png"),
        ("资料/猫.png".encode(), "资料/猫.png"),
        ("café.png".encode("cp437"), "café.png"),
        ("réalité.png".encode("cp437"), "réalité.png"),
    ],
)
def test_names_are_read_as_they_were_packed(blobs: LocalBlobs, raw: bytes, name: str) -> None:
    """Older systems pack names in their own encoding and do not say so."""
    stand_in = b"x" * len(raw)
    data = zip_of((stand_in.decode(), b"a picture"), method=zipfile.ZIP_STORED).replace(stand_in, raw)
    (item,) = unpacked(data, blobs)
    assert (item.name, item.error) == (name, None)
    (refused,) = unpacked(data.replace(b"a picture", b"PK\x03\x04 nest"), blobs)
    assert refused.name == name


def test_a_file_without_a_name_is_refused_and_its_neighbours_are_not(blobs: LocalBlobs) -> None:
    """zipfile cuts names at a zero byte."""
    data = zip_of(("xyz.png", b"x"), ("good.png", b"y"))
    assert codes(unpacked(data.replace(b"xyz.png", b"\0yz.png"), blobs)) == ["invalid_request", None]


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


def two_faced(count: int, *, here: bytes = b"", points_to: int | None = None) -> bytes:
    """An archive of so many files whose end has a locator to a record that tells of one.

    Args:
        count: Files in the directory.
        here: What lies right before the locator, where zipfile looks for that record.
        points_to: Where the locator says it is; by default at a harmless one at the archive's beginning.
    """
    entry = struct.Struct("<4s4B4HL2L5H2L")

    def listed(comment: bytes = b"") -> bytes:
        return entry.pack(b"PK\1\2", 20, 0, 20, *[0] * 8, 1, 0, len(comment), *[0] * 4) + b"a" + comment

    local = b"PK\3\4" + bytes(26)
    harmless = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, 47, 0)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(local) if points_to is None else points_to, 1)
    # The last entry's comment ends with the locator, so that a directory that ends at the plain record is whole.
    directory = listed() * (count - 1) + listed(here + locator)
    start = len(local) + len(harmless)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, len(directory), start, 0)
    return local + harmless + directory + end


def peak_bytes(data: bytes, blobs: LocalBlobs, limits: ArchiveLimits) -> int:
    tracemalloc.start()
    try:
        with pytest.raises((InvalidRequest, PayloadTooLarge)):
            unpacked(data, blobs, limits)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("here", [b"", b"PK\6\6" + bytes(52)], ids=["nothing", "another record"])
def test_an_end_that_readers_understand_differently_is_refused_before_it_is_listed(
    blobs: LocalBlobs, here: bytes
) -> None:
    limits = ArchiveLimits(max_entries=1000)
    data = two_faced(30_000, here=here)
    with pytest.raises(InvalidRequest, match="damaged"):
        unpacked(data, blobs, limits)
    # The bytes of the archive are there in any case; listing it takes ten times as much.
    assert peak_bytes(data, blobs, limits) < 2 * len(data)


def test_a_record_for_large_archives_elsewhere_than_its_locator_says_is_refused(blobs: LocalBlobs) -> None:
    data = bytearray(large_archive(3))
    assert codes(unpacked(bytes(data), blobs)) == [None] * 3
    struct.pack_into("<Q", data, data.rindex(b"PK\x06\x07") + 8, 0)
    with pytest.raises(InvalidRequest, match="damaged"):
        unpacked(bytes(data), blobs)


@pytest.mark.parametrize("record", [b"PK\x05\x06", b"PK\x06\x06"], ids=["plain", "large"])
def test_either_record_may_announce_too_much(blobs: LocalBlobs, record: bytes) -> None:
    data = bytearray(large_archive(3))
    if record == b"PK\x05\x06":
        struct.pack_into("<HH", data, data.rindex(record) + 8, 21, 21)
    else:
        struct.pack_into("<QQ", data, data.rindex(record) + 24, 21, 21)
    with pytest.raises(PayloadTooLarge):
        unpacked(bytes(data), blobs)


def test_more_files_than_announced_are_refused_before_they_are_listed(blobs: LocalBlobs) -> None:
    limits = ArchiveLimits(max_entries=1000)
    data = bytearray(zip_of(*((f"{n}", b"x") for n in range(8000)), method=zipfile.ZIP_STORED))
    struct.pack_into("<HH", data, data.rindex(b"PK\x05\x06") + 8, 1, 1)
    assert peak_bytes(bytes(data), blobs, limits) < 2 * len(data)


def large_archive(count: int) -> bytes:
    """An archive with the end record that others have from 65 535 files on."""
    data = zip_of(*((f"{n}", b"x") for n in range(count)), method=zipfile.ZIP_STORED)
    end = data.rindex(b"PK\x05\x06")
    *_, size, start, _ = struct.unpack_from("<4s4H2LH", data, end)
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, start)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, end, 1)
    plain = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return data[:end] + record + locator + plain


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


@pytest.mark.parametrize("place", [2**31, 2**63 - 1000, 2**64 - 1, "directory"])
def test_a_file_in_a_place_that_cannot_be_is_refused_and_its_neighbours_are_not(
    blobs: LocalBlobs, tmp_path: Path, place: int | str
) -> None:
    path = tmp_path / "archive.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in "abc":
            archive.writestr(name, b"x" * 100)
        archive.infolist()[1].header_offset = archive.start_dir if isinstance(place, str) else place
    # A file that is one: in memory, every place can be gone to.
    with path.open("rb") as stream:
        items = unpack(stream, LIMITS, blobs)
    assert codes(items) == [None, "undecodable_image", None]


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
