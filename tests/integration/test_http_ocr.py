"""Pictures in, pages out, over real HTTP."""

from __future__ import annotations

import base64
import csv
import io
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from support import KnownPicture, RunningServer, encoded, overlaps, quads_of, texts_of, without_times

Send = Callable[[httpx.Client, bytes], httpx.Response]

ENTRANCES: dict[str, Send] = {
    "form": lambda client, data: client.post("/v1/ocr", files={"file": ("扫描.png", data, "image/png")}),
    # As some libraries send a name beyond ASCII.
    "form, extended name": lambda client, data: client.post(
        "/v1/ocr",
        content=b"--b\r\nContent-Disposition: form-data; name=file; filename*=utf-8''%E4%BD%A0.png\r\n\r\n"
        + data
        + b"\r\n--b--\r\n",
        headers={"Content-Type": "multipart/form-data; boundary=b"},
    ),
    "raw": lambda client, data: client.post("/v1/ocr", content=data, headers={"Content-Type": "image/png"}),
    "raw without a type": lambda client, data: client.post("/v1/ocr", content=data),
    "chunked": lambda client, data: client.post(
        "/v1/ocr", content=(data[at : at + 999] for at in range(0, len(data), 999))
    ),
    "json": lambda client, data: client.post("/v1/ocr", json={"image": base64.b64encode(data).decode()}),
    "json with a prefix": lambda client, data: client.post(
        "/v1/ocr", json={"image": "data:image/png;base64," + base64.b64encode(data).decode()}
    ),
}


def as_palette(image: Image.Image) -> bytes:
    return encoded(image.quantize(8))


def as_16_bit(image: Image.Image) -> bytes:
    gray = np.asarray(image.convert("L"), np.uint16) * 257
    return encoded(Image.fromarray(gray))


def as_transparent(image: Image.Image) -> bytes:
    """The ink opaque, the paper nothing at all: black under full transparency, as drawing programs write it."""
    ink = np.asarray(image.convert("L")) < 160
    pixels = np.zeros((*ink.shape, 4), np.uint8)
    pixels[ink] = (20, 20, 20, 255)
    return encoded(Image.fromarray(pixels))


VARIANTS: dict[str, Callable[[Image.Image], bytes]] = {
    "1-bit PNG": lambda image: encoded(image.convert("1", dither=Image.Dither.NONE)),
    "1-bit TIFF": lambda image: encoded(image.convert("1", dither=Image.Dither.NONE), "TIFF", compression="group4"),
    "gray PNG": lambda image: encoded(image.convert("L")),
    "16-bit PNG": as_16_bit,
    "palette PNG": as_palette,
    "transparent PNG": as_transparent,
    "CMYK JPEG": lambda image: encoded(image.convert("CMYK"), "JPEG", quality=92),
    "gray JPEG": lambda image: encoded(image.convert("L"), "JPEG", quality=92),
    "progressive JPEG": lambda image: encoded(image, "JPEG", quality=85, progressive=True),
    "WebP": lambda image: encoded(image, "WEBP", quality=85),
    "BMP": lambda image: encoded(image, "BMP"),
    "GIF": lambda image: encoded(image, "GIF"),
    "TIFF": lambda image: encoded(image, "TIFF", compression="tiff_lzw"),
}


@pytest.mark.parametrize("degrees", [90, -90])
def test_a_page_that_lies_on_its_side_is_read_in_its_own_order(
    server: RunningServer, english: KnownPicture, degrees: int
) -> None:
    page = server.ocr(encoded(english.image.rotate(degrees, expand=True)))
    assert texts_of(page) == english.texts


# What has to be done to the viewed picture to get the stored one, by EXIF orientation.
STORED_BY_ORIENTATION = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def check(page: dict[str, Any], known: KnownPicture) -> None:
    assert texts_of(page) == known.texts
    assert page["text"] == "\n".join(known.texts)
    # The boxes of the ink are tighter than what a detector is trained to give.
    assert overlaps(quads_of(page), known.quads).min() > 0.6


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_every_way_in_gives_the_same_page(server: RunningServer, english: KnownPicture, entrance: str) -> None:
    picture = english.first_line()
    answer = ENTRANCES[entrance](server.client, picture.data)
    assert answer.status_code == 200
    assert texts_of(answer.json()) == picture.texts
    assert without_times(answer.json()) == without_times(server.ocr(picture.data))


