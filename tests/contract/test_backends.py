"""One suite that every backend passes: the same pictures give the same lines, whoever runs the network."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from steadyocr.imaging.geometry import FloatArray, quad_iou
from steadyocr.imaging.header import ImageLimits
from steadyocr.pipeline.golden import check_golden
from steadyocr.pipeline.ocr import OcrPipeline
from steadyocr.runtime.base import Session, SessionOptions
from steadyocr.runtime.loader import Backend, open_session
from steadyocr.runtime.manifest import find_model
from steadyocr.types import OcrOptions, Page
from support import KnownPicture, encoded

DETECTOR, RECOGNISER = "pp-ocrv6-small-det", "pp-ocrv6-small-rec"
BACKENDS: tuple[Backend, ...] = (
    "onnxruntime",
    *(name for name in ("openvino", "torch") if importlib.util.find_spec(name) is not None),
)
SHORT_OF_MEMORY = Path(__file__).with_name("short_of_memory.py")
# One thread: the second of torch spins while others use the core, and waits cost more than it brings.
OPTIONS = SessionOptions(threads=1, precision="f32")

pytestmark = pytest.mark.skipif(len(BACKENDS) == 1, reason="only one backend here")


@pytest.fixture(scope="module")
def pipelines() -> dict[Backend, OcrPipeline]:
    return {
        backend: OcrPipeline(
            find_model(DETECTOR),
            find_model(RECOGNISER),
            backend=backend,
            session_options=OPTIONS,
            limits=ImageLimits(),
        )
        for backend in BACKENDS
    }


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    name: Backend = request.param
    return name


@pytest.fixture(scope="module")
def recogniser(backend: Backend) -> Session:
    return open_session(find_model(RECOGNISER), backend, OPTIONS)


@pytest.fixture(scope="module")
def detector(backend: Backend) -> Session:
    return open_session(find_model(DETECTOR), backend, OPTIONS)


def receipt() -> bytes:
    """Small dark figures on a gray gradient, in the font that Pillow brings along."""
    shade = np.linspace(150, 240, 500).astype(np.uint8)
    image = Image.fromarray(np.repeat(shade[:, None], 340, axis=1)).convert("RGB")
    draw = ImageDraw.Draw(image)
    for row in range(12):
        draw.text((20, 20 + 38 * row), f"Item {row * 37 % 100:02d}", fill="#222", font=ImageFont.load_default(20))
        draw.text((240, 20 + 38 * row), f"{row * 113 % 89}.50", fill="#222", font=ImageFont.load_default(20))
    return encoded(image)


def banner() -> bytes:
    image = Image.new("RGB", (900, 160), "#aa2233")
    draw = ImageDraw.Draw(image)
    draw.text((30, 40), "Wide banner 1234567890", fill="white", font=ImageFont.load_default(60))
    return encoded(image.rotate(3, Image.Resampling.BICUBIC, expand=True, fillcolor="#aa2233"), "JPEG", quality=80)


def agree(one: Page, other: Page) -> None:
    a, b = (np.array([line.quad for line in page.lines], np.float32).reshape(-1, 4, 2) for page in (one, other))
    assert len(a) == len(b) > 0
    iou = quad_iou(a, b)
    assert sorted(iou.argmax(axis=1)) == list(range(len(b)))
    assert iou.max(axis=1).min() > 0.98
    assert [line.text for line in one.lines] == [line.text for line in other.lines]
    assert [line.score for line in one.lines] == pytest.approx([line.score for line in other.lines], abs=0.02)


def test_backends_agree_on_known_pictures(
    pipelines: dict[Backend, OcrPipeline], chinese: KnownPicture, english: KnownPicture
) -> None:
    for picture in (chinese, english):
        first, *others = (pipeline.read(picture.data, OcrOptions()).page for pipeline in pipelines.values())
        for other in others:
            agree(first, other)
        assert [line.text for line in first.lines] == picture.texts


@pytest.mark.parametrize("picture", [receipt(), banner()], ids=["receipt", "banner"])
@pytest.mark.parametrize("max_side", [1280, 416])
def test_backends_agree_on_other_shapes(pipelines: dict[Backend, OcrPipeline], picture: bytes, max_side: int) -> None:
    first, *others = (pipeline.read(picture, OcrOptions(max_side=max_side)).page for pipeline in pipelines.values())
    for other in others:
        agree(first, other)


def test_each_backend_reads_the_golden_picture_and_gives_its_name(pipelines: dict[Backend, OcrPipeline]) -> None:
    for backend, pipeline in pipelines.items():
        assert check_golden(pipeline).problem == ""
        assert all(model.backend.startswith(backend) for model in pipeline.models.values())


def test_our_own_detector_gives_the_same_map_everywhere() -> None:
    first, *others = (open_session(find_model("resnet18-db"), name, OPTIONS) for name in BACKENDS)
    for size in ((64, 96), (320, 480)):
        batch = np.random.default_rng(0).normal(0.0, 1.0, (2, 3, *size)).astype(np.float32)
        reference = first.run(batch)
        for other in others:
            np.testing.assert_allclose(other.run(batch), reference, atol=2e-3, err_msg=other.backend)


def noise(width: int, rows: int = 2) -> FloatArray:
    return np.random.default_rng(width).uniform(-1, 1, (rows, 3, 48, width)).astype(np.float32)


@pytest.mark.parametrize("width", [64, 320])
def test_argmax_in_the_graph_is_argmax_of_the_output(recogniser: Session, width: int) -> None:
    batch = noise(width)
    output = recogniser.run(batch)
    index, value = recogniser.run_argmax(batch)
    assert index.dtype == np.int64
    np.testing.assert_allclose(value, output.max(axis=-1), atol=1e-4)
    # Where two classes are as good as equal either may win.
    np.testing.assert_allclose(np.take_along_axis(output, index[..., None], axis=-1)[..., 0], value, atol=1e-4)


def test_a_row_reads_the_same_alone_and_in_a_batch(recogniser: Session) -> None:
    batch = noise(160, rows=4)
    together = recogniser.run(batch)
    for row in range(4):
        np.testing.assert_allclose(recogniser.run(batch[row : row + 1])[0], together[row], atol=1e-3)


def test_an_output_belongs_to_the_caller(recogniser: Session, detector: Session) -> None:
    for session, first_input, second_input in (
        (recogniser, noise(96), noise(96) * 0.1),
        (detector, noise(96)[:, :, :32].copy(), noise(96)[:, :, 16:].copy()),
    ):
        first = session.run(first_input)
        index, value = session.run_argmax(first_input)
        kept = first.copy(), index.copy(), value.copy()
        session.run(second_input)
        session.run_argmax(second_input)
        session.release_memory()
        np.testing.assert_array_equal(first, kept[0])
        np.testing.assert_array_equal(index, kept[1])
        np.testing.assert_array_equal(value, kept[2])
        first += 1


def test_an_input_is_left_as_it_was(recogniser: Session) -> None:
    batch = noise(96)
    before = batch.copy()
    recogniser.run(batch)
    recogniser.run_argmax(batch)
    np.testing.assert_array_equal(batch, before)


def test_a_session_runs_again_after_giving_memory_back(recogniser: Session) -> None:
    batch = noise(96)
    before = recogniser.run(batch)
    recogniser.release_memory()
    np.testing.assert_allclose(recogniser.run(batch), before, atol=1e-5)


def test_the_dictionary_comes_with_the_model(recogniser: Session) -> None:
    classes = recogniser.run(noise(64)).shape[-1]
    # Every class but the blank and the space, which the table adds.
    assert len(recogniser.metadata["character"].removesuffix("\n").split("\n")) == classes - 2


# Two threads go another way in OpenVINO alone, which was also the one that answered with the picture before.
@pytest.mark.parametrize(("name", "threads"), [*((name, 1) for name in BACKENDS), ("openvino", 2)])
def test_without_memory_there_is_an_error_and_never_the_answer_of_the_picture_before(
    name: Backend, threads: int
) -> None:
    command = [sys.executable, str(SHORT_OF_MEMORY), name, str(threads)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    refused, good = map(int, run.stdout.split())
    assert refused
    assert good
