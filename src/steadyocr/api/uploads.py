"""One reader for the three ways a picture comes in: multipart, raw body, JSON with base64."""

from __future__ import annotations

import base64
import binascii
import json
import string
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from steadyocr.api.file_names import with_plain_name
from steadyocr.api.incoming_body import media_type
from steadyocr.errors import Cancelled, EmptyInput, InvalidRequest

_MAX_FIELDS = 32
# What a JSON body may hold beside the picture. Parsed, this much is a megabyte or two at worst.
_BESIDE_BYTES: Final = 64 << 10
_BLANKS: Final = string.whitespace.encode()


class _MemoryParser(MultiPartParser):
    """Never puts a picture on the disk: it is read into memory anyway, and a full disk is no reason to refuse it."""

    spool_max_size = sys.maxsize

    def on_headers_finished(self) -> None:
        self._current_part.content_disposition = with_plain_name(self._current_part.content_disposition or b"")
        super().on_headers_finished()


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
        Cancelled: The client went away.
        SteadyOCRError: Raised by the gate while the body is read: too large, too slow, no room.
    """
    query = dict(request.query_params)
    kind = media_type(request.headers)
    try:
        if kind == "multipart/form-data":
            data, fields = await _read_form(request)
        elif kind == "application/json":
            data, fields = _from_json(await _read_whole(request))
        else:
            data, fields = bytes(await _read_whole(request)), {}
    except ClientDisconnect as error:
        raise Cancelled("the client went away") from error
    if not data:
        raise EmptyInput(
            "no picture in the request: send it as multipart field 'file', as the raw body, or as base64 in JSON "
            "field 'image'"
        )
    return Upload(data, {**query, **fields})


async def _read_whole(request: Request) -> bytearray:
    """Read the body. The request's own method would keep it for as long as the request lives, a second time."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
    return body


async def _read_form(request: Request) -> tuple[bytes, Mapping[str, Any]]:
    try:
        form = await _MemoryParser(request.headers, request.stream(), max_files=1, max_fields=_MAX_FIELDS).parse()
    except MultiPartException as error:
        raise InvalidRequest(f"the form cannot be read: {error.message}") from error
    except UnicodeError as error:
        raise InvalidRequest("the form cannot be read: its charset does not hold for its fields") from error
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


def _from_json(raw: bytearray) -> tuple[bytes, Mapping[str, Any]]:
    _refuse_crowded(raw)
    # Text and picture are several times the body for a moment. Nothing is awaited here, so of one body at a time.
    try:
        body = json.loads(raw)
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
        # Line breaks are usual in base64; anything else that does not belong there is a fault of the client's. Not by
        # split(): a blank after every other letter would make it a list of twenty times the body.
        return base64.b64decode(text.encode("ascii").translate(None, _BLANKS), validate=True), body
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest("the field 'image' is not valid base64") from error


def _refuse_crowded(raw: bytearray) -> None:
    """Refuse a large body that is more than one long text, before it is parsed: many small values take far more room.

    Raises:
        InvalidRequest: There is more beside the longest text than options need, or that is no picture's text.
    """
    if len(raw) <= _BESIDE_BYTES:
        return
    start, end = _longest_text(raw)
    beside = len(raw) - (end - start)
    # A data URL has one comma.
    values = raw.find(b"{", start, end) >= 0 or raw.find(b"[", start, end) >= 0
    values = values or raw.find(b",", raw.find(b",", start, end) + 1 or end, end) >= 0
    if beside > _BESIDE_BYTES or values or not raw[start:end].isascii():
        raise InvalidRequest(
            "a JSON body holds one picture as base64 text in the field 'image', and little beside it; this one is "
            "something else"
        )


def _longest_text(raw: bytearray) -> tuple[int, int]:
    """Return where the longest part without a quotation mark lies; stops early once too much is beside it."""
    start = end = at = 0
    while at <= len(raw) and at - (end - start) <= _BESIDE_BYTES:
        mark = raw.find(b'"', at)
        until = len(raw) if mark < 0 else mark
        if until - at > end - start:
            start, end = at, until
        at = until + 1
    return start, end
