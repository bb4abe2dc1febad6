from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from steadyocr.page_formats import FILE_SUFFIXES, MEDIA_TYPES, PAGE_FORMATS, render_page

QUAD = [[1.5, 2.0], [30.0, 2.0], [30.0, 12.25], [1.5, 12.25]]
MARKUP = st.text(alphabet=st.sampled_from(list("ab 图1.)(-+=*_`~#|>![]<&;:\\/'\"")), min_size=1, max_size=12)


def page_of(*texts: str) -> dict[str, Any]:
    lines = [
        {"id": index, "quad": QUAD, "score": 0.9, "text": text, "text_score": 0.8} for index, text in enumerate(texts)
    ]
    return {"lines": lines, "text": "\n".join(text for text in texts if text)}


def csv_rows(page: dict[str, Any]) -> list[list[str]]:
    return list(csv.reader(io.StringIO(render_page(page, "csv"))))


def as_read_in_markdown(rendered: str) -> list[str]:
    """The texts a reader sees, one for each line; fails where anything but plain lines comes out."""
    shown: list[str] = []
    for block in MarkdownIt("commonmark", {"breaks": False}).enable(["table", "strikethrough"]).parse(rendered):
        assert block.type in ("paragraph_open", "inline", "paragraph_close"), f"{block.type} in {rendered!r}"
        if block.type == "inline":
            shown.append("")
            for token in block.children or []:
                assert token.type in ("text", "hardbreak", "text_special"), f"{token.type} in {rendered!r}"
                if token.type == "hardbreak":
                    shown.append("")
                else:
                    shown[-1] += token.content
    return shown


def test_every_format_has_a_media_type_and_a_suffix() -> None:
    assert set(MEDIA_TYPES) == set(FILE_SUFFIXES) == set(PAGE_FORMATS)


def test_text_is_the_lines_in_order() -> None:
    assert render_page(page_of("第一行", "", "second"), "text") == "第一行\nsecond\n"


def test_a_page_without_text_is_an_empty_text() -> None:
    assert render_page(page_of(), "text") == ""
    assert render_page(page_of(), "markdown") == ""


def test_csv_has_a_row_for_each_line_with_its_corners() -> None:
    header, first, second = csv_rows(page_of('say "hi", twice', "图\u2028书"))
    assert header == ["id", "x1", "y1", "x2", "y2", "x3", "y3", "x4", "y4", "score", "text", "text_score"]
    assert first == ["0", "1.5", "2.0", "30.0", "2.0", "30.0", "12.25", "1.5", "12.25", "0.9", 'say "hi", twice', "0.8"]
    assert second[10] == "图\u2028书"


def test_csv_of_lines_that_were_not_read_leaves_the_text_empty() -> None:
    page = page_of("")
    page["lines"][0]["text_score"] = None
    assert csv_rows(page)[1][10:] == ["", ""]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "\nx", "＝1+1", "＋1", "－1", "＠x"])
def test_a_spreadsheet_runs_no_text_as_a_formula(text: str) -> None:
    assert csv_rows(page_of(text))[1][10] == f"'{text}"


@pytest.mark.parametrize("text", ["1-1", "a=b", "合计=3", "(+1)"])
def test_a_harmless_text_is_left_alone_in_csv(text: str) -> None:
    assert csv_rows(page_of(text))[1][10] == text


@given(st.lists(MARKUP, min_size=1, max_size=4))
@example(["title", "==="])
@example(["title", "---"])
@example(["***"])
@example(["1. one", "2) two", "- three", "+ four"])
@example(["# head", "> quote", "`code`", "a|b", "-|-"])
@example(["<b>bold</b>", "&lt;", "[x](y)", "![x](y)", "<https://x.y>"])
@example(["ends with \\"])
@example(["    four spaces"])
def test_markdown_shows_the_texts_as_they_are(texts: list[str]) -> None:
    wanted = [text.strip() for text in texts if text.strip()]
    assert as_read_in_markdown(render_page(page_of(*texts), "markdown")) == wanted
