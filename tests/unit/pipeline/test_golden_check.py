"""Whose truth the golden picture is held against: ours for our models, a user's model's own for that."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from steadyocr.pipeline import golden
from steadyocr.pipeline.golden import GoldenCheck

TRUTH = [(line["quad"], line["text"]) for line in json.loads((golden._FOLDER / "golden.json").read_text())]
OTHER = [([[10, 10], [90, 10], [90, 30], [10, 30]], "other"), *TRUTH[1:]]
BLANK = [(quad, "") for quad, _ in TRUTH]
MOVED = [([[x + 200, y + 200] for x, y in quad], text) for quad, text in OTHER]


@dataclass
class Reader:
    """Reads what it is told to."""

    lines: list[tuple[Any, str]]
    asked: list[bytes] = field(default_factory=list)

    def read(self, data: bytes, options: object) -> Any:
        self.asked.append(data)
        lines = [SimpleNamespace(quad=quad, text=text) for quad, text in self.lines]
        return SimpleNamespace(page=SimpleNamespace(lines=lines))


def check(reader: Reader, *, strict: bool) -> GoldenCheck:
    return GoldenCheck(reader, strict=strict)  # type: ignore[arg-type]


@pytest.mark.parametrize("strict", [True, False])
def test_who_reads_it_right_is_held_to_that(strict: bool) -> None:
    reader = Reader(TRUTH)
    checked = check(reader, strict=strict)
    first = checked.run()
    assert (first.ok, first.problem, first.yardstick) == (True, "", "known")
    reader.lines = OTHER
    later = checked.run()
    assert (later.ok, later.yardstick) == (False, "known")


def test_a_built_in_model_must_read_what_is_there() -> None:
    assert not check(Reader(OTHER), strict=True).run().ok


def test_a_users_model_is_held_to_its_own_first_reading() -> None:
    reader = Reader(OTHER)
    checked = check(reader, strict=False)
    assert (checked.run().ok, checked.run().yardstick) == (True, "self")
    for damaged in (MOVED, BLANK, [], TRUTH):
        reader.lines = damaged
        assert not checked.run().ok
    reader.lines = OTHER
    assert checked.run().ok


@pytest.mark.parametrize("lines", [[], BLANK], ids=["no line", "no text"])
def test_a_model_that_reads_nothing_at_all_is_refused(lines: list[tuple[Any, str]]) -> None:
    checked = check(Reader(lines), strict=False)
    result = checked.run()
    assert not result.ok
    assert "nothing at all" in result.problem
    assert not checked.run().ok
