"""Training judges weights as the service, and ``evaluate``, will read with them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which is not installed")
pytest.importorskip("onnx", reason="model folders need onnx, which is not installed")

from steadyocr.detection.detector import Detector  # noqa: E402
from steadyocr.export.parity import TorchSession  # noqa: E402
from steadyocr.runtime.manifest import find_model  # noqa: E402
from steadyocr.training import evaluate as evaluation  # noqa: E402
from steadyocr.training import validation  # noqa: E402
from steadyocr.training.config import ValidationConfig  # noqa: E402
from steadyocr.training.labels import read_folder  # noqa: E402
from steadyocr.training.metrics import Counts, count_matches  # noqa: E402
from steadyocr.training.start import starting_weights  # noqa: E402

# Sides that are no multiples of 32: labels, a receipt, a line, a page that has to shrink.
SIZES = ((111, 79), (143, 303), (430, 45), (521, 333))
SHOWN = ValidationConfig(max_side=400, bin_thresholds=(0.2, 0.4), unclip_ratios=(0.7, 1.5), box_threshold=0.4)


def page(width: int, height: int) -> tuple[np.ndarray, list[str]]:
    """A white picture with a line of text every 40 pixels, and the label rows."""
    image = np.full((height, width, 3), 255, np.uint8)
    rows = []
    for base in range(30, height - 8, 40):
        text = f"Line {base} of a page"[: max(4, width // 14)]
        (long, tall), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.6, 2)
        cv2.putText(image, text, (8, base), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (20, 20, 20), 2, cv2.LINE_AA)
        top, bottom, right = base - tall - 2, base + below, min(8 + long, width)
        rows.append(f"6,{top},{right},{top},{right},{bottom},6,{bottom},{text}")
    return image, rows


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    for folder in ("images", "labels"):
        (tmp_path / "pages" / folder).mkdir(parents=True)
    for number, size in enumerate(SIZES):
        image, rows = page(*size)
        cv2.imwrite(str(tmp_path / "pages" / "images" / f"{number}.png"), image)
        (tmp_path / "pages" / "labels" / f"{number}.txt").write_text("\n".join(rows), encoding="utf-8")
    return tmp_path / "pages"


def test_shipped_weights_score_what_evaluate_says(pages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the same figures alone: the same quads, in pictures whose sides the network cannot take."""
    manifest = find_model("resnet18-db")
    network = starting_weights(manifest.folder).network()
    images = read_folder(pages)
    found: dict[str, list[np.ndarray]] = {validation.__name__: [], evaluation.__name__: []}
    for module in (validation, evaluation):

        def counted(quads: list[np.ndarray], regions: object, name: str = module.__name__) -> Counts:
            found[name].append(np.reshape(quads, (-1, 4, 2)))
            return count_matches(quads, regions)  # type: ignore[arg-type]

        monkeypatch.setattr(module, "count_matches", counted)
    verdict = validation.validate(network, images, SHOWN, device="cpu", bf16=False)
    detector = Detector(TorchSession(network), manifest)
    size = evaluation.InputSize(max_side=SHOWN.max_side)
    judged = evaluation.evaluate(detector, images, validation.candidates(SHOWN), size)
    assert verdict.hmean > 0.7
    assert (verdict.hmean, verdict.counts, verdict.postprocess) == (judged.hmean, judged.counts, judged.params)
    for ours, theirs in zip(*found.values(), strict=True):
        assert ours.shape == theirs.shape
        assert np.allclose(ours, theirs, atol=0.1)
