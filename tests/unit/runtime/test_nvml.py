"""Readings of a card through a stand-in for NVIDIA's library: no card is needed, and none is touched."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from steadyocr.runtime.nvml import DeviceMemory, DeviceMonitor


class FakeNvml:
    def __init__(self, cards: dict[Any, tuple[int, int]]) -> None:
        self.cards = cards
        self.calls: list[str] = []

    def nvmlInit(self) -> None:
        self.calls.append("init")
        if not self.cards:
            raise OSError("no driver")

    def nvmlShutdown(self) -> None:
        self.calls.append("shutdown")

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetHandleByUUID(self, name: str) -> str:
        return name

    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> SimpleNamespace:
        used, total = self.cards[handle]
        return SimpleNamespace(used=used, total=total)


def monitor(device: str, fake: FakeNvml) -> DeviceMonitor:
    return DeviceMonitor(device, fake)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("device", "visible", "expected"),
    [
        ("cuda", "", DeviceMemory(1, 10)),
        ("cuda:1", "", DeviceMemory(2, 20)),
        ("cuda", "1,0", DeviceMemory(2, 20)),
        ("cuda:1", "1, GPU-abc", DeviceMemory(3, 30)),
    ],
)
def test_the_card_is_the_one_that_cuda_means(
    monkeypatch: pytest.MonkeyPatch, device: str, visible: str, expected: DeviceMemory
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    fake = FakeNvml({0: (1, 10), 1: (2, 20), "GPU-abc": (3, 30)})
    assert monitor(device, fake).read() == expected


def test_the_library_is_opened_once_and_closed_once() -> None:
    fake = FakeNvml({0: (1, 10)})
    card = monitor("cuda", fake)
    assert [card.read(), card.read()] == [DeviceMemory(1, 10)] * 2
    card.close()
    card.close()
    assert card.read() is None
    assert fake.calls == ["init", "shutdown"]


def test_without_a_driver_there_is_no_reading_and_no_second_try() -> None:
    fake = FakeNvml({})
    card = monitor("cuda", fake)
    assert [card.read(), card.read()] == [None, None]
    card.close()
    assert fake.calls == ["init"]


def test_one_failed_reading_is_not_the_last() -> None:
    fake = FakeNvml({0: (1, 10)})
    card = monitor("cuda", fake)
    card.read()
    (kept,) = (fake.cards.pop(0),)
    assert card.read() is None
    fake.cards[0] = kept
    assert card.read() == DeviceMemory(1, 10)