@pytest.mark.parametrize("name", ["chinese", "english"])
def test_a_picture_comes_back_as_quads_and_text(
    server: RunningServer, name: str, request: pytest.FixtureRequest
) -> None:
    known: KnownPicture = request.getfixturevalue(name)
    page = server.ocr(known.data)
    check(page, known)
    assert page["image"] == {
        "width": 720,
        "height": 420,
        "exif_orientation": 1,
        "stored_to_viewed": [[1, 0, 0], [0, 1, 0]],
        "format": "png",
        "frame": 0,
        "frames": 1,
    }
    assert [line["id"] for line in page["lines"]] == list(range(len(known.texts)))
    assert all(0.5 < line["score"] <= 1 and 0.8 < line["text_score"] <= 1 for line in page["lines"])
    assert page["degraded"] is None
    assert set(page["timings_ms"]) == {"decode", "detect", "order", "recognise"}
    assert set(page["model"]) == {"detector", "recogniser"}
    assert page["request_id"]


def test_a_tilted_page_is_read_in_order(server: RunningServer, english: KnownPicture) -> None:
    tilted = encoded(english.image.rotate(10, Image.Resampling.BICUBIC, expand=True, fillcolor="#fdfcf8"))
    assert texts_of(server.ocr(tilted)) == english.texts


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_kind_of_pixel_is_read(server: RunningServer, english: KnownPicture, variant: str) -> None:
    picture = english.first_line()
    check(server.ocr(VARIANTS[variant](picture.image)), picture)


@pytest.mark.parametrize("orientation", STORED_BY_ORIENTATION)
def test_a_turned_photo_is_answered_as_viewed(server: RunningServer, english: KnownPicture, orientation: int) -> None:
    turn = STORED_BY_ORIENTATION[orientation]
    stored = english.image.transpose(turn) if turn is not None else english.image
    exif = Image.Exif()
    exif[0x0112] = orientation
    page = server.ocr(encoded(stored, "JPEG", quality=95, exif=exif))
    check(page, english)
    assert page["image"]["exif_orientation"] == orientation
    assert (page["image"]["width"], page["image"]["height"]) == (720, 420)
    affine = np.array(page["image"]["stored_to_viewed"])
    corners = np.array([[0, 0, 1], [*stored.size, 1]], float)
    viewed = np.sort(corners @ affine.T, axis=0)
    np.testing.assert_allclose(viewed, [[0, 0], [720, 420]], atol=1.01)


def test_a_blank_picture_is_a_page_without_lines(server: RunningServer) -> None:
    page = server.ocr(encoded(Image.new("RGB", (300, 200), "white")))
    assert (page["lines"], page["text"]) == ([], "")


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (33, 7)])
def test_a_tiny_picture_is_answered(server: RunningServer, size: tuple[int, int]) -> None:
    assert server.ocr(encoded(Image.new("L", size, 128)))["image"]["width"] == size[0]


def test_text_markdown_and_csv_hold_the_lines(server: RunningServer, chinese: KnownPicture) -> None:
    text, markdown, table = (
        server.client.post("/v1/ocr", params={"format": kind}, content=chinese.data)
        for kind in ("text", "markdown", "csv")
    )
    assert text.text.splitlines() == chinese.texts
    assert [line.rstrip() for line in markdown.text.splitlines()] == chinese.texts
    rows = list(csv.DictReader(io.StringIO(table.text)))
    assert [row["text"] for row in rows] == chinese.texts
    assert float(rows[0]["x1"]) == pytest.approx(60, abs=12)
    assert [answer.headers["content-type"] for answer in (text, markdown, table)] == [
        "text/plain; charset=utf-8",
        "text/markdown; charset=utf-8",
        "text/csv; charset=utf-8",
    ]


