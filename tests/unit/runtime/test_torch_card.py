"""Torch on a card, without a card: what is made of its faults, and what it is told about precision and layout."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")

import torch

from steadyocr.runtime import torch as module
from steadyocr.runtime.base import DeviceMemoryError, SessionOptions
from steadyocr.runtime.manifest import find_model
from steadyocr.runtime.torch import TorchSession
from steadyocr.runtime.torch_graph import TorchGraph

OPTIONS = SessionOptions(threads=1, precision="f32")


def floats(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).normal(0.0, 1.0, shape).astype(np.float32)


class FullCard:
    """Stands in for the graph: takes two activations and fails, like a network half-way through."""

    def __init__(self, words: str, kind: type[Exception] = RuntimeError) -> None:
        self.error = kind(words)
        self.activations: list[weakref.ref[torch.Tensor]] = []

    def run(self, batch: torch.Tensor) -> torch.Tensor:
        values = {"x": batch, "y": batch + 1}
        self.activations += [weakref.ref(value) for value in values.values()]
        error, self.error = self.error, RuntimeError("asked twice")
        raise error


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """What is freed within is freed because nobody holds it."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.fixture
def session() -> TorchSession:
    return TorchSession(find_model("resnet18-db").verified_file(), OPTIONS)


@pytest.mark.parametrize("method", ["run", "run_argmax"])
@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("CUDA out of memory. Tried to allocate 20.00 MiB", torch.OutOfMemoryError),
        ("CUDA error: out of memory", RuntimeError),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", RuntimeError),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", RuntimeError),
    ],
)
def test_a_full_card_is_a_typed_error_and_the_cache_is_emptied_when_nothing_holds_its_blocks(
    monkeypatch: pytest.MonkeyPatch, session: TorchSession, method: str, words: str, kind: type[Exception]
) -> None:
    card = FullCard(words, kind)
    held_at_release = []

    def release(_: TorchSession) -> None:
        held_at_release.append(sum(ref() is not None for ref in card.activations))

    monkeypatch.setattr(TorchSession, "release_memory", release)
    with monkeypatch.context() as full:
        full.setattr(session, "_graph", card)
        # The tensors stay on the CPU: only what the error is taken for depends on the name.
        full.setattr(session, "_device", SimpleNamespace(type="cuda"))
        full.setattr(torch.Tensor, "to", lambda self, *_: self)
        with no_garbage_collection(), pytest.raises(DeviceMemoryError) as raised:
            getattr(session, method)(floats(1, 3, 64, 64))
    assert words.split(".")[0] in str(raised.value)
    assert len(card.activations) == 2
    assert held_at_release == [0]
    assert session.run(floats(1, 3, 64, 64)).shape == (1, 1, 64, 64)


def test_a_full_machine_is_no_full_card(monkeypatch: pytest.MonkeyPatch, session: TorchSession) -> None:
    monkeypatch.setattr(session, "_graph", FullCard("DefaultCPUAllocator: can't allocate memory: you tried to"))
    with pytest.raises(MemoryError) as raised:
        session.run(floats(1, 3, 64, 64))
    assert not isinstance(raised.value, DeviceMemoryError)


def test_other_faults_stay_what_they_are(monkeypatch: pytest.MonkeyPatch, session: TorchSession) -> None:
    monkeypatch.setattr(session, "_graph", FullCard("CUDA error: an illegal memory access was encountered"))
    with pytest.raises(RuntimeError, match="illegal memory access"):
        session.run(floats(1, 3, 64, 64))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    calls: list[Any] = []
    for name, answer in {"is_available": True, "device_count": 2}.items():
        monkeypatch.setattr(torch.cuda, name, lambda answer=answer: answer)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: calls.append(("current", str(device))))
    monkeypatch.setattr(
        torch.cuda,
        "set_per_process_memory_fraction",
        lambda share, device: calls.append((share, str(device))),
    )
    return calls


def test_the_card_asked_for_is_the_one_whose_memory_is_told(asked: list[Any]) -> None:
    options = SessionOptions(threads=1, device="cuda:1", device_memory_share=0.5)
    assert str(module._open_device(options)) == "cuda:1"
    assert asked == [("current", "cuda:1"), (0.5, "cuda:1")]


@pytest.mark.parametrize(
    ("capability", "precision", "expected"),
    [
        ((9, 0), "auto", torch.bfloat16),
        ((8, 0), "auto", torch.bfloat16),
        # Turing emulates bf16, and is_bf16_supported() says yes all the same.
        ((7, 5), "auto", torch.float16),
        ((9, 0), "f32", torch.float32),
    ],
)
def test_its_precision_is_what_it_has_units_for(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], precision: Any, expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    options = SessionOptions(threads=1, device="cuda", precision=precision)
    assert module._weight_type(torch.device("cuda", 0), options) is expected


def test_convolutions_get_low_precision_in_the_layout_of_tensor_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    convolve = torch.nn.functional.conv2d

    def noted(x: torch.Tensor, weight: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        layouts = [each.is_contiguous(memory_format=torch.channels_last) for each in (x, weight)]
        seen.append(({x.dtype, weight.dtype}, all(layouts)))
        return convolve(x, weight, *arguments, **options)

    monkeypatch.setattr(torch.nn.functional, "conv2d", noted)
    session = TorchSession(find_model("resnet18-db").verified_file(), OPTIONS)
    monkeypatch.setattr(
        session, "_graph", TorchGraph(find_model("resnet18-db").verified_file(), session._device, torch.bfloat16)
    )
    session.run(floats(1, 3, 64, 96))
    assert len(seen) > 20
    assert all(types == {torch.bfloat16} and channels_last for types, channels_last in seen)
