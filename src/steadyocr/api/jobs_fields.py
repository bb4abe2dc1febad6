"""What a job is to be, by the fields of the request that makes it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from steadyocr.errors import InvalidOption, InvalidRequest
from steadyocr.jobs.webhook_address import parse_target, refuse_literal
from steadyocr.options import parse_boolean, parse_options
from steadyocr.service.batches import Batches
from steadyocr.service.intake import JobRequest

_MAX_META_BYTES: Final = 8 << 10
# It is written and read again in many places, and each must have the stack for it.
_MAX_META_DEPTH: Final = 32
_MAX_KEY_LETTERS: Final = 255
_MAX_PRIORITY: Final = 100
_MAX_DEADLINE_S: Final = 30 * 86_400.0


def job_request(fields: Mapping[str, Any], headers: Mapping[str, str], tenant: str, batches: Batches) -> JobRequest:
    """Check what a job is to be.

    Args:
        fields: Its fields.
        headers: The request's headers.
        tenant: Whose job it is.
        batches: Knows whether anybody can be told of its end.

    Raises:
        InvalidOption: A field is unknown, of the wrong type or out of range.
        InvalidRequest: The idempotency key cannot be one.
    """
    rest = dict(fields)
    priority = _number(rest.pop("priority", "0"), "priority", -_MAX_PRIORITY, _MAX_PRIORITY)
    if not priority.is_integer():
        raise InvalidOption("priority must be a whole number", option="priority")
    deadline_s = rest.pop("deadline_s", None)
    meta = _meta(rest.pop("meta", "{}"))
    callback_url = rest.pop("callback_url", None) or None
    if callback_url is not None:
        _check_webhook(callback_url, batches)
    overlay = parse_boolean(rest.pop("overlay", False), "overlay")
    return JobRequest(
        options=parse_options(rest, overlay=overlay),
        priority=int(priority),
        deadline_s=None if deadline_s is None else _number(deadline_s, "deadline_s", 1.0, _MAX_DEADLINE_S),
        idempotency_key=_key(headers.get("idempotency-key")),
        meta=meta,
        webhook_url=callback_url,
        tenant=tenant,
    )


def _check_webhook(url: str, batches: Batches) -> None:
    batches.check_webhook(url)
    webhooks = batches.settings.jobs.webhook_config()
    if webhooks is not None:
        refuse_literal(parse_target(url), webhooks.networks)


def _number(text: object, name: str, low: float, high: float) -> float:
    try:
        number = float(str(text))
    except ValueError:
        number = math.nan
    if not low <= number <= high:
        raise InvalidOption(f"{name} must be a number between {low:g} and {high:g}", option=name)
    return number


def _meta(text: str) -> dict[str, Any]:
    try:
        meta = json.loads(text, parse_constant=_no_number, parse_float=_finite)
        # Half a character is no text: no answer could give it back.
        json.dumps(meta, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        meta = None
    if not isinstance(meta, dict) or len(text.encode()) > _MAX_META_BYTES or not _is_flat(meta, _MAX_META_DEPTH):
        raise InvalidOption(
            f"meta must be a JSON object of at most {_MAX_META_BYTES} bytes and {_MAX_META_DEPTH} levels, with finite "
            "numbers",
            option="meta",
        )
    return meta


def _no_number(text: str) -> float:
    # Python reads NaN and Infinity, which no JSON has and nobody could give back.
    raise ValueError(text)


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(text)
    return number


def _is_flat(value: object, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_is_flat(entry, levels - 1) for entry in inner if isinstance(entry, dict | list))


def _key(text: str | None) -> str | None:
    if text is None:
        return None
    if not text.strip() or len(text) > _MAX_KEY_LETTERS:
        raise InvalidRequest(f"Idempotency-Key must have 1 to {_MAX_KEY_LETTERS} characters")
    return text
