"""The whole tree, and what the layers below are given out of it."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field, PrivateAttr

from steadyocr.errors import ConfigError
from steadyocr.imaging.header import ImageLimits
from steadyocr.runtime.cpu import available_cores, available_threads
from steadyocr.scheduling.config import EngineConfig
from steadyocr.scheduling.governor import detect_budget_bytes
from steadyocr.scheduling.pressure import LadderParams
from steadyocr.scheduling.scheduler import SchedulerConfig
from steadyocr.scheduling.slot import SlotConfig
from steadyocr.settings.alerts import AlertSettings
from steadyocr.settings.jobs import JobSettings
from steadyocr.settings.page import HistorySettings, LabSettings, PageSettings
from steadyocr.settings.sections import (
    AuthSettings,
    EngineSettings,
    LimitSettings,
    MemorySettings,
    ModelSettings,
    QueueSettings,
    Section,
    ServerSettings,
)
from steadyocr.settings.sizing import default_engines
from steadyocr.settings.telemetry import LoggingSettings, MetricsSettings
from steadyocr.telemetry.log_files import LogFiles

# What bodies may take of the memory of the whole service: a part, but room for two of the largest by default.
_BODY_SHARE = 8
_LEAST_BODY_BYTES = 64 << 20
_MOST_BODY_BYTES = 1 << 30
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def default_data_dir() -> Path:
    """Return where state lies when nobody says."""
    base = os.environ.get("XDG_DATA_HOME") or str(Path("~/.local/share").expanduser())
    return Path(base) / "steadyocr"


class Settings(Section):
    """The whole tree."""

    _file: Path | None = PrivateAttr(None)

    data_dir: Path = Field(default_factory=default_data_dir, description="folder of all state")
    server: ServerSettings = ServerSettings()
    auth: AuthSettings = AuthSettings()
    limits: LimitSettings = LimitSettings()
    queue: QueueSettings = QueueSettings()
    engines: EngineSettings = EngineSettings()
    memory: MemorySettings = MemorySettings()
    models: ModelSettings = ModelSettings()
    logging: LoggingSettings = LoggingSettings()
    metrics: MetricsSettings = MetricsSettings()
    jobs: JobSettings = JobSettings()
    alerts: AlertSettings = AlertSettings()
    page: PageSettings = PageSettings()
    history: HistorySettings = HistorySettings()
    lab: LabSettings = LabSettings()

    def log_files(self) -> LogFiles | None:
        """Derive which log files are written; ``None`` for none."""
        logging = self.logging
        if not logging.files:
            return None
        return LogFiles(
            folder=self.data_dir / "logs",
            max_bytes=logging.max_file_bytes,
            max_age_s=logging.max_file_age_s,
            keep=logging.keep_files,
        )

    @property
    def file(self) -> Path | None:
        """The TOML file that was read; ``None`` without one."""
        return self._file

    def image_limits(self) -> ImageLimits:
        """Derive what a picture may be."""
        limits = self.limits
        return ImageLimits(
            max_bytes=limits.max_bytes, max_pixels=limits.max_pixels, max_side_ratio=limits.max_side_ratio
        )

    def body_budget_bytes(self) -> int:
        """Derive what the front may hold of pictures that come in or wait, in bytes."""
        if self.limits.body_budget_bytes:
            return self.limits.body_budget_bytes
        memory_bytes = self.memory.budget_bytes or detect_budget_bytes()
        return min(max(memory_bytes // _BODY_SHARE, _LEAST_BODY_BYTES), _MOST_BODY_BYTES)

    def scheduler_config(self) -> SchedulerConfig:
        """Derive what the scheduler and its engines need, sized for this machine where a setting says 0."""
        cores = available_threads()
        count = self.engines.count or default_engines(
            cores, budget_bytes=self.memory.budget_bytes, device=self.engines.device
        )
        threads = self.engines.threads or max(1, cores // count)
        return SchedulerConfig(
            slot=SlotConfig(
                engine=self._engine_config(threads, count),
                start_timeout_s=self.engines.start_timeout_s,
                item_limit_s=self.engines.item_limit_s,
                heartbeat_s=self.engines.heartbeat_s,
                retire_items=self.engines.retire_items,
                retire_age_s=self.engines.retire_age_s,
                retire_growth_bytes=self.engines.retire_growth_bytes,
            ),
            engines=count,
            queue_size=self.queue.max_size,
            max_per_client=self.queue.max_per_client,
            budget_bytes=self.memory.budget_bytes,
            device_memory_share=self.engines.device_memory_share,
            calibrate=self.memory.calibrate,
            ladder=LadderParams(
                smaller_at=self.memory.smaller_at,
                one_at_a_time_at=self.memory.one_at_a_time_at,
                shed_at=self.memory.shed_at,
                smaller_side=self.memory.smaller_side,
            ),
            quarantine_file=self.data_dir / "quarantine.json",
        )

    def _engine_config(self, threads: int, count: int) -> EngineConfig:
        return EngineConfig(
            detector=self.models.detector,
            recogniser=self.models.recogniser,
            user_models=str(self.data_dir / "models"),
            backend=self.engines.backend,
            device=self.engines.device,
            device_memory_share=self.engines.device_memory_share / count,
            precision=self.engines.precision,
            threads=threads,
            core_share=min(1.0, available_cores() / count),
            max_bytes=self.limits.max_bytes,
            max_pixels=self.limits.max_pixels,
            max_side_ratio=self.limits.max_side_ratio,
            memory_slack_bytes=self.engines.memory_slack_bytes,
            scratch_bytes=self.engines.scratch_bytes,
            cache_dir=str(self.data_dir / "cache"),
            log_level=self.logging.level,
        )

    def refuse_open_door(self, host: str | None = None) -> None:
        """Refuse a public address without a key.

        Args:
            host: The address that is really listened on, when it was not taken from here.

        Raises:
            ConfigError: The address is not loopback, no key is set and ``insecure`` does not say so.
        """
        host = host or self.server.host
        if host in _LOOPBACK or self.auth.api_keys or self.server.insecure:
            return
        raise ConfigError(
            f"listening on {host} without an API key would open the service to everybody who reaches it; "
            "set auth.api_keys, or pass --insecure if something in front checks who comes"
        )
