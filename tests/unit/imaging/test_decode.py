from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from steadyocr.errors import (
    EmptyInput,
    InputError,
    PayloadTooLarge,
    SideRatioExceeded,
    TooManyPixels,
    UndecodableImage,
)
from steadyocr.imaging import decode as decode_module
from steadyocr.imaging.colour import flatten_on_white
from steadyocr.imaging.decode import DecodedImage, decode
from steadyocr.imaging.header import ImageLimits, probe
from tiff_support import tiff_file

LIMITS = ImageLimits()
WIDTH, HEIGHT = 60, 40


def scene(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """Smooth, and different at every corner."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return Image.fromarray((np.stack([x, y, 1 - x * y], axis=2) * 255).astype(np.uint8))


def saved(picture: Image.Image, name: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, name, **options)
    return file.getvalue()


def with_orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def decoded(picture: Image.Image, name: str, **options: Any) -> DecodedImage:
    result = decode(saved(picture, name, **options), LIMITS)
    assert result.pixels.dtype == np.uint8
    assert result.pixels.flags.c_contiguous
    assert result.pixels.shape == (result.info.height, result.info.width, 3)
    return result


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [
        ("JPEG", {"quality": 95, "subsampling": 0}, 12),
        ("JPEG", {"quality": 95, "subsampling": 0, "progressive": True}, 12),
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("WEBP", {"quality": 95}, 12),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("TIFF", {"compression": "jpeg", "quality": 95}, 12),
    ],
)
def test_rgb_of_every_format(name: str, options: dict[str, Any], tolerance: int) -> None:
    result = decoded(scene(), name, **options)
    difference = np.abs(result.pixels.astype(int) - np.asarray(scene()))
    assert difference.max() <= tolerance
    assert result.info.format == name.lower()
    assert (result.info.exif_orientation, result.info.frame, result.info.frames) == (1, 0, 1)


def test_webp_of_the_second_decoder_is_that_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    # Were they unlike, an answer would depend on whether a file is animated.
    data = saved(scene(200, 300), "WEBP", quality=60)
    ours = decode(data, LIMITS).pixels
    with Image.open(io.BytesIO(data)) as picture:
        np.testing.assert_array_equal(ours, np.asarray(picture))


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(name: str, orientation: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Several strips, the last one shorter.
    monkeypatch.setattr(decode_module, "_STRIP_PIXELS", WIDTH * 7)
    stored = scene()
    options = {"lossless": True} if name == "WEBP" else {}
    upright = decoded(stored, name, **options).pixels
    turned = stored.copy()
    turned.getexif()[0x0112] = orientation
    size = ImageOps.exif_transpose(turned).size

    result = decoded(stored, name, exif=with_orientation(orientation), **options)

    assert (result.info.width, result.info.height) == size
    assert result.info.exif_orientation == orientation
    expected = Image.fromarray(upright)
    expected.getexif()[0x0112] = orientation
    np.testing.assert_array_equal(result.pixels, np.asarray(ImageOps.exif_transpose(expected)))
    # The centre of each stored pixel lands on the centre of the viewed one that shows it.
    affine = np.array(result.info.stored_to_viewed)
    for x, y in [(0, 0), (WIDTH - 1, 0), (0, HEIGHT - 1), (17, 5)]:
        viewed_x, viewed_y = affine @ (x + 0.5, y + 0.5, 1) - 0.5
        np.testing.assert_array_equal(result.pixels[int(viewed_y), int(viewed_x)], upright[y, x])
    assert "-0.0" not in str(result.info.stored_to_viewed)


@pytest.mark.parametrize("name", ["PNG", "TIFF", "GIF", "BMP"])
def test_one_bit(name: str) -> None:
    picture = Image.new("1", (WIDTH, HEIGHT), 1)
    picture.paste(0, (10, 10, 20, 20))
    pixels = decoded(picture, name).pixels
    assert (pixels[15, 15] == 0).all()
    assert (pixels[30, 30] == 255).all()


@pytest.mark.parametrize("name", ["JPEG", "PNG", "TIFF", "BMP", "GIF"])
def test_gray(name: str) -> None:
    pixels = decoded(Image.new("L", (WIDTH, HEIGHT), 90), name).pixels
    np.testing.assert_array_equal(pixels, 90)


@pytest.mark.parametrize(("name", "options"), [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})])
def test_transparency_is_shown_on_white(name: str, options: dict[str, Any]) -> None:
    picture = Image.new("RGBA", (WIDTH, HEIGHT), (200, 0, 0, 255))
    picture.paste((0, 0, 0, 0), (0, 0, 10, 10))
    picture.paste((0, 100, 0, 51), (20, 20, 30, 30))
    pixels = decoded(picture, name, **options).pixels
    assert pixels[5, 5].tolist() == [255, 255, 255]
    assert pixels[35, 50].tolist() == [200, 0, 0]
    assert pixels[25, 25].tolist() == [204, 224, 204]


def test_gray_with_transparency() -> None:
    picture = Image.new("LA", (WIDTH, HEIGHT), (0, 51))
    assert decoded(picture, "PNG").pixels[0, 0].tolist() == [204, 204, 204]


def test_premultiplied_transparency() -> None:
    picture = Image.new("RGBA", (WIDTH, HEIGHT), (100, 50, 0, 51)).convert("RGBa")
    pixel = flatten_on_white(picture)[0, 0]
    np.testing.assert_allclose(pixel, [224, 214, 204], atol=2)
    gray = Image.new("LA", (WIDTH, HEIGHT), (0, 51)).convert("La")
    np.testing.assert_allclose(flatten_on_white(gray)[0, 0], 204, atol=1)


@pytest.mark.parametrize("name", ["PNG", "GIF"])
def test_palette_with_a_transparent_entry(name: str) -> None:
    picture = Image.new("P", (WIDTH, HEIGHT), 1)
    picture.putpalette([9, 9, 9, 0, 0, 250, 30, 60, 90])
    picture.paste(0, (0, 0, 10, 10))
    pixels = decoded(picture, name, transparency=0).pixels
    assert pixels[5, 5].tolist() == [255, 255, 255]
    assert pixels[20, 20].tolist() == [0, 0, 250]


def test_colour_key() -> None:
    picture = scene()
    picture.paste((1, 2, 3), (0, 0, 10, 10))
    pixels = decoded(picture, "PNG", transparency=(1, 2, 3)).pixels
    assert pixels[5, 5].tolist() == [255, 255, 255]
    assert pixels[30, 30].tolist() == np.asarray(picture)[30, 30].tolist()


@pytest.mark.parametrize("name", ["JPEG", "TIFF"])
def test_cmyk(name: str) -> None:
    # No ink is white, all black ink is black: an inverted picture would be the other way round.
    picture = Image.new("CMYK", (WIDTH, HEIGHT), (0, 0, 0, 0))
    picture.paste((0, 0, 0, 255), (0, 0, 16, 16))
    picture.paste((255, 0, 0, 0), (32, 16, 48, 32))
    pixels = decoded(picture, name).pixels.astype(int)
    np.testing.assert_allclose(pixels[8, 56], [255, 255, 255], atol=3)
    np.testing.assert_allclose(pixels[8, 8], [0, 0, 0], atol=3)
    np.testing.assert_allclose(pixels[24, 40], [0, 255, 255], atol=3)


def test_ycck_jpeg() -> None:
    # Saved upside down as Adobe does, so the stored planes are 100, 128, 128, 255; the marker then says YCCK.
    planes = Image.merge("CMYK", [Image.new("L", (16, 16), value) for value in (155, 127, 127, 0)])
    data = saved(planes, "JPEG", quality=100)
    place = data.index(b"Adobe") + 11
    pixels = decode(data[:place] + b"\2" + data[place + 1 :], LIMITS).pixels
    # YCC 100 is RGB 100, so C, M and Y are stored as 255 - 100; upside down, that is how light it is.
    np.testing.assert_allclose(pixels[8, 8], 155, atol=4)


def test_sixteen_bit_gray_png() -> None:
    values = np.linspace(0, 65_535, WIDTH * HEIGHT).astype(np.uint16).reshape(HEIGHT, WIDTH)
    pixels = decoded(Image.fromarray(values), "PNG").pixels
    np.testing.assert_array_equal(pixels[..., 0], np.rint(values / 257.0))
    np.testing.assert_array_equal(pixels[..., 0], pixels[..., 2])


# As TIFF counts them: none, and deflate.
PACKERS: dict[int, Callable[[bytes], bytes]] = {1: bytes, 8: zlib.compress}


def gray_tags(bits: int, compression: int) -> dict[int, int | tuple[int, ...]]:
    return {256: WIDTH, 257: HEIGHT, 258: bits, 259: compression, 262: 1, 277: 1, 278: HEIGHT}


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
def test_sixteen_bit_gray_tiff(mode: str) -> None:
    picture = Image.new(mode, (WIDTH, HEIGHT), 257 * 77)
    np.testing.assert_array_equal(decoded(picture, "TIFF").pixels, 77)


def test_sixteen_bit_tiff_whose_zero_is_white() -> None:
    data = bytearray(saved(Image.new("I;16", (WIDTH, HEIGHT), 257 * 77), "TIFF"))
    place = data.index(struct.pack("<HHI", 262, 3, 1)) + 8
    assert data[place] == 1
    data[place] = 0
    np.testing.assert_array_equal(decode(bytes(data), LIMITS).pixels, 255 - 77)


def test_twelve_bit_tiff_keeps_white_white() -> None:
    entries = [(256, 3, 4), (257, 3, 2), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1), (279, 4, 12)]
    # Two samples in three bytes: 4095, then 0.
    rows = bytes([0xFF, 0xF0, 0x00]) * 4
    directory = struct.pack("<H", len(entries)) + b"".join(
        struct.pack(
            "<HHIHH" if kind == 3 else "<HHII", *((tag, kind, 1, value, 0) if kind == 3 else (tag, kind, 1, value))
        )
        for tag, kind, value in entries
    )
    data = struct.pack("<2sHI", b"II", 42, 8 + len(rows)) + rows + directory + bytes(4)
    assert decode(data, LIMITS).pixels[..., 0].tolist() == [[255, 0, 255, 0]] * 2


def test_sixteen_bit_gray_png_with_a_gray_that_is_nothing() -> None:
    values = np.full((HEIGHT, WIDTH), 40 * 257, np.uint16)
    values[:, 30:] = 0
    data = saved(Image.fromarray(values), "PNG")
    chunk = b"tRNS" + struct.pack(">H", 0)
    at = data.index(b"IDAT") - 4
    data = data[:at] + struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[at:]
    pixels = decode(data, LIMITS).pixels
    assert (pixels[0, 0].tolist(), pixels[0, 59].tolist()) == ([40] * 3, [255] * 3)


def test_sixteen_bit_rgb_png() -> None:
    row = b"\0" + struct.pack(">HHH", 65_535, 128 * 257, 0) * 4
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(row * 4)),
        (b"IEND", b""),
    ]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    np.testing.assert_array_equal(decode(data, LIMITS).pixels, np.broadcast_to([255, 128, 0], (4, 4, 3)))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_gray_png_of_any_depth_with_a_gray_that_is_nothing(bits: int) -> None:
    grays = np.arange(2**bits, dtype=np.uint8)
    places = (grays[:, None] >> np.arange(bits)[::-1]) & 1
    row = b"\0" + np.packbits(places).tobytes()
    clear = 2**bits // 2
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", len(grays), 1, bits, 0, 0, 0, 0)),
        (b"tRNS", struct.pack(">H", clear)),
        (b"IDAT", zlib.compress(row)),
        (b"IEND", b""),
    ]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    shown = np.where(grays == clear, 255, grays.astype(int) * 255 // (2**bits - 1))
    np.testing.assert_array_equal(decode(data, ImageLimits(max_side_ratio=1000)).pixels[0, :, 0], shown)


@pytest.mark.parametrize(
    ("kind", "body", "flaw"),
    [
        (b"zTXt", b"mxGraphModel\0\0" + zlib.compress(bytes(2 << 20)), 0),
        (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(2 << 20)), 0),
        (b"iCCP", b"profile\0\0" + zlib.compress(bytes(2 << 20)), 0),
        (b"tEXt", b"Comment\0its checksum is wrong", 1),
        (b"pHYs", b"\0\0", 0),
        (b"gAMA", b"", 0),
        (b"acTL", b"\0\0\0\2", 0),
    ],
)
def test_no_side_note_of_a_png_hides_the_picture(kind: bytes, body: bytes, flaw: int) -> None:
    data = saved(scene(), "PNG")
    note = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body) ^ flaw)
    noted = decode(data[:33] + note + data[33:], LIMITS)
    np.testing.assert_array_equal(noted.pixels, decode(data, LIMITS).pixels)


def test_a_png_that_breaks_off_in_a_side_note_is_cut_off() -> None:
    data = saved(scene(), "PNG")
    with pytest.raises(UndecodableImage):
        decode(data[:33] + struct.pack(">I", 1000) + b"tEXtComment", LIMITS)


def test_a_bitmap_whose_alpha_nobody_filled_in_is_no_blank_page() -> None:
    """With masks for all four samples, and zero in every fourth byte."""
    rows = np.asarray(scene())[::-1]
    body = np.dstack([rows[..., ::-1], np.zeros(rows.shape[:2], np.uint8)]).tobytes()
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 108, WIDTH, HEIGHT, 1, 32, 3, len(body), 0, 0, 0, 0) + masks + bytes(52)
    data = struct.pack("<2sIHHI", b"BM", 14 + 108 + len(body), 0, 0, 14 + 108) + header + body
    np.testing.assert_array_equal(decode(data, LIMITS).pixels, np.asarray(scene()))


def test_a_tiff_of_a_kind_that_is_not_read_is_not_called_cut_off() -> None:
    _, encoded = cv2.imencode(".tiff", np.zeros((HEIGHT, WIDTH, 3), np.float32))
    with pytest.raises(UndecodableImage, match="8 bits"):
        decode(encoded.tobytes(), LIMITS)


@pytest.mark.parametrize(
    ("low", "high", "black", "white"),
    [(0.0, 1.0, 0, 255), (10.0, 200.0, 10, 200), (0.0, 65_535.0, 0, 255), (-5.0, 5.0, 0, 255)],
)
def test_float_tiff(low: float, high: float, black: int, white: int) -> None:
    values = np.full((HEIGHT, WIDTH), low, np.float32)
    values[:, 30:] = high
    pixels = decoded(Image.fromarray(values), "TIFF").pixels
    assert (int(pixels[0, 0, 0]), int(pixels[0, 59, 0])) == (black, white)


def test_float_tiff_without_numbers() -> None:
    values = np.full((HEIGHT, WIDTH), np.nan, np.float32)
    np.testing.assert_array_equal(decoded(Image.fromarray(values), "TIFF").pixels, 0)
    values[0, 0], values[0, 1] = np.inf, 0.5
    assert decoded(Image.fromarray(values), "TIFF").pixels[0, 1].tolist() == [128] * 3


@pytest.mark.parametrize(
    ("low", "high", "black", "white"), [(0, 255, 0, 255), (0, 65_535, 0, 255), (-70_000, 70_000, 0, 255)]
)
def test_wide_integer_tiff(low: int, high: int, black: int, white: int) -> None:
    values = np.full((HEIGHT, WIDTH), low, np.int32)
    values[:, 30:] = high
    pixels = decoded(Image.fromarray(values), "TIFF").pixels
    assert (int(pixels[0, 0, 0]), int(pixels[0, 59, 0])) == (black, white)


@pytest.mark.parametrize("value", [-1.0, 70_000.0, 0.0])
@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_a_blank_page_of_wide_samples_is_a_blank_page(value: float, kind: type[np.generic]) -> None:
    values = np.full((HEIGHT, WIDTH), value, kind)
    np.testing.assert_array_equal(decoded(Image.fromarray(values), "TIFF").pixels, 0)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("bits", [8, 16])
def test_tiff_whose_channels_lie_apart(bits: int, compression: int, order: str) -> None:
    stored = (np.asarray(scene()).astype(np.uint32) * (257 if bits == 16 else 1)).astype(f"{order}u{bits // 8}")
    planes = [stored[..., channel].tobytes() for channel in range(3)]
    tags = gray_tags(bits, compression) | {258: (bits,) * 3, 262: 2, 277: 3, 284: 2}
    data = tiff_file(tags, *map(PACKERS[compression], planes), order=order)
    np.testing.assert_array_equal(decode(data, LIMITS).pixels, np.asarray(scene()))


@pytest.mark.parametrize("zero_is", ["black", "white"])
@pytest.mark.parametrize("bits", [1, 8])
def test_a_single_channel_is_apart_from_nothing(bits: int, zero_is: str) -> None:
    gray = np.asarray(scene().convert("L")) // (1 if bits == 8 else 128)
    rows = gray.tobytes() if bits == 8 else np.packbits(gray, axis=1).tobytes()
    tags = gray_tags(bits, 1) | {262: int(zero_is == "black"), 284: 2}
    shown = gray if bits == 8 else gray * np.uint8(255)
    pixels = decode(tiff_file(tags, rows), LIMITS).pixels
    np.testing.assert_array_equal(pixels[..., 0], shown if zero_is == "black" else 255 - shown)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize(("kind", "bits", "sample_format"), [("f4", 32, 3), ("i4", 32, 2), ("i2", 16, 2)])
def test_wide_tiff_in_every_byte_order(kind: str, bits: int, sample_format: int, compression: int, order: str) -> None:
    values = np.asarray(scene().convert("L")).astype(np.float32)
    rows = PACKERS[compression](values.astype(order + kind).tobytes())
    data = tiff_file(gray_tags(bits, compression) | {339: sample_format}, rows, order=order, kind=3)
    np.testing.assert_array_equal(decode(data, LIMITS).pixels[..., 0], values)


@pytest.mark.parametrize("step", [257, 1])
@pytest.mark.parametrize("bits", [4, 8])
def test_tiff_palette_of_wide_and_of_narrow_colours(bits: int, step: int) -> None:
    colours = np.array([[index, 255 - index, index // 2] for index in range(2**bits)])
    tags = gray_tags(bits, 1) | {262: 3, 320: tuple((colours.T.ravel() * step).tolist())}
    indices = np.arange(WIDTH * HEIGHT).reshape(HEIGHT, WIDTH) % 2**bits
    rows = indices if bits == 8 else indices[:, 0::2] << 4 | indices[:, 1::2]
    data = tiff_file(tags, rows.astype(np.uint8).tobytes(), kind=4 if step == 1 else 3)
    np.testing.assert_array_equal(decode(data, LIMITS).pixels, colours[indices])


def test_lab_tiff() -> None:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    picture = ImageCms.profileToProfile(scene(), srgb, lab, outputMode="LAB")
    assert picture is not None
    difference = decoded(picture, "TIFF").pixels.astype(int) - np.asarray(scene())
    # Eight bits of Lab are coarser than eight of RGB in saturated colours.
    assert np.abs(difference).mean() < 4


def test_ycbcr_tiff() -> None:
    pixels = decoded(scene().convert("YCbCr"), "TIFF").pixels
    assert np.abs(pixels.astype(int) - np.asarray(scene())).max() <= 4


@pytest.mark.parametrize("name", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame(name: str) -> None:
    frames = [Image.new("RGB", (WIDTH, HEIGHT), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if name == "WEBP" else {}
    result = decoded(frames[0], name, save_all=True, append_images=frames[1:], **options)
    assert (result.info.frame, result.info.frames) == (0, 3)
    np.testing.assert_array_equal(result.pixels, np.broadcast_to([255, 0, 0], (HEIGHT, WIDTH, 3)))


@pytest.mark.parametrize("size", [(1, 1), (1, 60), (60, 1)])
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"])
def test_smallest(name: str, size: tuple[int, int]) -> None:
    pixels = decoded(Image.new("RGB", size, "white"), name).pixels
    assert pixels.min() >= 250


def test_memoryview() -> None:
    data = saved(scene(), "WEBP", lossless=True)
    np.testing.assert_array_equal(decode(memoryview(data), LIMITS).pixels, np.asarray(scene()))


VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("PNG", {}),
    ("BMP", {}),
    ("WEBP", {}),
    ("WEBP", {"lossless": True}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("GIF", {}),
]


def noise() -> Image.Image:
    """Its files have no tail that could be missed."""
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (120, 160, 3), dtype=np.uint8))


@pytest.mark.parametrize(("name", "options"), VARIANTS)
@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95])
def test_truncated(name: str, options: dict[str, Any], keep: float) -> None:
    data = saved(noise(), name, **options)
    with pytest.raises(UndecodableImage):
        decode(data[: int(len(data) * keep)], LIMITS)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_mutated_files_give_pixels_or_typed_errors(name: str, options: dict[str, Any]) -> None:
    original = saved(noise(), name, exif=with_orientation(6), **options)
    rng = np.random.default_rng(7)
    for _ in range(60):
        data = np.frombuffer(original, np.uint8).copy()
        # Headers are where it hurts.
        places = rng.integers(0, rng.choice([80, 700, len(data)]), 4) % len(data)
        data[places] = rng.integers(0, 256, 4)
        try:
            result = decode(data.tobytes(), ImageLimits(max_pixels=1_000_000))
        except InputError:
            continue
        assert result.pixels.shape == (result.info.height, result.info.width, 3)


def test_pixels_that_differ_from_the_header_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = saved(scene(), "PNG"), saved(scene(300, 200), "PNG")
    header = probe(small)
    monkeypatch.setattr(decode_module, "probe", lambda data: header)
    with pytest.raises(UndecodableImage):
        decode(large, LIMITS)


def test_limits_come_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_module, "_decode_pixels", lambda *_: pytest.fail("decoded"))
    data = saved(scene(200, 1), "PNG")
    with pytest.raises(PayloadTooLarge):
        decode(data, ImageLimits(max_bytes=10))
    with pytest.raises(TooManyPixels):
        decode(data, ImageLimits(max_pixels=100))
    with pytest.raises(SideRatioExceeded):
        decode(data, LIMITS)
    with pytest.raises(EmptyInput):
        decode(b"", LIMITS)


def test_no_second_limit_of_the_library() -> None:
    # Pillow would refuse large pictures as bombs; whether they may come in is for our limits alone to say.
    assert Image.MAX_IMAGE_PIXELS is None


def test_out_of_memory_is_not_the_fault_of_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(decode_module, "_decode_pixels", no_memory)
    with pytest.raises(MemoryError):
        decode(saved(scene(), "PNG"), LIMITS)


PEAK = """
import io, re, sys
from pathlib import Path
import numpy as np
from PIL import Image
from steadyocr.imaging.decode import decode
from steadyocr.imaging.header import ImageLimits

def peak_kib():
    # Not ru_maxrss: that one starts with the peak of the parent process.
    return int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])

data = Path(sys.argv[1]).read_bytes()
file = io.BytesIO()
Image.new("RGB", (64, 64)).save(file, sys.argv[2])
decode(file.getvalue(), ImageLimits())
before = peak_kib()
pixels = decode(data, ImageLimits()).pixels
print((peak_kib() - before) * 1024 / pixels.nbytes)
"""


@pytest.mark.parametrize(
    ("name", "orientation", "limit"),
    [("JPEG", 1, 2.6), ("JPEG", 6, 2.6), ("PNG", 1, 2.6), ("WEBP", 6, 3.3), ("TIFF", 1, 2.6)],
)
def test_peak_memory(name: str, orientation: int, limit: float, tmp_path: Path) -> None:
    path = tmp_path / "picture"
    options = {"method": 0} if name == "WEBP" else {}
    path.write_bytes(saved(scene(3000, 2000), name, exif=with_orientation(orientation), **options))
    answer = subprocess.run([sys.executable, "-c", PEAK, str(path), name], capture_output=True, text=True, check=True)
    assert 1.0 < float(answer.stdout) < limit
