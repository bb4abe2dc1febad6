from __future__ import annotations

import math
from typing import Any

import pytest

from steadyocr.errors import InvalidOption
from steadyocr.options import OPTION_SPECS, OptionSpec, parse_options

NUMBERS = [spec for spec in OPTION_SPECS if spec.type in ("number", "integer")]


def bounds(spec: OptionSpec) -> tuple[float, float]:
    assert spec.minimum is not None
    assert spec.maximum is not None
    return spec.minimum, spec.maximum


def test_what_is_not_asked_for_is_left_to_the_model() -> None:
    options = parse_options({})
    assert [getattr(options, spec.name) for spec in NUMBERS] == [None] * len(NUMBERS)
    assert options.recognise
    assert not options.overlay


def test_the_route_decides_on_recognition_when_the_request_does_not() -> None:
    assert not parse_options({}, recognise=False).recognise
    assert parse_options({"recognise": "true"}, recognise=False).recognise


@pytest.mark.parametrize("spec", NUMBERS, ids=lambda spec: spec.name)
def test_both_ends_of_the_range_are_in_it(spec: OptionSpec) -> None:
    for bound in bounds(spec):
        value = int(bound) if spec.type == "integer" else bound
        assert getattr(parse_options({spec.name: str(value)}), spec.name) == value
        assert getattr(parse_options({spec.name: value}), spec.name) == value


@pytest.mark.parametrize("spec", NUMBERS, ids=lambda spec: spec.name)
def test_beyond_the_range_is_refused_by_name(spec: OptionSpec) -> None:
    low, high = bounds(spec)
    for value in (low - 1, high + 1):
        text = str(int(value)) if spec.type == "integer" else str(value)
        with pytest.raises(InvalidOption, match=f"{spec.name} must lie between {low:g} and {high:g}") as raised:
            parse_options({spec.name: text})
        assert raised.value.details == {"option": spec.name}


@pytest.mark.parametrize("spec", NUMBERS, ids=lambda spec: spec.name)
@pytest.mark.parametrize(
    "value",
    ["nan", "inf", "-inf", "1e999", "", " ", "zero", "0x10", "9" * 5000, None, True, False, [], {"a": 1}, math.nan],
    ids=lambda value: repr(value)[:12],
)
def test_what_is_no_number_in_range_is_refused(spec: OptionSpec, value: Any) -> None:
    with pytest.raises(InvalidOption, match=spec.name):
        parse_options({spec.name: value})


def test_an_integer_has_no_fraction() -> None:
    assert parse_options({"max_side": 640.0}).max_side == 640, "to JSON it is one"
    with pytest.raises(InvalidOption, match="max_side must be of type integer"):
        parse_options({"max_side": "640.5"})


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        *((text, True) for text in ("true", "True", "TRUE", "1", "yes", "on", " true ", True, 1)),
        *((text, False) for text in ("false", "False", "FALSE", "0", "no", "off", " false ", False, 0)),
    ],
)
def test_booleans_are_read_as_people_write_them(value: Any, meant: bool) -> None:
    assert parse_options({"recognise": value}, recognise=not meant).recognise is meant


@pytest.mark.parametrize("value", ["", "2", "maybe", "tru", None, [], "null"])
def test_other_spellings_of_a_boolean_are_refused(value: Any) -> None:
    with pytest.raises(InvalidOption, match="recognise must be true or false"):
        parse_options({"recognise": value})


@pytest.mark.parametrize("name", ["binthreshold", "BIN_THRESHOLD", "overlay", "", "x" * 10_000])
def test_an_unknown_option_is_refused_and_those_known_are_listed(name: str) -> None:
    with pytest.raises(InvalidOption, match="unknown option") as raised:
        parse_options({name: "1"})
    assert all(spec.name in raised.value.message for spec in OPTION_SPECS)
    assert len(raised.value.message) < 300


def test_a_choice_is_one_of_its_words() -> None:
    assert parse_options({}).quality == "shrink"
    assert parse_options({"quality": "tile"}).quality == "tile"
    for value in ("Tile", "", None, 1):
        with pytest.raises(InvalidOption, match="quality must be one of shrink, tile"):
            parse_options({"quality": value})
