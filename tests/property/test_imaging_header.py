"""The pure-Python header reader agrees with Pillow, and nothing hostile gets more than a typed error out of it."""

from __future__ import annotations

import io
import struct
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from steadyocr.errors import EmptyInput, UndecodableImage, UnsupportedMediaType
from steadyocr.imaging.header import probe

# (Pillow's format, mode, options): every way of saving that leads to another header.
VARIANTS: list[tuple[str, str, dict[str, Any]]] = [
    ("JPEG", "RGB", {}),
    ("JPEG", "RGB", {"progressive": True}),
    ("JPEG", "L", {}),
    ("JPEG", "CMYK", {}),
    ("JPEG", "RGB", {"subsampling": 0, "comment": b"x" * 300, "icc_profile": b"p" * 70_000}),
    ("PNG", "RGB", {}),
    ("PNG", "RGBA", {}),
    ("PNG", "1", {}),
    ("PNG", "L", {}),
    ("PNG", "LA", {}),
    ("PNG", "P", {}),
    ("PNG", "I;16", {}),
    ("BMP", "RGB", {}),
    ("BMP", "1", {}),
    ("BMP", "L", {}),
    ("BMP", "P", {}),
    ("BMP", "RGBA", {}),
    ("WEBP", "RGB", {}),
    ("WEBP", "RGB", {"lossless": True}),
    ("WEBP", "RGBA", {}),
    ("WEBP", "RGBA", {"lossless": True}),
    ("TIFF", "RGB", {}),
    ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    ("TIFF", "RGB", {"big_tiff": True}),
    ("TIFF", "1", {"compression": "group4"}),
    ("TIFF", "CMYK", {}),
    ("TIFF", "I;16B", {}),
    ("TIFF", "I;16", {}),
    ("TIFF", "F", {}),
    ("GIF", "P", {}),
    ("GIF", "L", {}),
]
CHANNELS = {"1": 1, "L": 1, "P": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4, "I;16": 1, "I;16B": 1, "F": 1}
BITS = {"1": 1, "I;16": 16, "I;16B": 16, "F": 32}
WITH_EXIF = ("JPEG", "PNG", "WEBP", "TIFF")
HOSTILE_LIMIT_S = 0.5


def save(variant: int, size: tuple[int, int], orientation: int = 1, frames: int = 1) -> bytes:
    name, mode, options = VARIANTS[variant]
    pictures = [Image.new(mode, size, index) if mode == "P" else Image.new(mode, size) for index in range(frames)]
    for index, picture in enumerate(pictures):
        # Equal frames would be merged into one.
        picture.paste(1 + index % 2, (0, 0, 1, 1)) if mode in "1LP" else None
    options = dict(options)
    if name in WITH_EXIF and orientation != 1:
        exif = Image.Exif()
        exif[0x010F] = "maker of the camera"
        exif[0x0112] = orientation
        options["exif"] = exif
    if frames > 1:
        options |= {"save_all": True, "append_images": pictures[1:]}
    file = io.BytesIO()
    pictures[0].save(file, name, **options)
    return file.getvalue()


@settings(max_examples=150, deadline=None)
@given(
    variant=st.integers(0, len(VARIANTS) - 1),
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    orientation=st.integers(1, 8),
)
def test_agrees_with_pillow(variant: int, size: tuple[int, int], orientation: int) -> None:
    name, mode, _ = VARIANTS[variant]
    data = save(variant, size, orientation)

    header = probe(data)

    with Image.open(io.BytesIO(data)) as picture:
        # Pillow announces TIFF sizes as viewed.
        assert (header.viewed_size if name == "TIFF" else (header.width, header.height)) == picture.size
        assert header.format.upper() == picture.format
        assert header.exif_orientation == picture.getexif().get(0x0112, 1)
        assert header.frames == getattr(picture, "n_frames", 1)
    assert (header.width, header.height) == size
    if name in WITH_EXIF:
        assert header.exif_orientation == orientation
    if name in ("JPEG", "PNG", "TIFF"):
        assert header.channels == CHANNELS[mode]
        # Pillow stores a palette in as few bits as it takes.
        assert header.bit_depth == BITS.get(mode, 8) or mode == "P"


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG", "TIFF"])
@pytest.mark.parametrize("frames", [2, 5])
def test_counts_frames_as_pillow_does(name: str, frames: int) -> None:
    pictures = [Image.new("RGB", (20, 10), (index * 40, 0, 0)) for index in range(frames)]
    file = io.BytesIO()
    pictures[0].save(file, name, save_all=True, append_images=pictures[1:])

    header = probe(file.getvalue())

    with Image.open(file) as picture:
        assert header.frames == getattr(picture, "n_frames", None) == frames
    assert (header.width, header.height) == (20, 10)


