"""Fine-tuning and export from the page, end to end, on a tiny set of rendered text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import ImageOps
from playwright.sync_api import Page, expect

from browser_support import OpenPage, needs_chromium
from support import KnownPicture, RunningServer, encoded, known_picture, running_server

pytestmark = needs_chromium

# On two quiet cores all of it takes less than a minute; where others train and test as well, many times that.
LONG_MS = 240_000


def halved(picture: KnownPicture) -> KnownPicture:
    image = picture.image.convert("RGB").resize([side // 2 for side in picture.image.size])
    return replace(
        picture, data=encoded(image), quads=[[[n / 2 for n in point] for point in quad] for quad in picture.quads]
    )


def make_set(folder: Path) -> None:
    """Three known pictures as ICDAR has them, half as large, two to train on and one to judge by."""
    chinese, english = (halved(known_picture(name)) for name in ("chinese", "english"))
    dark = replace(english, data=encoded(ImageOps.invert(english.image.convert("RGB"))))
    for split, some in (("train", [chinese, english]), ("test", [dark])):
        for kind in ("images", "gts"):
            (folder / f"{split}_{kind}").mkdir(parents=True)
        for number, picture in enumerate(some):
            (folder / f"{split}_images" / f"{number}.png").write_bytes(picture.data)
            rows = [f"{','.join(str(round(n)) for point in quad for n in point)},text\n" for quad in picture.quads]
            (folder / f"{split}_gts" / f"{number}.txt").write_text("".join(rows), encoding="utf-8")
        (folder / f"{split}_list.txt").write_text("".join(f"{number}.png\n" for number in range(len(some))))


@pytest.fixture
def laboratory(remembering: tuple[str, ...], tmp_path: Path) -> Iterator[RunningServer]:
    """A server with one data set and everything that training needs."""
    pytest.importorskip("torch", reason="training needs torch")
    pytest.importorskip("onnx", reason="exports need onnx")
    make_set(tmp_path / "datasets" / "signs")
    # On a busy machine a nice trainer waits for everybody else, and so would this test.
    with running_server(tmp_path, remembering, engines__count="1", lab__nice="0", lab__threads="2") as running:
        yield running


def train(page: Page) -> None:
    expect(page.locator(".report")).to_contain_text("3 pictures", timeout=LONG_MS)
    page.get_by_text("More", exact=True).click()
    for field, value in (("Crop side", 128), ("Crops per picture", 1), ("Batch size", 1), ("Epochs", 1)):
        page.get_by_label(field).fill(str(value))
    # So small that the weights stay good: they are to serve afterwards.
    page.get_by_label("Learning rate").fill("0.0001")
    page.get_by_role("button", name="Start training").click()
    page.locator("#panel-tune[data-run=finished]").wait_for(timeout=LONG_MS)


@pytest.mark.timeout(600)
def test_from_data_set_to_serving_model_to_file(open_page: OpenPage, laboratory: RunningServer) -> None:
    page = open_page("#tune", base=laboratory.url)
    train(page)
    expect(page.locator("so-chart").first).to_contain_text("at step 2")
    page.locator(".run").get_by_role("button", name="Use this model").click()
    worse = page.get_by_role("dialog").get_by_role("button", name="Use this model")
    used = page.locator(".run .note").get_by_text("The service reads with lab-")
    # Two steps may help or not; if they did not, it is said and asked.
    expect(worse.or_(page.locator(".run .note")).first).to_be_visible()
    if worse.is_visible():
        worse.click()
    expect(used).to_be_visible(timeout=LONG_MS)
    info = laboratory.info()
    assert info["models"]["detector"]["name"].startswith("lab-")
    assert info["settings"]["models"]["detector"] == info["models"]["detector"]["name"]

    page.locator(".run").get_by_role("button", name="Export").click()
    expect(page.locator("#export-model option:checked")).to_contain_text("signs")
    page.get_by_role("button", name="fixed").click()
    page.get_by_label("Height").fill("320")
    page.get_by_label("Width").fill("330")
    page.locator("#panel-export button[type=submit]").click()
    card = page.locator(".export-card")
    expect(card.locator(".figures")).to_be_visible(timeout=LONG_MS)
    expect(card).to_contain_text("320 × 352")
    expect(card).to_contain_text("Same answers as the original")
    with page.expect_download() as waiting:
        card.get_by_role("button", name="Download").click()
    assert waiting.value.suggested_filename == "model_320x352.onnx"
    assert Path(waiting.value.path()).stat().st_size > 1_000_000

    page.go_back()
    page.get_by_role("button", name="Back to pp-ocrv6-small-det").click()
    expect(page.locator(".run .note").get_by_text("reads with pp-ocrv6-small-det")).to_be_visible(timeout=LONG_MS)
    assert laboratory.info()["models"]["detector"]["name"] == "pp-ocrv6-small-det"
