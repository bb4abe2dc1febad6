"""The one table from error codes to HTTP, and the shape of an error (RFC 9457, problem details)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi.responses import JSONResponse

from steadyocr.errors import SteadyOCRError
from steadyocr.telemetry.logging import request_id_var

PROBLEM_JSON: Final = "application/problem+json"

# 429 means "you are too many", 503 means "we cannot now".
STATUS_BY_CODE: Final[Mapping[str, HTTPStatus]] = {
    "error": HTTPStatus.INTERNAL_SERVER_ERROR,
    "invalid_input": HTTPStatus.UNPROCESSABLE_ENTITY,
    "empty_input": HTTPStatus.UNPROCESSABLE_ENTITY,
    "payload_too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "too_many_pixels": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "side_ratio_exceeded": HTTPStatus.UNPROCESSABLE_ENTITY,
    "unsupported_media_type": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "undecodable_image": HTTPStatus.UNPROCESSABLE_ENTITY,
    "invalid_option": HTTPStatus.UNPROCESSABLE_ENTITY,
    "invalid_request": HTTPStatus.BAD_REQUEST,
    "upload_timeout": HTTPStatus.REQUEST_TIMEOUT,
    "quarantined": HTTPStatus.UNPROCESSABLE_ENTITY,
    "forbidden": HTTPStatus.FORBIDDEN,
    "unauthorized": HTTPStatus.UNAUTHORIZED,
    "rate_limited": HTTPStatus.TOO_MANY_REQUESTS,
    "not_found": HTTPStatus.NOT_FOUND,
    "job_not_found": HTTPStatus.NOT_FOUND,
    "map_expired": HTTPStatus.NOT_FOUND,
    "conflict": HTTPStatus.CONFLICT,
    "idempotency_conflict": HTTPStatus.CONFLICT,
    "unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
    "queue_full": HTTPStatus.SERVICE_UNAVAILABLE,
    "memory_pressure": HTTPStatus.SERVICE_UNAVAILABLE,
    "not_ready": HTTPStatus.SERVICE_UNAVAILABLE,
    "draining": HTTPStatus.SERVICE_UNAVAILABLE,
    "engine_died": HTTPStatus.SERVICE_UNAVAILABLE,
    "insufficient_storage": HTTPStatus.INSUFFICIENT_STORAGE,
    "deadline_exceeded": HTTPStatus.GATEWAY_TIMEOUT,
    "cancelled": HTTPStatus.SERVICE_UNAVAILABLE,
    "model_error": HTTPStatus.INTERNAL_SERVER_ERROR,
    "model_missing": HTTPStatus.INTERNAL_SERVER_ERROR,
    "model_corrupt": HTTPStatus.INTERNAL_SERVER_ERROR,
    "checkpoint_mismatch": HTTPStatus.UNPROCESSABLE_ENTITY,
    "backend_unavailable": HTTPStatus.INTERNAL_SERVER_ERROR,
    "dataset_error": HTTPStatus.UNPROCESSABLE_ENTITY,
    "invalid_configuration": HTTPStatus.INTERNAL_SERVER_ERROR,
    "internal": HTTPStatus.INTERNAL_SERVER_ERROR,
}


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    retryable: bool = False,
    retry_after_s: float | None = None,
    extra: Mapping[str, Any] | None = None,
) -> JSONResponse:
    """Build a problem+json answer."""
    body: dict[str, Any] = {
        "type": f"urn:steadyocr:error:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request_id_var.get(),
        "retryable": retryable,
        **(extra or {}),
    }
    headers = {} if retry_after_s is None else {"Retry-After": str(max(1, math.ceil(retry_after_s)))}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return ProblemAnswer(body, status, headers)


class ProblemAnswer(JSONResponse):
    """An error as JSON. It may quote what the client sent, and half a character of that is no UTF-8."""

    media_type = PROBLEM_JSON

    def render(self, content: object) -> bytes:
        """Encode; half a character is written as JSON escapes it."""
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def problem_of(error: SteadyOCRError) -> JSONResponse:
    """Build the answer for one of our errors."""
    status = STATUS_BY_CODE[error.code]
    retry_after_s = error.retry_after_s
    if status == HTTPStatus.SERVICE_UNAVAILABLE and retry_after_s is None:
        retry_after_s = 1.0
    return problem(
        status,
        error.code,
        error.message,
        retryable=error.retryable,
        retry_after_s=retry_after_s,
        extra=error.details,
    )
