"""Names of items: a client finds its files by them, and no database, terminal or page is upset by one."""

from __future__ import annotations

import pytest

from steadyocr.jobs.submit import label


@pytest.mark.parametrize(
    "name",
    [
        "Screenshot 2026-11-27 at 3.12.45\u202fPM.png",
        "发票\u30001.jpg",
        "family \U0001f468\u200d\U0001f469\u200d\U0001f467.png",
        "naïve\u00a0café.png",
        "عربي.png",
    ],
)
def test_blanks_and_joiners_of_all_kinds_stay(name: str) -> None:
    assert label(name) == name


@pytest.mark.parametrize("letter", ["\0", "\n", "\x1b", "\x7f", "\ud800", "\u2028", "\u2029", "\u202e", "\u2066"])
def test_what_commands_is_replaced(letter: str) -> None:
    assert label(f"a{letter}b.png") == "a\N{REPLACEMENT CHARACTER}b.png"


def test_a_name_is_short() -> None:
    assert label("x" * 1000 + ".png") == "x" * 251 + ".png"
