"""Small JSON bodies: read within a bound and refused with a reason."""

from __future__ import annotations

import json
from typing import Any, Final

from fastapi import Request

from steadyocr.errors import InvalidRequest

_MAX_BYTES: Final = 64 << 10


async def read_json_object(request: Request) -> dict[str, Any]:
    """Read a request's body as a JSON object; an empty body is an empty object.

    Raises:
        InvalidRequest: It is something else, or far too long.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BYTES:
            raise InvalidRequest(f"this body may have at most {_MAX_BYTES} bytes")
    if not body:
        return {}
    try:
        values = json.loads(bytes(body))
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("the body is not valid JSON") from error
    if not isinstance(values, dict):
        raise InvalidRequest("the JSON body must be an object")
    return values
