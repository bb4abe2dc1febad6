"""The one table from error codes to exit codes. Numbers are stable; new ones are added at the end."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from steadyocr.errors import SteadyOCRError


class ExitCode(IntEnum):
    """What the process says when it ends."""

    OK = 0
    FAILED = 1
    USAGE = 2
    BAD_INPUT = 3
    BAD_CONFIGURATION = 4
    MODEL_PROBLEM = 5
    UNAVAILABLE = 6
    DEADLINE = 7
    NOT_FOUND = 8
    CONFLICT = 9
    ACCESS = 10
    SOME_FAILED = 11
    INTERRUPTED = 130


EXIT_BY_CODE: Final[Mapping[str, ExitCode]] = {
    "error": ExitCode.FAILED,
    "invalid_input": ExitCode.BAD_INPUT,
    "empty_input": ExitCode.BAD_INPUT,
    "payload_too_large": ExitCode.BAD_INPUT,
    "too_many_pixels": ExitCode.BAD_INPUT,
    "side_ratio_exceeded": ExitCode.BAD_INPUT,
    "unsupported_media_type": ExitCode.BAD_INPUT,
    "undecodable_image": ExitCode.BAD_INPUT,
    "invalid_option": ExitCode.USAGE,
    "invalid_request": ExitCode.USAGE,
    "upload_timeout": ExitCode.UNAVAILABLE,
    "quarantined": ExitCode.BAD_INPUT,
    "forbidden": ExitCode.ACCESS,
    "unauthorized": ExitCode.ACCESS,
    "rate_limited": ExitCode.UNAVAILABLE,
    "not_found": ExitCode.NOT_FOUND,
    "job_not_found": ExitCode.NOT_FOUND,
    "map_expired": ExitCode.NOT_FOUND,
    "conflict": ExitCode.CONFLICT,
    "idempotency_conflict": ExitCode.CONFLICT,
    "unavailable": ExitCode.UNAVAILABLE,
    "queue_full": ExitCode.UNAVAILABLE,
    "memory_pressure": ExitCode.UNAVAILABLE,
    "not_ready": ExitCode.UNAVAILABLE,
    "draining": ExitCode.UNAVAILABLE,
    "engine_died": ExitCode.UNAVAILABLE,
    "insufficient_storage": ExitCode.UNAVAILABLE,
    "deadline_exceeded": ExitCode.DEADLINE,
    "cancelled": ExitCode.INTERRUPTED,
    "model_error": ExitCode.MODEL_PROBLEM,
    "model_missing": ExitCode.MODEL_PROBLEM,
    "model_corrupt": ExitCode.MODEL_PROBLEM,
    "checkpoint_mismatch": ExitCode.MODEL_PROBLEM,
    "backend_unavailable": ExitCode.MODEL_PROBLEM,
    "dataset_error": ExitCode.BAD_INPUT,
    "invalid_configuration": ExitCode.BAD_CONFIGURATION,
    "internal": ExitCode.FAILED,
}


def exit_code_of(error: SteadyOCRError) -> ExitCode:
    """Return the exit code of one of our errors."""
    return EXIT_BY_CODE[error.code]
