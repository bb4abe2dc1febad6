from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from typing import Any

import pytest
from PIL import Image

from steadyocr.errors import (
    EmptyInput,
    PayloadTooLarge,
    SideRatioExceeded,
    TooManyPixels,
    UndecodableImage,
    UnsupportedMediaType,
)
from steadyocr.imaging.header import ImageHeader, ImageLimits, check_limits, check_size, probe
from tiff_support import tiff_file


def saved(name: str, size: tuple[int, int] = (30, 20), **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size).save(file, name, **options)
    return file.getvalue()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def header_of(width: int, height: int, orientation: int = 1) -> ImageHeader:
    return ImageHeader("png", width, height, 1, orientation, 8, 3)


def test_no_picture_library_is_loaded() -> None:
    code = (
        "import sys, steadyocr.imaging.header; print([name for name in ('numpy', 'cv2', 'PIL') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_empty() -> None:
    with pytest.raises(EmptyInput):
        probe(b"")


def test_memoryview() -> None:
    assert probe(memoryview(saved("PNG"))) == probe(saved("PNG"))


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"%PDF-1.7\n...", "PDF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "AVIF"),
        (b"  <svg xmlns='...'/>", "SVG"),
        (b"BMW is a maker of cars, and this is text", "text"),
        (b"\0\1\2\3\4", "unknown"),
        (b"PK\3\4....", "ZIP archive or Office document"),
    ],
)
def test_foreign_formats_are_named(data: bytes, name: str) -> None:
    with pytest.raises(UnsupportedMediaType) as caught:
        probe(data)
    assert caught.value.details == {"detected": name}
    assert name in caught.value.message


@pytest.mark.parametrize("name", ["JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF"])
@pytest.mark.parametrize("keep", [12, 14, 16])
def test_cut_header_is_undecodable(name: str, keep: int) -> None:
    data = saved(name)
    with pytest.raises(UndecodableImage) as caught:
        probe(data[:keep])
    assert caught.value.details == {"format": name.lower()}


def test_jpeg_cut_before_the_scan_is_undecodable() -> None:
    data = saved("JPEG")
    with pytest.raises(UndecodableImage):
        probe(data[: data.index(b"\xff\xda")])


def test_zero_size_is_undecodable() -> None:
    data = bytearray(saved("PNG"))
    data[16:20] = bytes(4)
    with pytest.raises(UndecodableImage):
        probe(bytes(data))


def test_bomb_costs_nothing_and_is_seen() -> None:
    rows = zlib.compress(bytes(16_001), 9)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 16_000, 11_000, 8, 2, 0, 0, 0))
        + png_chunk(b"IDAT", rows)
    )
    with pytest.raises(TooManyPixels) as caught:
        check_limits(probe(data), ImageLimits())
    assert caught.value.details["width"] == 16_000
    assert caught.value.details["max_pixels"] == 64_000_000


def test_exif_after_the_pixels_of_a_png() -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    data = saved("PNG")
    end = data.index(b"IEND") - 4
    data = data[:end] + png_chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")) + data[end:]
    assert probe(data).exif_orientation == 8


