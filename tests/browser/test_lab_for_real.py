"""Fine-tuning and export from the page, end to end, on a tiny data set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from browser_support import OpenPage, needs_chromium
from labelled import make_icdar
from support import RunningServer, running_server

pytestmark = needs_chromium

# Training starts two processes that stand back from everything else; a busy machine makes them wait.
LONG_MS = 120_000


@pytest.fixture
def laboratory(tmp_path: Path) -> Iterator[RunningServer]:
    """A server with one data set and everything that training needs."""
    pytest.importorskip("torch", reason="training needs torch")
    folder = tmp_path / "datasets" / "bars"
    make_icdar(folder, 4, "train")
    make_icdar(folder, 2, "test")
    with running_server(tmp_path, engines__count="1") as running:
        yield running


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_from_data_set_to_serving_model_to_file(open_page: OpenPage, laboratory: RunningServer) -> None:
    page = open_page("#tune", base=laboratory.url)
    expect(page.locator(".report")).to_contain_text("6 pictures", timeout=LONG_MS)
    page.get_by_text("More", exact=True).click()
    page.get_by_label("Crop side").fill("128")
    page.get_by_label("Crops per picture").fill("2")
    page.get_by_label("Batch size").fill("2")
    page.get_by_label("Epochs").fill("1")
    page.get_by_role("button", name="Start training").click()
    page.locator("#panel-tune[data-run=finished]").wait_for(timeout=LONG_MS)
    expect(page.locator("so-chart").first).to_contain_text("at step")
    page.get_by_role("button", name="Use this model").click()
    expect(page.locator(".run .note")).to_contain_text("The service reads with lab-", timeout=LONG_MS)
    detector = laboratory.info()["models"]["detector"]["name"]
    assert detector.startswith("lab-")
    page.locator(".run").get_by_role("button", name="Export").click()
    expect(page.locator("#export-model option:checked")).to_contain_text("bars")
    page.get_by_role("button", name="fixed").click()
    page.get_by_label("Height").fill("320")
    page.get_by_label("Width").fill("330")
    page.locator("#panel-export button[type=submit]").click()
    card = page.locator(".export-card")
    expect(card.locator(".figures")).to_be_visible(timeout=LONG_MS)
    expect(card).to_contain_text("320 × 320")
    with page.expect_download() as waiting:
        card.get_by_role("button", name="Download").click()
    assert waiting.value.suggested_filename == "model_320x320.onnx"
    assert Path(waiting.value.path()).stat().st_size > 1_000_000
