"""Pictures of a data set look as they will to the service, and what is none is named."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from steadyocr.errors import DatasetError
from steadyocr.training.pictures import read_image

HUGE = 60_000


def test_transparent_parts_are_white(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[2:4, 2:4, 3] = 255  # black text on nothing, and nothing is stored as black
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image[0, 0].tolist() == [255, 255, 255]
    assert image[3, 3].tolist() == [0, 0, 0]


def test_jpeg_is_turned_as_viewed(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (16, 8), "red").save(tmp_path / "a.jpg", exif=exif)
    image = read_image(tmp_path / "a.jpg")
    assert image.shape == (16, 8, 3)
    assert image[0, 0, 0] > 200 > image[0, 0, 2]


def huge_png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", HUGE, HUGE, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64))


def huge_jpeg() -> bytes:
    file = io.BytesIO()
    Image.new("L", (8, 8)).save(file, "JPEG")
    data = bytearray(file.getvalue())
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", HUGE, HUGE)
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [b"", b"no picture", huge_png(), huge_jpeg(), b"\xff\xd8\xff"],
    ids=["empty", "text", "huge PNG", "huge JPEG", "cut off"],
)
def test_what_is_no_picture_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(DatasetError, match=r"a\.png: not a picture that can be decoded"):
        read_image(tmp_path / "a.png")
    with pytest.raises(DatasetError, match=r"b\.png: cannot be read"):
        read_image(tmp_path / "b.png")
