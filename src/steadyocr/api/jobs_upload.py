"""How a job comes in: a form of any size taken apart while it arrives, or one archive as the body."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from steadyocr.api.file_names import as_chosen, with_plain_name
from steadyocr.errors import Cancelled, InvalidRequest
from steadyocr.service.intake import Intake

FILES_FIELD: Final = "files"
_ZIP_TYPES: Final = ("application/zip", "application/x-zip-compressed")
_MAX_FIELDS: Final = 32
_MAX_FIELD_BYTES: Final = 16 << 10
# What all fields of a form together may have.
FIELDS_BYTES: Final = _MAX_FIELDS * _MAX_FIELD_BYTES

_Step = Literal["begin", "data", "end"]


async def take_files(request: Request, intake: Intake) -> dict[str, Any]:
    """Take the files of a request in; returns its fields, body over query.

    Raises:
        InvalidRequest: The body is not what its content type says, or has fields that nobody asked for.
        Cancelled: The client went away.
        SteadyOCRError: See :meth:`Intake.write`.
    """
    query = dict(request.query_params)
    kind, parameters = parse_options_header(request.headers.get("content-type", ""))
    try:
        if kind == b"multipart/form-data":
            fields = await _take_form(request, parameters.get(b"boundary", b""), intake)
        elif kind.decode("latin-1") in _ZIP_TYPES:
            await _take_archive(request, intake)
            fields = {}
        else:
            raise InvalidRequest(
                f"send the pictures as multipart fields named '{FILES_FIELD}', or one zip as the body with the "
                "content type application/zip"
            )
    except ClientDisconnect as error:
        raise Cancelled("the client went away") from error
    return {**query, **fields}


async def _take_archive(request: Request, intake: Intake) -> None:
    await intake.begin("archive.zip", archive=True)
    async for chunk in request.stream():
        await intake.write(chunk)
    await intake.end()


async def _take_form(request: Request, boundary: bytes, intake: Intake) -> dict[str, str]:
    fields: dict[str, str] = {}
    part, others = _Part("", None), 0
    async for step, data in _steps(request, boundary):
        if step == "begin":
            part = _Part.of(data)
            if part.counts:
                await intake.begin(part.filename or "")
                continue
            # Repeated names and unused file fields too: each costs work, whatever it is worth.
            others += 1
            if others > _MAX_FIELDS:
                raise InvalidRequest(f"the form has more than {_MAX_FIELDS} fields")
        elif step == "data":
            await _take_data(part, data, intake)
        elif part.counts:
            await intake.end()
        elif part.filename is None:
            fields[part.name] = part.text()
    return fields


async def _take_data(part: _Part, data: bytes, intake: Intake) -> None:
    if part.counts:
        await intake.write(data)
        return
    part.value += data
    if len(part.value) > _MAX_FIELD_BYTES:
        raise InvalidRequest(f"a field of the form may have at most {_MAX_FIELD_BYTES} bytes")


@dataclass(slots=True)
class _Part:
    """A part of a form: a file when it has a file name, else a field."""

    name: str
    filename: str | None
    value: bytes = b""

    @classmethod
    def of(cls, disposition: bytes) -> _Part:
        kind, options = parse_options_header(with_plain_name(disposition))
        if kind != b"form-data" or b"name" not in options:
            raise InvalidRequest("a part of the form has no name")
        name = _text(options[b"name"])
        filename = as_chosen(_text(options[b"filename"])) if b"filename" in options else None
        if filename is not None and name != FILES_FIELD:
            raise InvalidRequest(f"files must be in the form fields named '{FILES_FIELD}'")
        return cls(name, filename)

    @property
    def counts(self) -> bool:
        """Whether it is a file. A browser sends an unused file field as one without a name."""
        return bool(self.filename)

    def text(self) -> str:
        return _text(self.value)


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


class _Splitter:
    """Takes a form apart bit by bit. A part begins with its ``Content-Disposition``."""

    def __init__(self, boundary: bytes) -> None:
        self.steps: list[tuple[_Step, bytes]] = []
        self.complete = False
        self._header_name = b""
        self._header_value = b""
        self._disposition = b""
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._add_to_name,
                "on_header_value": self._add_to_value,
                "on_header_end": self._end_header,
                "on_headers_finished": lambda: self.steps.append(("begin", self._disposition)),
                "on_part_data": lambda data, start, end: self.steps.append(("data", data[start:end])),
                "on_part_end": lambda: self.steps.append(("end", b"")),
                "on_end": self._note_end,
            },
        )

    def feed(self, chunk: bytes) -> list[tuple[_Step, bytes]]:
        """Return what a further bit of the body brings."""
        self.steps.clear()
        self._parser.write(chunk)
        return self.steps

    def _begin(self) -> None:
        self._disposition = b""

    def _add_to_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _add_to_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name = self._header_value = b""

    def _note_end(self) -> None:
        self.complete = True


async def _steps(request: Request, boundary: bytes) -> AsyncIterator[tuple[_Step, bytes]]:
    if not boundary:
        raise InvalidRequest("the form has no boundary in its content type")
    try:
        splitter = _Splitter(boundary)
        async for chunk in request.stream():
            for step in splitter.feed(chunk):
                yield step
    except FormParserError as error:
        raise InvalidRequest("the form cannot be read; it is damaged") from error
    if not splitter.complete:
        raise InvalidRequest("the form is cut off")
