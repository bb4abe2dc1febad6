"""The sections about logs and metrics."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from steadyocr.settings.sections import Section


class LoggingSettings(Section):
    """Logs: on standard error always, in files when asked for."""

    format: Literal["json", "console"] = Field("console", description="JSON lines, or for a human eye")
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="threshold")
    files: bool = Field(False, description="also write out.log (all) and error.log (warnings and up) in data_dir/logs")
    max_file_bytes: int = Field(16 << 20, ge=4096, le=1 << 30, description="bytes after which a file is rotated")
    max_file_age_s: float = Field(86_400.0, ge=60, description="seconds after which a file is rotated")
    keep_files: int = Field(7, ge=1, le=100, description="rotated files kept of each kind, besides the present one")


class MetricsSettings(Section):
    """Metrics for Prometheus."""

    open: bool = Field(False, description="let /metrics be read without an API key, where keys are on")