def test_the_overlay_is_the_picture_with_the_quads_drawn_in(server: RunningServer, english: KnownPicture) -> None:
    answer = server.client.post("/v1/ocr", params={"format": "overlay.png"}, content=english.data)
    assert answer.headers["content-type"] == "image/png"
    drawn = np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB"), int)
    original = np.asarray(english.image.convert("RGB"), int)
    assert drawn.shape == original.shape
    changed = np.abs(drawn - original).max(axis=2) > 40
    assert 0.002 < changed.mean() < 0.2
    assert not changed[:20].any(), "there is no line at the top"


def test_detect_finds_the_lines_and_reads_none(server: RunningServer, english: KnownPicture) -> None:
    page = server.client.post("/v1/detect", content=english.data).json()
    assert overlaps(quads_of(page), english.quads).min() > 0.6
    assert {(line["text"], line["text_score"]) for line in page["lines"]} == {("", None)}
    assert "recognise" not in page["timings_ms"]
    assert page["options"]["recognise"] is False


def test_options_are_echoed_and_do_what_they_say(server: RunningServer, english: KnownPicture) -> None:
    usual = server.ocr(english.data)
    grown = server.ocr(english.data, unclip_ratio=2.5)
    strict = server.ocr(english.data, box_threshold=1)
    small = server.ocr(english.data, max_side=360)
    unread = server.ocr(english.data, recognise="false")
    assert grown["options"]["unclip_ratio"] == 2.5
    heights = [np.ptp(quads_of(page)[:, :, 1], axis=1).min() for page in (usual, grown)]
    assert heights[1] > heights[0] + 3
    assert (strict["options"]["box_threshold"], strict["lines"]) == (1, [])
    assert small["degraded"] == {
        "reason": "max_side",
        "steps": ["shrink"],
        "effective_scale": pytest.approx(0.5, abs=0.05),
    }
    assert unread["text"] == ""


def test_options_come_in_by_query_form_and_json_and_the_body_wins(server: RunningServer, english: KnownPicture) -> None:
    form = server.client.post(
        "/v1/ocr",
        params={"unclip_ratio": 1, "box_threshold": 0.25},
        files={"file": english.data},
        data={"unclip_ratio": "2"},
    )
    body = {"image": base64.b64encode(english.data).decode(), "unclip_ratio": 2, "recognise": False}
    by_json = server.client.post("/v1/ocr", params={"box_threshold": 0.25}, json=body)
    for answer in (form, by_json):
        options = answer.json()["options"]
        assert (options["unclip_ratio"], options["box_threshold"]) == (2, 0.25)
    assert by_json.json()["text"] == ""


def test_parallel_requests_never_mix(server: RunningServer, english: KnownPicture, chinese: KnownPicture) -> None:
    headlines = [(encoded(known.image.crop((0, 0, 720, 130))), known.texts[:1]) for known in (english, chinese)]

    def ask(index: int) -> tuple[int, dict[str, Any]]:
        ratio = 1.2 + 0.05 * index
        while True:
            answer = httpx.post(
                f"{server.url}/v1/ocr",
                content=headlines[index % 2][0],
                params={"unclip_ratio": ratio},
                headers={"X-Request-Id": f"parallel-{index}"},
                timeout=60,
                trust_env=False,
            )
            # On a slow machine the last ones would wait for too long, and are told to come again.
            if answer.status_code != 503:
                break
            time.sleep(float(answer.headers["retry-after"]))
        assert answer.status_code == 200, answer.text
        return index, answer.json()

    with ThreadPoolExecutor(20) as pool:
        pages = dict(pool.map(ask, range(20)))
    for index, page in pages.items():
        assert texts_of(page) == headlines[index % 2][1]
        assert page["options"]["unclip_ratio"] == pytest.approx(1.2 + 0.05 * index)
        assert page["request_id"] == f"parallel-{index}"
    for parity in (0, 1):
        heights = [np.ptp(quads_of(pages[index])[0, :, 1]) for index in range(parity, 20, 2)]
        assert heights == sorted(heights)
        assert len(set(heights)) == 10


def test_models_are_loaded_once_whatever_was_asked(server: RunningServer, english: KnownPicture) -> None:
    for _ in range(3):
        server.ocr(english.data)
    engines = server.info()["engines"]
    assert [(engine["model_loads"], engine["restarts"]) for engine in engines] == [(1, 0)] * len(engines)
    assert sum(engine["items"] for engine in engines) > 3
