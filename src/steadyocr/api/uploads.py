"""One reader for the three ways a picture comes in: multipart, raw body, JSON with base64."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from steadyocr.errors import EmptyInput, InvalidRequest

_MAX_FIELDS = 32


@dataclass(frozen=True, slots=True)
class Upload:
    """An encoded picture and the raw options that came with it, body over query."""

    data: bytes
    options: dict[str, Any]


async def read_upload(request: Request) -> Upload:
    """Read the picture and the options of a request.

    Raises:
        EmptyInput: There is no picture.
        InvalidRequest: The body is not what its content type says.
        PayloadTooLarge: Raised by the gate while the body is read.
    """
    query = dict(request.query_params)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        data, fields = await _read_form(request)
    elif kind == "application/json":
        data, fields = await _read_json(request)
    else:
        data, fields = await request.body(), {}
    if not data:
        raise EmptyInput(
            "no picture in the request: send it as multipart field 'file', as the raw body, or as base64 in JSON "
            "field 'image'"
        )
    return Upload(data, {**query, **fields})


async def _read_form(request: Request) -> tuple[bytes, Mapping[str, Any]]:
    try:
        form = await request.form(max_files=1, max_fields=_MAX_FIELDS)
    except HTTPException as error:
        raise InvalidRequest(f"the form cannot be read: {error.detail}") from error
    try:
        data = b""
        fields: dict[str, Any] = {}
        for name, value in form.multi_items():
            if not isinstance(value, UploadFile):
                fields[name] = value
            elif name != "file":
                raise InvalidRequest("the picture must be in the form field named 'file'")
            else:
                data = await value.read()
        return data, fields
    finally:
        await form.close()


async def _read_json(request: Request) -> tuple[bytes, Mapping[str, Any]]:
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("the body is not valid JSON") from error
    if not isinstance(body, dict):
        raise InvalidRequest("the JSON body must be an object with the field 'image'")
    text = body.pop("image", "")
    if not isinstance(text, str):
        raise InvalidRequest("the field 'image' must be a base64 text")
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        # Line breaks are usual in base64; anything else that does not belong there is a fault of the client's.
        return base64.b64decode("".join(text.split()), validate=True), body
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest("the field 'image' is not valid base64") from error