@pytest.mark.parametrize("value", [0, 9, 65_535])
def test_invalid_orientation_counts_as_upright(value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    assert probe(saved("JPEG", exif=exif)).exif_orientation == 1


def test_broken_exif_does_not_refuse_the_picture() -> None:
    data = saved("JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert probe(data).exif_orientation == 1


def test_gif_frame_beyond_the_screen_counts() -> None:
    data = bytearray(saved("GIF", (4, 4)))
    place = data.index(b",\0\0\0\0\4\0\4\0")
    data[place + 5 : place + 9] = struct.pack("<HH", 60_000, 50_000)
    header = probe(bytes(data))
    assert (header.width, header.height) == (60_000, 50_000)
    with pytest.raises(TooManyPixels):
        check_limits(header, ImageLimits())


def test_top_down_bmp() -> None:
    data = bytearray(saved("BMP", (5, 7)))
    data[22:26] = struct.pack("<i", -7)
    assert (probe(bytes(data)).width, probe(bytes(data)).height) == (5, 7)


def test_os2_bmp() -> None:
    data = b"BM" + bytes(12) + struct.pack("<IHHHH", 12, 9, 4, 1, 24) + bytes(200)
    assert probe(data) == ImageHeader("bmp", 9, 4, 1, 1, 8, 3)


def test_scan_bomb_is_refused() -> None:
    data = saved("JPEG", progressive=True)
    start = data.rindex(b"\xff\xda")
    scan = data[start:-2]
    with pytest.raises(UndecodableImage, match="scans"):
        probe(data[:start] + scan * 200 + b"\xff\xd9")


def test_scans_of_a_film_behind_the_picture_do_not_count() -> None:
    assert probe(saved("JPEG") + b"\xff\xda\0\2" * 500).format == "jpeg"


def test_second_frame_in_a_jpeg_is_refused() -> None:
    data = saved("JPEG")
    place = data.index(b"\xff\xc0")
    with pytest.raises(UndecodableImage):
        probe(data[:place] + data[place : place + 19] + data[place:])


@pytest.mark.parametrize(("orientation", "size"), [(1, (30, 20)), (4, (30, 20)), (5, (20, 30)), (8, (20, 30))])
def test_viewed_size(orientation: int, size: tuple[int, int]) -> None:
    assert header_of(30, 20, orientation).viewed_size == size


def test_bytes_per_pixel() -> None:
    assert header_of(1, 1).bytes_per_pixel == 3
    assert ImageHeader("png", 1, 1, 1, 1, 1, 1).bytes_per_pixel == 1
    assert ImageHeader("png", 1, 1, 1, 1, 16, 4).bytes_per_pixel == 8


def test_limits_are_inclusive() -> None:
    limits = ImageLimits(max_bytes=10, max_pixels=1000, max_side=100, max_side_ratio=10)
    check_size(10, limits)
    check_limits(header_of(100, 10), limits)


def test_too_many_bytes() -> None:
    with pytest.raises(PayloadTooLarge) as caught:
        check_size(11, ImageLimits(max_bytes=10))
    assert caught.value.details == {"size_bytes": 11, "max_bytes": 10}


@pytest.mark.parametrize("size", [(101, 99), (201, 10), (10, 201)])
def test_too_many_pixels(size: tuple[int, int]) -> None:
    with pytest.raises(TooManyPixels):
        check_limits(header_of(*size), ImageLimits(max_pixels=9_998, max_side=200))


@pytest.mark.parametrize("size", [(101, 1), (2, 201)])
def test_side_ratio(size: tuple[int, int]) -> None:
    with pytest.raises(SideRatioExceeded) as caught:
        check_limits(header_of(*size), ImageLimits())
    assert caught.value.details["max_side_ratio"] == 100.0


@pytest.mark.parametrize(("subsampling", "samples"), [("4:4:4", 3.0), ("4:2:2", 2.0), ("4:2:0", 1.5)])
def test_a_progressive_jpeg_says_what_its_decoder_keeps(subsampling: str, samples: float) -> None:
    assert probe(saved("JPEG", subsampling=subsampling, progressive=True)).kept_samples == samples
    assert probe(saved("JPEG", subsampling=subsampling)).kept_samples == 0


@pytest.mark.parametrize(("subsampling", "samples"), [("4:4:4", 3.0), ("4:2:0", 1.5)])
def test_a_jpeg_with_a_scan_for_each_channel_is_kept_as_well(subsampling: str, samples: float) -> None:
    data = bytearray(saved("JPEG", subsampling=subsampling))
    start = data.index(b"\xff\xda")
    assert data[start + 4] == 3
    # The first scan names one channel only.
    data[start + 2 : start + 14] = b"\0\x08\x01\x01\0\0\x3f\0"
    assert probe(bytes(data)).kept_samples == samples


def tiled(width: int, height: int, *tile: int, kind: int = 4) -> bytes:
    tags: dict[int, int | tuple[int, ...]] = {256: width, 257: height, 258: (8, 8, 8), 262: 2, 277: 3}
    return tiff_file(tags | dict(zip((322, 323), tile, strict=False)), b"", kind=kind)


@pytest.mark.parametrize("tile", [(16, 16), (1024, 256), (4096, 4096)])
def test_a_tile_may_be_larger_than_the_picture_and_is_counted_whole(tile: tuple[int, int]) -> None:
    assert probe(tiled(200, 100, *tile)).piece_bytes == tile[0] * tile[1] * 3
    assert probe(tiled(5000, 3000, 8192, 4096)).piece_bytes == 8192 * 4096 * 3


@pytest.mark.parametrize("tile", [(16_384, 16_384), (4097, 16), (16, 4097), (2**32 - 1, 1), (0, 2**32 - 1), (5000,)])
def test_a_tile_far_larger_than_the_picture_is_refused(tile: tuple[int, ...]) -> None:
    with pytest.raises(UndecodableImage, match="tiles of"):
        probe(tiled(200, 100, *tile))


def test_a_tile_without_size_takes_nothing() -> None:
    assert probe(tiled(200, 100, 0, 0)).piece_bytes == 0


def test_no_size_hides_behind_a_type_that_only_the_decoder_reads() -> None:
    with pytest.raises(UndecodableImage, match="type 9"):
        probe(tiled(200, 100, 4096, 4096, kind=9))


def test_no_size_hides_behind_a_second_one() -> None:
    data = tiled(200, 100, 16_384, 16)
    place = data.index(struct.pack("<HHI", 323, 4, 1))
    repeated = data[:place] + struct.pack("<HHII", 322, 4, 1, 16) + data[place + 12 :]
    with pytest.raises(UndecodableImage, match="two values"):
        probe(repeated)


@pytest.mark.parametrize(("rows", "counted"), [(10, 10), (20, 20), (2**31, 20)])
def test_a_strip_is_at_most_the_picture(rows: int, counted: int) -> None:
    data = tiff_file({256: 30, 257: 20, 258: (16, 16, 16), 262: 2, 277: 3, 278: rows}, b"")
    assert probe(data).piece_bytes == 30 * counted * 6
    assert probe(saved("PNG")).piece_bytes == 0


def test_big_tiff_counts_its_strips_as_well() -> None:
    assert probe(saved("TIFF", big_tiff=True)).piece_bytes == probe(saved("TIFF")).piece_bytes == 30 * 20 * 3
