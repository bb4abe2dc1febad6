"""File names in forms, as HTTP libraries send them."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

# A quoted value may hold what looks like a parameter; one without an end goes on to the last letter.
_PARAMETER: Final = re.compile(rb';[ \t]*([^=;" \t]+)[ \t]*=[ \t]*("(?:[^"\\]|\\.?)*+(?:"|\Z)|[^;]*)', re.DOTALL)
_ENCODED_WORD: Final = re.compile(rb'"?=\?')
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


def with_plain_name(disposition: bytes) -> bytes:
    """Return a part's ``Content-Disposition`` with its file name given plainly.

    Forms have names plainly, in UTF-8 (RFC 7578, section 4.2). Some libraries send what is beyond ASCII in the extended
    notation of RFC 8187 instead (``filename*``), and .NET's beside an encoded word of RFC 2047, which is no name.
    Without a plain name a picture would be taken for a long text.
    """
    parameters = {name.lower(): value for name, value in _PARAMETER.findall(disposition)}
    charset, quote, rest = parameters.get(b"filename*", b"").strip(b'" \t').partition(b"'")
    plain = parameters.get(b"filename")
    if not quote or (plain is not None and not _ENCODED_WORD.match(plain)):
        return disposition
    value = unquote_to_bytes(rest.partition(b"'")[2])
    name = _CONTROL.sub("_", _decoded(value, charset.decode("latin-1")))
    quoted = name.replace("\\", "\\\\").replace('"', '\\"').encode()
    # The last one of a name counts.
    return disposition + b'; filename="' + quoted + b'"'


def as_chosen(name: str) -> str:
    """Return a file's name as it was before a browser put it into a form.

    There a quotation mark and the ends of lines are written with percent signs, and nothing else is, a percent sign
    neither (HTML standard, "multipart form data"); what only looks like it is taken for it too.
    """
    return name.replace("%22", '"').replace("%0D%0A", "_").replace("%0D", "_").replace("%0A", "_")


def _decoded(value: bytes, charset: str) -> str:
    try:
        return value.decode(charset or "utf-8")
    except (LookupError, UnicodeError):
        return value.decode("utf-8", "replace")
