"""ONNX Runtime on a card, with its session in our hand: the installed build has no CUDA provider."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from steadyocr.runtime import device
from steadyocr.runtime import onnxruntime as module
from steadyocr.runtime.base import DeviceMemoryError, SessionOptions
from steadyocr.runtime.manifest import find_model
from steadyocr.runtime.onnxruntime import OnnxRuntimeSession

_SHRINK = "memory.enable_memory_arena_shrinkage"


class CardSession:
    """An inference session that claims a card, and notes what it is asked."""

    def __init__(self) -> None:
        self.runs: list[tuple[tuple[int, ...], str | None]] = []
        self.error: Exception | None = None

    def get_inputs(self) -> list[Any]:
        return ort.InferenceSession(find_model("resnet18-db").verified_file()).get_inputs()  # type: ignore[no-any-return]

    def get_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def run(self, _: None, inputs: dict[str, Any], options: Any = None) -> list[Any]:
        (batch,) = inputs.values()
        self.runs.append((batch.shape, options.get_run_config_entry(_SHRINK) if options else None))
        if self.error is not None:
            raise self.error
        return [np.zeros((len(batch), 1, 4, 4), np.float32)]


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[CardSession]:
    fake = CardSession()
    monkeypatch.setattr(module, "_providers", lambda _: [])
    with monkeypatch.context() as opening:
        opening.setattr(ort, "InferenceSession", lambda *_, **__: fake)
        fake_inputs = [type("Input", (), {"name": "x"})()]
        opening.setattr(fake, "get_inputs", lambda: fake_inputs)
        yield fake
    device.watch("cpu")


@pytest.fixture
def session(card: CardSession) -> OnnxRuntimeSession:
    options = SessionOptions(threads=1, device="cuda:1")
    return OnnxRuntimeSession(find_model("resnet18-db").verified_file(), options)


def batch(side: int) -> Any:
    return np.zeros((1, 3, side, side), np.float32)


def test_the_arena_shrinks_when_memory_is_asked_back_and_not_before(
    monkeypatch: pytest.MonkeyPatch, session: OnnxRuntimeSession, card: CardSession
) -> None:
    noted = []
    monkeypatch.setattr(device, "note_peak", lambda: noted.append(len(card.runs)))
    session.release_memory()
    for side in (96, 32, 64):
        session.run(batch(side))
    assert [shrink for _, shrink in card.runs] == [None] * 3
    session.release_memory()
    assert card.runs[3:] == [((1, 3, 32, 32), "gpu:1")]
    # The peak is looked at before it is gone.
    assert noted == [3]


@pytest.mark.parametrize(
    "words",
    [
        "Failed to allocate memory for requested buffer of size 1024",
        "CUDA failure 2: out of memory ; GPU=1",
        "CUDNN failure 4: CUDNN_STATUS_ALLOC_FAILED",
        "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED",
    ],
)
def test_a_full_card_is_a_typed_error_and_survived(session: OnnxRuntimeSession, card: CardSession, words: str) -> None:
    session.run(batch(32))
    card.error = RuntimeError(words)
    with pytest.raises(DeviceMemoryError):
        session.run(batch(64))
    assert [shrink for _, shrink in card.runs] == [None, None, "gpu:1"]
    card.error = None
    assert session.run(batch(64)).shape == (1, 1, 4, 4)


def test_a_dead_card_is_no_full_one(session: OnnxRuntimeSession, card: CardSession) -> None:
    session.run(batch(32))
    card.error = RuntimeError("CUDA failure 700: an illegal memory access was encountered")
    for ask in (lambda: session.run(batch(32)), session.release_memory):
        with pytest.raises(RuntimeError, match="illegal memory access"):
            ask()


def test_on_a_cpu_nothing_is_run_to_give_memory_back() -> None:
    session = OnnxRuntimeSession(find_model("resnet18-db").verified_file(), SessionOptions(threads=1))
    session.run(batch(32))
    real, session._session = session._session, None
    session.release_memory()
    assert real is not None
