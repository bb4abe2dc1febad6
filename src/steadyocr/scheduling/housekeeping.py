"""What an engine does about its memory between items: give it back, see whether it came back, report it."""

from __future__ import annotations

from typing import Any, Final

from steadyocr.pipeline.ocr import OcrPipeline
from steadyocr.runtime import device, memory
from steadyocr.runtime.base import DeviceMemoryError
from steadyocr.scheduling.config import EngineConfig
from steadyocr.scheduling.protocol import Message

# In a row.
_MOST_UNTIDY_ITEMS: Final = 50


class Housekeeping:
    """The memory of one engine. Made when the engine is warm and has nothing in hand.

    Attributes:
        baseline_bytes: Resident memory then.
        device_baseline_bytes: What was held on an accelerator then.
        allocation_failed: Memory ran out once and may be in pieces, or did not come back: the engine is to be replaced.
    """

    def __init__(self, pipeline: OcrPipeline, config: EngineConfig) -> None:
        self._pipeline = pipeline
        self._config = config
        pipeline.release_memory()
        memory.trim()
        self.baseline_bytes = memory.rss_bytes()
        self.device_baseline_bytes = device.held_bytes()
        # Kernels compiled for new shapes stay, so what is tidy grows for a while after the start.
        self._tidy_bytes = self.baseline_bytes
        self.allocation_failed = False
        self._device_ran_out = False
        self._untidy_items = 0

    def begin(self) -> None:
        """Count the peaks from now on."""
        memory.reset_peak_rss()
        device.reset_peak()

    def note_shortage(self, error: MemoryError) -> None:
        """Take note that memory was not enough for the item in hand."""
        # What a card could not give is given back at once; whether it came back is seen when the item is done.
        if isinstance(error, DeviceMemoryError):
            self._device_ran_out = True
        else:
            self.allocation_failed = True

    def finish(self, message: Message) -> dict[str, Any]:
        """Tidy up after an item, unless more work waits and there is room; returns the figures to report."""
        peaks = {"peak_rss_bytes": memory.peak_rss_bytes(), "device_peak_bytes": device.peak_bytes()}
        untidy = self._may_stay_untidy(message)
        heap = {} if untidy or self._small(message) else self._return_to_baseline()
        self._untidy_items = self._untidy_items + 1 if untidy else 0
        return {**peaks, **heap, **self._held()}

    def rest(self) -> dict[str, Any]:
        """Tidy up after all where an item was expected that has not come; returns the figures to report."""
        heap = self._return_to_baseline() if self._untidy_items else {}
        self._untidy_items = 0
        return {**heap, **self._held()}

    def _held(self) -> dict[str, Any]:
        return {
            "rss_bytes": memory.rss_bytes(),
            "device_bytes": device.held_bytes(),
            "allocation_failed": self.allocation_failed,
            "untidy": self._untidy_items > 0,
        }

    def _small(self, message: Message) -> bool:
        """Whether an item was a slider's, which leaves next to nothing behind: tidying up costs as much as the work."""
        if message["kind"] != "postprocess" or self._device_ran_out:
            return False
        return memory.rss_bytes() <= self._tidy_bytes + self._config.memory_slack_bytes

    def _may_stay_untidy(self, message: Message) -> bool:
        """Whether scratch memory stays for the next item. Now and then it goes all the same, so that growth shows."""
        if not message.get("keep_scratch") or self._untidy_items >= _MOST_UNTIDY_ITEMS:
            return False
        # Who has run out has to see whether the memory came back.
        if self.allocation_failed or self._device_ran_out or self._device_has_grown():
            return False
        return memory.rss_bytes() <= self.baseline_bytes + self._config.scratch_bytes

    def _device_has_grown(self) -> bool:
        return device.held_bytes() > self.device_baseline_bytes + self._config.memory_slack_bytes

    def _return_to_baseline(self) -> dict[str, Any]:
        memory.trim()
        grown = memory.rss_bytes() > self.baseline_bytes + self._config.memory_slack_bytes
        if grown or self._device_has_grown():
            self._pipeline.release_memory()
            memory.trim()
        self._tidy_bytes = memory.rss_bytes()
        if self._device_ran_out:
            self._device_ran_out = False
            self.allocation_failed |= self._device_has_grown()
        return {"heap_bytes": memory.heap_bytes()}
