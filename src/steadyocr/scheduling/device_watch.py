"""The accelerator's memory as a pressure signal and as a budget, read through the driver."""

from __future__ import annotations

import dataclasses

from steadyocr.runtime.nvml import DeviceMonitor
from steadyocr.scheduling.governor import MemoryGovernor
from steadyocr.scheduling.pressure import MemorySignals


class DeviceWatch:
    """Watches the card that the engines run on; does nothing where they run on the CPU or it cannot be read.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        share: Of the card's memory, that all engines together may take.
        governor: Told what work may add on the card.
        monitor: What reads it.

    Attributes:
        used: Share of the card's memory that is in use, by anybody; ``None`` without a reading.
    """

    def __init__(
        self, device: str, share: float, governor: MemoryGovernor, monitor: DeviceMonitor | None = None
    ) -> None:
        self._monitor = monitor or (DeviceMonitor(device) if device != "cpu" else None)
        self._share = share
        self._governor = governor
        self.used: float | None = None

    def read(self, signals: MemorySignals, held_bytes: int) -> MemorySignals:
        """Add the card to what was read of the machine: the fuller of the two counts.

        Args:
            signals: Of the machine.
            held_bytes: What our engines hold on the card with nothing in hand.
        """
        card = self._monitor.read() if self._monitor is not None else None
        if card is None or not card.total:
            self.used = None
            return signals
        governor = self._governor
        others = max(0, card.used - held_bytes - governor.device_reserved_bytes)
        governor.device_budget_bytes = card.total * self._share - held_bytes - others
        self.used = card.used / card.total
        return dataclasses.replace(signals, used=max(signals.used, self.used))

    def close(self) -> None:
        """Let go of the driver. Safe to call twice."""
        if self._monitor is not None:
            self._monitor.close()
