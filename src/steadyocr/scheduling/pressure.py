"""The pressure ladder: how much is taken away when memory gets short, and when it is given back.

full → smaller side limit → one at a time → shed. Levels rise at once and fall one at a time after a calm spell, so
that the service does not swing. The ratio of a picture is always kept; what was taken away is said in the answer.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final

from steadyocr.runtime.cpu import cgroup_folders
from steadyocr.runtime.memory import machine_bytes, memory_limit_bytes

_PSI_GROUPS: Final = ("memory.pressure",)


class PressureLevel(IntEnum):
    """Steps of the ladder, from none to most."""

    FULL = 0
    SMALLER = 1
    ONE_AT_A_TIME = 2
    SHED = 3


@dataclass(frozen=True, slots=True)
class MemorySignals:
    """What is read from the system, as shares from 0 to 1.

    Attributes:
        used: Of the budget: the cgroup's limit, or the machine's memory where there is none.
        stalled: Of the last ten seconds in which work waited for memory (PSI ``some``); 0 where unknown.
        own: Of the budget, what the service itself holds; 0 where unknown.
    """

    used: float
    stalled: float = 0.0
    own: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderParams:
    """When the ladder moves.

    Attributes:
        smaller_at: Used share from which pictures are made smaller.
        one_at_a_time_at: Used share from which one engine works at a time.
        shed_at: Used share from which new work is refused.
        stalled_at: Stalled share that counts as one step more.
        slack: A level is left only when the share is this much below the one that made it.
        calm_s: And has been for so long, in seconds.
        outgrown_s: So long may all be refused for the service's own memory before it counts as unfit, in seconds.
        smaller_side: Side limit from the second step on, in pixels.
    """

    smaller_at: float = 0.80
    one_at_a_time_at: float = 0.88
    shed_at: float = 0.95
    stalled_at: float = 0.20
    slack: float = 0.05
    calm_s: float = 10.0
    outgrown_s: float = 120.0
    smaller_side: int = 960


class PressureLadder:
    """The present level. A function of the signals and times it is given; reads no clock itself."""

    def __init__(self, params: LadderParams | None = None) -> None:
        self.params = params or LadderParams()
        self.level = PressureLevel.FULL
        self._calm_since: float | None = None
        self._outgrown_since: float | None = None

    @property
    def side_limit(self) -> int | None:
        """Side limit that the level asks for, in pixels; ``None`` for none."""
        return self.params.smaller_side if self.level >= PressureLevel.SMALLER else None

    def outgrown(self, now: float) -> bool:
        """Whether all is refused, and has been for minutes, for what the service itself holds.

        Engines that have grown are replaced within that time. What is left is the front, or a budget that is too small:
        waiting mends neither.
        """
        return self._outgrown_since is not None and now - self._outgrown_since >= self.params.outgrown_s

    def update(self, signals: MemorySignals, now: float) -> PressureLevel:
        """Take new signals in; returns the level."""
        level = self._step(signals, now)
        if level is not PressureLevel.SHED or signals.own < self.params.shed_at - self.params.slack:
            self._outgrown_since = None
        elif self._outgrown_since is None:
            self._outgrown_since = now
        return level

    def _step(self, signals: MemorySignals, now: float) -> PressureLevel:
        wanted = self._wanted(signals, slack=0.0)
        if wanted >= self.level:
            self.level = wanted
            self._calm_since = None
        elif self._wanted(signals, slack=self.params.slack) >= self.level:
            self._calm_since = None
        elif self._calm_since is None:
            self._calm_since = now
        elif now - self._calm_since >= self.params.calm_s:
            self.level = PressureLevel(self.level - 1)
            self._calm_since = now
        return self.level

    def _wanted(self, signals: MemorySignals, slack: float) -> PressureLevel:
        params = self.params
        steps = (params.smaller_at, params.one_at_a_time_at, params.shed_at)
        level = sum(signals.used >= step - slack for step in steps)
        # Stalls alone never shed: a busy disk elsewhere can cause them.
        if signals.stalled >= params.stalled_at - slack:
            level = max(level, min(level + 1, PressureLevel.ONE_AT_A_TIME))
        return PressureLevel(level)


def read_signals(
    root: Path = Path("/sys/fs/cgroup"),
    membership: Path = Path("/proc/self/cgroup"),
    proc: Path = Path("/proc"),
) -> MemorySignals:
    """Read the present signals; what cannot be read counts as calm."""
    limit = memory_limit_bytes(root, membership)
    used = _cgroup_used(root, membership, limit) if limit else None
    return MemorySignals(used if used is not None else _machine_used(proc), _stalled(root, membership, proc))


def with_own_share(
    signals: MemorySignals, budget_bytes: int, resident_bytes: int, bound_bytes: int | None = None
) -> MemorySignals:
    """Add what the service itself holds, where its budget is tighter than what the system would say anything about.

    Args:
        signals: Of the cgroup or the machine.
        budget_bytes: Of the whole service.
        resident_bytes: Of the front and all engines together. Pages that they share count for each.
        bound_bytes: What `signals` are a share of; ``None`` asks the cgroup and the machine.

    Returns:
        The signals; the fuller of the two counts.
    """
    bound_bytes = bound_bytes or memory_limit_bytes() or machine_bytes()
    # As large as the bound, it is the bound that counts, and the system knows better what is in use of that.
    if not 0 < budget_bytes < bound_bytes:
        return dataclasses.replace(signals, own=resident_bytes / bound_bytes)
    own = resident_bytes / budget_bytes
    return dataclasses.replace(signals, used=max(signals.used, own), own=own)


def _cgroup_used(root: Path, membership: Path, limit: int) -> float | None:
    for controller, usage, names in (
        ("", "memory.current", ("inactive_file", "active_file", "file_mapped")),
        ("memory", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file", "total_mapped_file")),
    ):
        for folder in cgroup_folders(root, membership, controller):
            current = _number(folder / usage)
            if current is not None and _own_limit(folder) == limit:
                return max(0.0, (current - _given_back(folder / "memory.stat", names)) / limit)
    return None


def _given_back(stat: Path, names: tuple[str, str, str]) -> int:
    """Return what the kernel takes back as soon as somebody needs it, in bytes.

    Pages of files, those that were read more than once too: they stay as long as there is room, so that jobs or a
    neighbour's backup fill a cgroup with them for good. What programs have mapped is in use.
    """
    inactive, active, mapped = (_field(stat, name) for name in names)
    return max(inactive, inactive + active - mapped) + _field(stat, "slab_reclaimable")


def _own_limit(folder: Path) -> int | None:
    for name in ("memory.max", "memory.limit_in_bytes"):
        value = _number(folder / name)
        if value is not None:
            return value
    return None


def _machine_used(proc: Path) -> float:
    total, available = _field(proc / "meminfo", "MemTotal:"), _field(proc / "meminfo", "MemAvailable:")
    return 1.0 - available / total if total else 0.0


def _stalled(root: Path, membership: Path, proc: Path) -> float:
    places = [folder / name for folder in cgroup_folders(root, membership, "") for name in _PSI_GROUPS]
    for path in (*places, proc / "pressure/memory"):
        try:
            words = path.read_text().split()
        except OSError:
            continue
        for word in words:
            if word.startswith("avg10="):
                return float(word.removeprefix("avg10=")) / 100.0
    return 0.0


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _field(path: Path, key: str) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    for line in lines:
        words = line.split()
        if len(words) >= 2 and words[0] == key:
            return int(words[1])
    return 0