def assert_only_typed_errors(data: bytes) -> None:
    begin = time.thread_time()
    try:
        header = probe(data)
    except (EmptyInput, UnsupportedMediaType, UndecodableImage):
        pass
    else:
        assert header.width > 0
        assert header.height > 0
        assert 1 <= header.exif_orientation <= 8
    assert time.thread_time() - begin < HOSTILE_LIMIT_S


SAVED = [save(variant, (33, 21), 6) for variant in range(len(VARIANTS))]
MAGICS = [
    b"",
    b"\xff\xd8",
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    b"II*\0",
    b"MM\0*",
    b"II+\0",
    b"BM",
    b"RIFF\0\0\0\0WEBPVP8X",
]


@settings(max_examples=300, deadline=None)
@given(magic=st.sampled_from(MAGICS), rest=st.binary(max_size=400))
def test_garbage(magic: bytes, rest: bytes) -> None:
    assert_only_typed_errors(magic + rest)


@settings(max_examples=300, deadline=None)
@given(
    data=st.sampled_from(SAVED),
    keep=st.floats(0, 1),
    changes=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=6),
)
def test_truncated_and_mutated(data: bytes, keep: float, changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(data[: round(len(data) * keep)])
    for place, value in changes:
        if place < len(damaged):
            damaged[place] = value
    assert_only_typed_errors(bytes(damaged))


MEGABYTES = 8 << 20


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8" + b"\xff" * MEGABYTES,
        b"\xff\xd8" + b"\0" * MEGABYTES,
        b"\xff\xd8" + b"\xff\x00" * (MEGABYTES // 2),
        b"\xff\xd8" + b"\xff\xd0" * (MEGABYTES // 2),
        b"\xff\xd8" + b"\xff\xe2\0\2" * (MEGABYTES // 4),
        SAVED[5][:33] + b"\0\0\0\0tEXt\0\0\0\0" * (MEGABYTES // 12),
        b"GIF89a\1\0\1\0\0\0\0" + b"\x21\xfe" + b"\1x" * (MEGABYTES // 2),
        b"GIF89a\1\0\1\0\0\0\0" + b"\0" * MEGABYTES,
        b"GIF89a\1\0\1\0\0\0\0,\0\0\0\0\1\0\1\0\0\2" + b"\1x" * (MEGABYTES // 2),
        b"GIF89a\1\0\1\0\0\0\0,\0\0\0\0\1\0\1\0\0\2\0" + b"\x21\xfe\0" * (MEGABYTES // 3),
        b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\2\0\0\0" + b"\1\0\0" * 2 + b"ANMF\0\0\0\0" * (MEGABYTES // 8),
        # A chain of directories, each naming the next.
        b"II*\0\x08\0\0\0" + b"".join(struct.pack("<HI", 0, 8 + 6 * (index + 1)) for index in range(MEGABYTES // 6)),
        # One that names itself, entries without end, and places beyond all counting.
        b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
        b"II*\0\x08\0\0\0\xff\xff" + b"\0" * MEGABYTES,
        b"II+\0\x08\0\0\0" + b"\xff" * 64,
        b"II+\0\x08\0\0\0\x10" + b"\0" * 7 + b"\xff" * 64,
    ],
    ids=range(16),
)
def test_hostile_files_are_dealt_with_at_once(data: bytes) -> None:
    assert_only_typed_errors(data)
