"""The section about alerts: where they go, when they are raised, when they may wait."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from steadyocr.settings.sections import Section

_QUIET_HOURS: Final = re.compile(r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d")


def _split(value: Any) -> Any:  # noqa: ANN401 - whatever the source gave; pydantic judges it
    # The environment gives one text. A channel is a URL, so it has no blank in it.
    return value.split() if isinstance(value, str) else value


def _check_quiet_hours(text: str) -> str:
    if text and not _QUIET_HOURS.fullmatch(text):
        raise ValueError("quiet hours are written like 22:00-07:00")
    return text


class AlertSettings(Section):
    """Alerts: channels, bounds of the rules, quiet hours, the spool."""

    channels: Annotated[tuple[SecretStr, ...], BeforeValidator(_split)] = Field(
        (), max_length=16, description="where alerts go, as apprise URLs; each may be NAME=URL"
    )
    channels_file: Path | None = Field(None, description="file with one channel a line; readable by its owner only")
    source: str = Field("", max_length=64, description="how this machine is called in alerts; empty is its host name")
    out_of_memory_count: int = Field(3, ge=1, le=1000, description="times out of memory that raise an alert")
    out_of_memory_window_s: float = Field(300.0, gt=0, le=86_400, description="within so many seconds")
    restarts_count: int = Field(5, ge=1, le=1000, description="deaths of engines that raise an alert")
    restarts_window_s: float = Field(600.0, gt=0, le=86_400, description="within so many seconds")
    queue_full_s: float = Field(60.0, ge=0, le=86_400, description="seconds of a full queue that raise an alert")
    unready_s: float = Field(60.0, ge=0, le=86_400, description="seconds not ready, or shedding, that raise an alert")
    memory_slope_bytes_per_hour: int = Field(
        32 << 20, ge=1 << 16, description="bytes an hour that the memory of an idle process may grow by"
    )
    memory_slope_window_s: float = Field(6 * 3600.0, ge=60, le=7 * 86_400, description="seen over so many seconds")
    remind_s: float = Field(4 * 3600.0, ge=60, description="seconds after which an open incident is told again")
    cooldown_s: float = Field(300.0, ge=0, description="seconds after its end before an incident may be raised again")
    quiet_hours: Annotated[str, AfterValidator(_check_quiet_hours)] = Field(
        "", description="local time, like 22:00-07:00, in which lesser alerts are held back for a digest"
    )
    quiet_severity: Literal["warning", "critical"] = Field("critical", description="sent at any hour, from here on")
    send_timeout_s: float = Field(20.0, gt=0, le=300, description="seconds one channel gets for one notice")
    retry_first_s: float = Field(5.0, gt=0, le=3600, description="seconds before a failed channel is tried again")
    retry_max_s: float = Field(900.0, gt=0, le=86_400, description="seconds that back-off grows to")
    spool_notices: int = Field(200, ge=1, le=10_000, description="notices that may wait on disk")
    spool_bytes: int = Field(1 << 20, ge=1 << 14, le=1 << 30, description="bytes that they may take")
    spool_age_s: float = Field(3 * 86_400.0, gt=0, description="seconds after which a waiting notice is dropped")
