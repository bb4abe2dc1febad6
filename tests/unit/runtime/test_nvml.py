"""Readings of a card through a stand-in for NVIDIA's library: no card is needed, and none is touched."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from steadyocr.runtime import device
from steadyocr.runtime.nvml import DeviceMemory, DeviceMonitor


class FakeNvml:
    def __init__(self, cards: dict[Any, tuple[int, int]]) -> None:
        self.cards = cards
        self.calls: list[str] = []
        self.processes: dict[int, int | None] = {}

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

    def nvmlDeviceGetComputeRunningProcesses(self, handle: Any) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in self.processes.items()]

    def nvmlDeviceGetName(self, handle: Any) -> bytes:
        return b"NVIDIA H100"


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


def test_a_process_is_found_by_its_number() -> None:
    fake = FakeNvml({0: (1, 10)})
    fake.processes = {7: 700, 8: None}
    card = monitor("cuda", fake)
    assert [card.process_bytes(pid) for pid in (7, 8, 9)] == [700, None, None]
    assert card.name() == "NVIDIA H100"


def test_without_a_driver_nothing_is_known_of_processes() -> None:
    card = monitor("cuda", FakeNvml({}))
    assert (card.process_bytes(7), card.name()) == (None, None)


@pytest.fixture
def drivers_books() -> Iterator[FakeNvml]:
    """What the driver says of this process is what is asked for: no library here keeps books of its own."""
    fake = FakeNvml({0: (1, 10)})
    device.watch("cuda", monitor("cuda", fake))
    yield fake
    device.watch("cpu")


def test_what_the_driver_says_counts_where_the_library_keeps_no_books(drivers_books: FakeNvml) -> None:
    pid = os.getpid()
    assert (device.held_bytes(), device.peak_bytes()) == (0, 0)
    drivers_books.processes = {pid: 500}
    device.note_peak()
    drivers_books.processes = {pid: 100}
    assert (device.held_bytes(), device.peak_bytes()) == (100, 500)
    device.reset_peak()
    assert device.peak_bytes() == 100


def test_the_cards_name_is_asked_of_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.import_module", lambda _: FakeNvml({0: (1, 10)}))
    assert device.card_name("cuda") == "NVIDIA H100"
    assert device.card_name("cpu") == ""
