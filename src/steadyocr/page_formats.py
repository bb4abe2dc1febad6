"""A page as text, Markdown or CSV. Works on the plain values that clients see, so every entrance shares it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, get_args

TextFormat = Literal["text", "markdown", "csv"]
PageFormat = Literal["json", "text", "markdown", "csv", "overlay.png"]
PAGE_FORMATS: Final[tuple[PageFormat, ...]] = get_args(PageFormat)

MEDIA_TYPES: Final[Mapping[str, str]] = {
    "json": "application/json",
    "text": "text/plain; charset=utf-8",
    "markdown": "text/markdown; charset=utf-8",
    "csv": "text/csv; charset=utf-8",
    "overlay.png": "image/png",
}
FILE_SUFFIXES: Final[Mapping[str, str]] = {
    "json": ".json",
    "text": ".txt",
    "markdown": ".md",
    "csv": ".csv",
    "overlay.png": ".overlay.png",
}

_MARKDOWN_SPECIAL = re.compile(r"[\\`*_{}\[\]<>#|~&]")
# What begins a list, underlines a heading or rules the page off; the backslash goes behind the match.
_MARKDOWN_START = re.compile(r"^(\d+(?=[.)](?:\s|$))|(?=[-+](?:\s|$)|(?:-+|=+)$))")
# Full-width signs count too: spreadsheets set to Chinese or Japanese take them for the plain ones.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_CORNERS: Final = ("x1", "y1", "x2", "y2", "x3", "y3", "x4", "y4")
CSV_COLUMNS: Final = ("id", *_CORNERS, "score", "text", "text_score")


def render_page(page: Mapping[str, Any], kind: TextFormat) -> str:
    """Render a page; ``page`` is the JSON answer, or its plain values."""
    match kind:
        case "text":
            return f"{page['text']}\n" if page["text"] else ""
        case "markdown":
            # Two spaces end a line in Markdown; without them lines would run together.
            return "".join(f"{_escape(line['text'])}  \n" for line in page["lines"] if line["text"])
        case "csv":
            return _csv(page)


def _escape(text: str) -> str:
    return _MARKDOWN_START.sub(r"\1\\", _MARKDOWN_SPECIAL.sub(r"\\\g<0>", text.strip()))


def _csv(page: Mapping[str, Any]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow(CSV_COLUMNS)
    writer.writerows(csv_rows(page))
    return stream.getvalue()


def csv_rows(page: Mapping[str, Any]) -> Iterator[list[Any]]:
    """Return a page's lines as rows under :data:`CSV_COLUMNS`."""
    for line in page["lines"]:
        corners = [value for point in line["quad"] for value in point]
        yield [line["id"], *corners, line["score"], harmless(line["text"]), line["text_score"]]


def harmless(text: str) -> str:
    """Keep a spreadsheet from running a text as a formula."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text
